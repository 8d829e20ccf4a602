"""The int8 convolutions of Helium run their real instructions in QEMU and give the bits of `native`."""

import math
from pathlib import Path

import numpy as np
import pytest
from emulation import random_window, same_bits, samples
from tflite_layers import Random

from boards import load_board
from firmware_gen.emit.model import model_c
from firmware_gen.graph import Constant, Graph, Quantization, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d, quantized_fully_connected
from firmware_gen.operators.quantize import Rounding, quantize
from firmware_gen.plan import make_plan
from firmware_gen.window import LINEAR, Activation, Pair, Window

BOARD = "mps3_an547"
LAYERS = 24
ACTIVATIONS = (LINEAR, Activation("relu"), Activation("clip", -0.5, 0.75))
LEAKY = Activation("leaky_relu", 0.125)


def test_random_convolutions(tmp_path: Path) -> None:
    random = np.random.default_rng(30)
    network = Builder("convolutions")
    for k in range(LAYERS):
        taken, given = random.choice([1, 2, 3, 4, 5, 7, 8, 16, 17, 32, 33], 2).tolist()
        window, height, width = random_window(random, largest=1 if k % 4 == 0 else 4)
        activation = LEAKY if k % 8 == 7 else ACTIVATIONS[k % 3]
        x = Tensor(f"x{k}", (height, width, taken), "i8", Quantization(0.05, int(random.integers(-128, 128))))
        network.add_input(x, 4)
        _add(network, f"y{k}", ConvAttrs(window, activation=activation), x.name, given, random)
        network.add_output(f"y{k}")
    code = model_c(make_plan(network.graph(), load_board(BOARD)))
    assert "}, 1,\n" in code, "no layer is rounded in vectors"
    _same_bits(network.graph(), random, tmp_path)


def test_random_grouped_convolutions(tmp_path: Path) -> None:
    random = np.random.default_rng(38)
    network = Builder("grouped")
    for k in range(16):
        groups, taken, given = (
            int(random.choice(sizes)) for sizes in ((2, 3, 5), (4, 5, 16, 17), (4, 6, 8, 9))
        )
        window, height, width = random_window(random, largest=1 if k % 4 == 0 else 3)
        activation = LEAKY if k % 8 == 7 else ACTIVATIONS[k % 3]
        unit = Quantization(0.05, int(random.integers(-128, 128)))
        network.add_input(Tensor(f"x{k}", (height, width, groups * taken), "i8", unit), 4)
        _add(
            network,
            f"y{k}",
            ConvAttrs(window, groups, activation=activation),
            f"x{k}",
            groups * given,
            random,
        )
        network.add_output(f"y{k}")
    assert model_c(make_plan(network.graph(), load_board(BOARD))).count("ft_mve_conv2d_i8(") == 16
    _same_bits(network.graph(), random, tmp_path)


def test_random_transposed_convolutions(tmp_path: Path) -> None:
    random = np.random.default_rng(39)
    network = Builder("transposed")
    for k in range(16):
        stride = ((1, 1), (2, 2), (2, 2), (3, 1), (1, 4), (2, 1))[k % 6]
        kernel = tuple(int(random.integers(least, least + 4)) for least in stride)
        pad, pad_end, extra = (
            tuple(int(random.integers(0, most)) for most in sizes) for sizes in (kernel, kernel, stride)
        )
        window = Window(kernel, stride, pad, pad_end)
        size = [1, 1]
        while min(window.transposed_output(size[0], size[1], extra)) < 1:
            size = [size[0] + 1, size[1] + 1]
        height, width = (int(random.integers(least, least + 5)) for least in size)
        taken, given = (int(random.choice(sizes)) for sizes in ((1, 4, 16, 17, 32), (1, 3, 4, 8, 9)))
        activation = LEAKY if k % 8 == 7 else ACTIVATIONS[k % 3]
        unit = Quantization(0.05, int(random.integers(-128, 128)))
        network.add_input(Tensor(f"x{k}", (height, width, taken), "i8", unit), 4)
        conv = ConvAttrs(window, transposed=True, activation=activation)
        _add(network, f"y{k}", conv, f"x{k}", given, random, extra=extra)
        network.add_output(f"y{k}")
    assert "ft_conv2d_transpose_i8(" not in model_c(make_plan(network.graph(), load_board(BOARD)))
    _same_bits(network.graph(), random, tmp_path)


def test_random_depthwise_convolutions(tmp_path: Path) -> None:
    random = np.random.default_rng(31)
    network = Builder("depthwise")
    for k in range(LAYERS):
        channels = int(random.choice([2, 3, 8, 15, 16, 17, 31, 32, 40, 48]))
        window, height, width = random_window(random, largest=5 if k % 4 == 0 else 3)
        activation = LEAKY if k % 8 == 7 else ACTIVATIONS[k % 3]
        x = Tensor(
            f"x{k}", (height, width, channels), "i8", Quantization(0.05, int(random.integers(-128, 128)))
        )
        network.add_input(x, 4)
        conv = ConvAttrs(window, channels, activation=activation)
        _add(network, f"y{k}", conv, x.name, channels, random, largest=int(random.choice([8, 30, 60, 127])))
        network.add_output(f"y{k}")
    code = model_c(make_plan(network.graph(), load_board(BOARD)))
    assert code.count("ft_mve_depthwise_i8(") > LAYERS // 2
    _same_bits(network.graph(), random, tmp_path)


def test_random_fully_connected_layers(tmp_path: Path) -> None:
    random = np.random.default_rng(32)
    network = Builder("fully_connected")
    for k, (taken, given) in enumerate(random.integers(1, 70, (12, 2)).tolist()):
        x = Tensor(f"x{k}", (1, 1, taken), "i8", Quantization(0.05, int(random.integers(-128, 128))))
        network.add_input(x, 2)
        weight, bias = _weight(f"y{k}", (1, 1, taken, given), random), _bias(given, random)
        y = Quantization(0.05, int(random.integers(-128, 128)))
        assert x.quantization is not None
        lowered = quantized_fully_connected(f"y{k}", ACTIVATIONS[k % 3], x.quantization, weight, bias, y)
        network.put(lowered, f"y{k}", [x.name], Tensor(f"y{k}", (1, 1, given), "i8", y))
        network.add_output(f"y{k}")
    _same_bits(network.graph(), random, tmp_path)


@pytest.mark.parametrize("depthwise", [False, True])
def test_maps_that_are_slices_of_wider_ones(depthwise: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(33)
    network, unit = Builder("slices"), Quantization(0.05, 3)
    network.add_input(Tensor("x", (7, 9, 16), "i8", unit), 4)
    window = Window((3, 3), pad=(1, 1), pad_end=(1, 1))
    for name in ("a", "b"):
        _add(network, name, ConvAttrs(window, 16 if depthwise else 1), "x", 16, random)
    network.put(Lowered("concat"), "ab", ["a", "b"], Tensor("ab", (7, 9, 32), "i8", unit))
    for name, x, kernel in (
        ("from_a", "a", window),
        ("from_b", "b", window),
        ("pointwise", "b", Window((1, 1))),
    ):
        _add(network, name, ConvAttrs(kernel, 16 if depthwise else 1), x, 16, random)
        network.add_output(name)
    network.add_output("ab")
    plan = make_plan(network.graph(), load_board(BOARD))
    assert plan.views["b"].pixel > 16, "the plan no longer places the slices in place: this tests nothing"
    _same_bits(network.graph(), random, tmp_path)


def test_products_that_fill_sixteen_bits(tmp_path: Path) -> None:
    """Taps are summed in 16 bits as far as weights allow: -128 times -128 leaves room for no second one."""
    random = np.random.default_rng(34)
    network, unit = Builder("products"), Quantization(1.0, -128)
    network.add_input(Tensor("x", (6, 5, 32), "i8", unit), 4)
    for name, weights in (
        ("lowest", [-128]),
        ("pairs", [-127, 127]),
        ("triples", [-85, 85]),
        ("few", [-28, 28]),
    ):
        values = random.choice(weights, (3, 3, 1, 32)).astype(np.int8)
        weight = Constant(f"{name}.w", values, scales=(2.0**-12,) * 32)
        conv = ConvAttrs(Window((3, 3), pad=(1, 1), pad_end=(1, 1)), 32)
        y = Quantization(1.0, -5)
        lowered = quantized_conv2d(name, conv, unit, weight, None, y)
        network.put(lowered, name, ["x"], Tensor(name, (6, 5, 32), "i8", y))
        network.add_output(name)
    code = model_c(make_plan(network.graph(), load_board(BOARD)))
    for group in (1, 2, 3, 9):
        assert f"(ft_window_t){{3, 3, 1, 1, 1, 1, 1, 1}}, {group},\n" in code
    _same_bits(network.graph(), random, tmp_path)


@pytest.mark.parametrize("layer", ["convolution", "depthwise", "fully_connected"])
def test_sums_up_to_the_limit_of_the_vectors_and_beyond(layer: str, tmp_path: Path) -> None:
    random = np.random.default_rng(35)
    network, unit, count = Builder("sums"), Quantization(1.0, 0), 240
    groups = count if layer == "depthwise" else 1
    network.add_input(Tensor("x", (2, 3, groups), "i8", unit), 4)
    limit = (1 << 30) - 128 * 128  # |x * w| stays below what is left
    for name, magnitude in (("within", limit), ("beyond", 1 << 30), ("wrapping", (1 << 31) - 1)):
        # Sums that fall on halves of units and beside them, from 2 to 23 bits to the right.
        shifts = np.arange(count) % 22 + 2
        large, small = random.integers(-magnitude, magnitude, count), random.integers(0, 31, count)
        bias = np.where(random.random(count) < 0.5, large, large >> small).astype(np.int32)
        bias[:2] = -magnitude, magnitude
        mantissas = np.where(random.random(count) < 0.5, 0.5, random.uniform(0.5, 1, count))
        values = random.integers(-127, 128, (1, 1, 1, count)).astype(np.int8)
        scales = tuple(float(m) * 2.0**-s for m, s in zip(mantissas, shifts.tolist(), strict=True))
        weight, y = Constant(f"{name}.w", values, scales=scales), Quantization(1.0, 5)
        if layer == "fully_connected":
            lowered = quantized_fully_connected(name, LINEAR, unit, weight, bias, y)
        else:
            lowered = quantized_conv2d(name, ConvAttrs(Window((1, 1)), groups), unit, weight, bias, y)
        network.put(lowered, name, ["x"], Tensor(name, (2, 3, count), "i8", y))
        network.add_output(name)
    _same_bits(network.graph(), random, tmp_path)


def test_products_beside_halves_are_rounded_once(tmp_path: Path) -> None:
    """The lowest bits of a factor decide, through every carry."""
    random = np.random.default_rng(37)
    network, unit, count = Builder("halves"), Quantization(1.0, 0), 200
    network.add_input(Tensor("x", (1, 1, 1), "i8", unit), 2)
    sums = [int(2 ** random.uniform(11, 30)) for _ in range(count)]
    factors = [
        _factor_beside_a_half(total, int(random.integers(0, 100)), k % 2) for k, total in enumerate(sums)
    ]
    bias = np.array(sums, np.int32) * random.choice([-1, 1], count).astype(np.int32)
    weight = Constant("w", np.zeros((1, 1, 1, count), np.int8), scales=tuple(factors))
    lowered = quantized_fully_connected("layer", LINEAR, unit, weight, bias, unit)
    network.put(lowered, "layer", ["x"], Tensor("y", (1, 1, count), "i8", unit))
    network.add_output("y")
    _same_bits(network.graph(), random, tmp_path)


def _factor_beside_a_half(total: int, whole: int, below: int) -> float:
    """Return the smallest double whose product with `total` reaches whole + 1/2, or the largest `below`."""
    exponent = 0
    while (2 * whole + 1 << exponent) // (2 * total) < 1 << 52:
        exponent += 1
    mantissa = -(-(2 * whole + 1 << exponent) // (2 * total)) - below
    return math.ldexp(mantissa, -exponent)


@pytest.mark.parametrize("depthwise", [False, True])
def test_factors_of_zero_and_above_one_half(depthwise: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(36)
    network, unit = Builder("factors"), Quantization(1.0, -20)
    network.add_input(Tensor("x", (3, 3, 17), "i8", unit), 4)
    for name, scales in (("small", (0.001, 1e-7, 1e-9, 1e-30)), ("large", (0.01, 0.4, 0.5, 0.7, 1.0, 3.0))):
        random_scales = tuple(random.choice(scales, 17).tolist())
        shape = (1, 1, 1 if depthwise else 17, 17)
        weight = Constant(
            f"{name}.w", random.integers(-127, 128, shape).astype(np.int8), scales=random_scales
        )
        conv = ConvAttrs(Window((1, 1)), 17 if depthwise else 1)
        lowered = quantized_conv2d(name, conv, unit, weight, None, unit)
        network.put(lowered, name, ["x"], Tensor(name, (3, 3, 17), "i8", unit))
        network.add_output(name)
    _same_bits(network.graph(), random, tmp_path)


@pytest.mark.parametrize("rounding", ["even", "away"])
def test_floats_are_quantized_whatever_they_are(rounding: Rounding, tmp_path: Path) -> None:
    """Halves, numbers beside them, what no grid holds, and what is no number."""
    halves = np.arange(-150, 150, dtype=np.float32) + np.float32(0.5)
    extremes = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, -0.0], np.float32)
    beside = [halves, np.nextafter(halves, np.float32(np.inf)), np.nextafter(halves, np.float32(-np.inf))]
    values = np.concatenate([*beside, extremes])
    network = Builder("floats")
    network.add_input(Tensor("x", (1, 1, values.size)), 4)
    grid = Quantization(0.25, -3)
    network.put(quantize(rounding), "y", ["x"], Tensor("y", (1, 1, values.size), "i8", grid))
    network.add_output("y")
    sample = {"x": values[None, None] * np.float32(grid.scale)}
    same_bits(network.graph(), (BOARD,), [sample], tmp_path)


def _add(
    network: Builder,
    y: str,
    conv: ConvAttrs,
    x: str,
    given: int,
    random: Random,
    largest: int = 127,
    extra: Pair = (0, 0),
) -> None:
    height, width, taken = network.shape(x)
    unit = network.tensor(x).quantization
    assert unit is not None
    weight = _weight(y, (*conv.window.kernel, taken // conv.groups, given), random, largest)
    lowered = quantized_conv2d(y, conv, unit, weight, _bias(given, random), unit)
    if conv.transposed:
        size = conv.window.transposed_output(height, width, extra)
    else:
        size = conv.window.output(height, width)
    shape = (*size, given)
    network.put(lowered, y, [x], Tensor(y, shape, "i8", unit))


def _weight(layer: str, shape: tuple[int, ...], random: Random, largest: int = 127) -> Constant:
    """Return weights whose scales spread the outputs over their range."""
    spread = 64 * np.sqrt(np.prod(shape[:3]))
    scales = tuple((random.uniform(0.5, 1, shape[3]) / spread).tolist())
    values = random.integers(-largest, largest + 1, shape).astype(np.int8)
    return Constant(f"{layer}.w", values, scales=scales)


def _bias(count: int, random: Random) -> np.ndarray:
    return random.integers(-10000, 10001, count).astype(np.int32)


def _same_bits(graph: Graph, random: Random, folder: Path) -> None:
    same_bits(graph, (BOARD,), samples(graph, random), folder)
