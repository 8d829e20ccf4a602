"""Int8 convolutions with Cortex-M's SIMD: real instructions in QEMU give the bits of `native`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from emulation import random_window, same_bits, samples
from numpy.typing import NDArray
from tflite_layers import Random

from boards import load_board
from firmware_gen.emit.model import model_c
from firmware_gen.graph import Constant, Graph, Quantization, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.base import Lowered, Prefer
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d, quantized_fully_connected
from firmware_gen.operators.rounding import fast_rounding, once_rounding
from firmware_gen.plan import make_plan
from firmware_gen.window import LINEAR, Activation, Window

SAMPLES, LAYERS = 3, 48
LEAKY = Activation("leaky_relu", 0.125)
ACTIVATIONS = (LINEAR, Activation("relu"), Activation("clip", -0.5, 0.75), LEAKY)
CHOICES: tuple[Prefer, ...] = ("flash", "speed")


@pytest.mark.parametrize(
    ("board", "prefer"),
    [
        ("mps2_an386", "flash"),
        ("mps2_an386", "speed"),
        pytest.param("mps2_an500", "speed", marks=pytest.mark.long),  # Cortex-M7
    ],
)
def test_random_layers(board: str, prefer: Prefer, tmp_path: Path) -> None:
    random = np.random.default_rng(20)
    network = Builder("random")
    for k in range(LAYERS):
        _add_random_layer(network, k, random)
    _same_bits(network.graph(), board, random, tmp_path, prefer)


def test_speed_stores_the_weights_twice_as_wide_and_the_hash_tells(tmp_path: Path) -> None:
    flash, speed = (make_plan(_layer((3, 3, 8, 10)), load_board("mps2_an386"), prefer=p) for p in CHOICES)
    assert speed.flash["constants"] - flash.flash["constants"] == 3 * 3 * 8 * 10
    assert "const int16_t p_" in model_c(speed)
    assert "int16_t" not in model_c(flash)
    assert flash.hash() != speed.hash()
    assert (flash.describe()["prefer"], speed.describe()["prefer"]) == CHOICES


@pytest.mark.parametrize(
    ("board", "shape"),
    [("native", (3, 3, 8, 10)), ("mps2_an386", (1, 1, 4, 10))],  # no such kernel; one word: mostly rounding
)
def test_where_speed_brings_nothing_code_and_hash_are_the_same(
    board: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    flash, speed = (make_plan(_layer(shape), load_board(board), prefer=p) for p in CHOICES)
    assert model_c(flash) == model_c(speed)
    assert flash.hash() == speed.hash()


def test_grouped_and_transposed_layers_are_taken_where_groups_are_wide(tmp_path: Path) -> None:
    random, unit = np.random.default_rng(24), Quantization(0.05, 3)
    network = Builder("kinds")
    network.add_input(Tensor("x", (6, 6, 8), "i8", unit), 4)
    window = Window((3, 3), (2, 2), pad=(1, 1), pad_end=(1, 1))
    _add(network, "grouped", ConvAttrs(window, groups=2), "x", 8, unit, random)
    _add(network, "narrow", ConvAttrs(window, groups=4), "x", 8, unit, random)
    _add(network, "transposed", ConvAttrs(window, transposed=True), "x", 8, unit, random)
    for name in ("grouped", "narrow", "transposed"):
        network.add_output(name)
    functions = model_c(make_plan(network.graph(), load_board("mps2_an386"))).split("FT_STEP ")[2:]
    calls = [text.count("ft_conv2d_i8_dsp(") for text in functions[:3]]
    assert calls == [1, 0, 4], "a transposed layer is one call a phase of its stride"


def test_maps_that_are_slices_of_wider_ones(tmp_path: Path) -> None:
    random = np.random.default_rng(21)
    network, unit = Builder("slices"), Quantization(0.05, 3)
    network.add_input(Tensor("x", (7, 9, 5), "i8", unit), 4)
    for name, channels in (("a", 3), ("b", 6)):
        conv = ConvAttrs(Window((3, 3), pad=(1, 1), pad_end=(1, 1)))
        _add(network, name, conv, "x", channels, unit, random)
    network.put(Lowered("concat"), "ab", ["a", "b"], Tensor("ab", (7, 9, 9), "i8", unit))
    for name, x in (("from_a", "a"), ("from_b", "b"), ("from_ab", "ab")):
        conv = ConvAttrs(Window((3, 2), (2, 1), pad=(1, 0), pad_end=(1, 1)))
        _add(network, name, conv, x, 5, unit, random)
        network.add_output(name)
    network.add_output("ab")
    plan = make_plan(network.graph(), load_board("mps2_an386"))
    assert plan.views["b"].pixel > 6, "the plan no longer places the slices in place: this tests nothing"
    _same_bits(network.graph(), "mps2_an386", random, tmp_path)


LIMIT = (1 << 30) - 128 * 128  # with one x * w on top, sums stay below 2^30


@pytest.mark.parametrize(
    ("once", "magnitude", "zero", "shifts", "fast"),
    [
        (False, LIMIT, 5, (1, 22), True),
        (False, LIMIT, -128, (1, 22), True),
        (False, LIMIT, -128, (24, 24), False),  # the zero point overflows when it is added before the shift
        (False, 1 << 30, 5, (1, 22), False),
        (False, (1 << 31) - 1, 5, (1, 22), False),  # sums wrap
        (False, LIMIT, 5, (0, 3), False),
        (True, LIMIT, -128, (2, 22), True),
        (True, (1 << 31) - 1, 5, (2, 22), True),  # sums may wrap: their products are of 64 bits
        (True, (1 << 31) - 1, -128, (25, 25), False),
        (True, LIMIT, 5, (1, 3), False),
    ],
)
def test_sums_up_to_the_limit_of_the_fast_rounding_and_beyond(
    once: bool, magnitude: int, zero: int, shifts: tuple[int, int], fast: bool, tmp_path: Path
) -> None:
    random = np.random.default_rng(22)
    count, unit, y = 240, Quantization(1.0, 0), Quantization(1.0, zero)
    shift = np.arange(count) % (shifts[1] - shifts[0] + 1) + shifts[0]
    mantissa = random.uniform(0.5, 1, count)
    weight = random.integers(-127, 128, (1, 1, 1, count)).astype(np.int8)
    bias = random.integers(-magnitude, magnitude + 1, count)
    bias[::3] >>= random.integers(0, 31, count)[::3]
    # Every other third: odd halves of units of y, and one beside them.
    weight[..., 1::3], mantissa[1::3] = 0, 0.5
    most = np.minimum(60, magnitude >> (shift + 1)) - 1
    halves = (2 * random.integers(-most, most) + 1) << shift
    bias[1::3] = (halves + random.integers(-1, 2, count))[1::3]
    bias[:2] = -magnitude, magnitude
    scales = tuple(np.ldexp(mantissa, -shift).tolist())
    constant = Constant("w", weight, scales=scales)
    if once:
        lowered = quantized_fully_connected("y", LINEAR, unit, constant, bias.astype(np.int32), y)
    else:
        conv = ConvAttrs(Window((1, 1)))
        lowered = quantized_conv2d("y", conv, unit, constant, bias.astype(np.int32), y)
    assert (_fast(lowered.constants, zero, once) is not None) == fast
    network, size = Builder("sums"), (1, 1) if once else (2, 3)
    network.add_input(Tensor("x", (*size, 1), "i8", unit), 4)
    network.put(lowered, "y", ["x"], Tensor("y", (*size, count), "i8", y))
    network.add_output("y")
    _same_bits(network.graph(), "mps2_an386", random, tmp_path)


@pytest.mark.parametrize("once", [False, True])
def test_channels_with_factors_near_zero_keep_the_fast_rounding(once: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(23)
    network, unit = Builder("dead"), Quantization(1.0, -20)
    size = (1, 1) if once else (3, 3)
    network.add_input(Tensor("x", (*size, 8), "i8", unit), 4)
    scales = (0.001, 1e-7, 1e-9, 1e-30, 0.002)
    weight = Constant("w", random.integers(-127, 128, (1, 1, 8, 5)).astype(np.int8), scales=scales)
    if once:
        lowered = quantized_fully_connected("layer", LINEAR, unit, weight, None, unit)
    else:
        lowered = quantized_conv2d("layer", ConvAttrs(Window((1, 1))), unit, weight, None, unit)
    assert _fast(lowered.constants, -20, once) is not None
    network.put(lowered, "layer", ["x"], Tensor("y", (*size, 5), "i8", unit))
    network.add_output("y")
    _same_bits(network.graph(), "mps2_an386", random, tmp_path)


def _add_random_layer(network: Builder, k: int, random: Random) -> None:
    """Add a layer with an input and an output of its own."""
    x, y = f"x{k}", f"y{k}"
    taken, given = random.choice([1, 2, 3, 4, 5, 7, 8, 16, 17, 33], 2).tolist()
    unit = Quantization(0.05, int(random.integers(-128, 128)))
    if k % 6 == 0:
        network.add_input(Tensor(x, (1, 1, 9 * taken), "i8", unit), 2)
        weight = _weight(y, (1, 1, 9 * taken, given), random)
        lowered = quantized_fully_connected(y, ACTIVATIONS[k // 6 % 3], unit, weight, None, unit)
        network.put(lowered, y, [x], Tensor(y, (1, 1, given), "i8", unit))
    else:
        window, height, width = random_window(random, largest=1 if k % 6 == 1 else 4)
        groups = random.integers(2, 4) if k % 6 == 2 else 1
        if groups > 1:
            taken, given = (groups * random.choice([4, 5, 7, 8, 11], 2)).tolist()
        if k % 6 == 3:
            window = _transposed(window, random)
        network.add_input(Tensor(x, (height, width, taken), "i8", unit), 4)
        conv = ConvAttrs(window, int(groups), k % 6 == 3, ACTIVATIONS[k // 2 % 4])
        _add(network, y, conv, x, given, unit, random)
    network.add_output(y)


def _transposed(window: Window, random: Random) -> Window:
    """Return a window that the kernel takes when transposed: no dilation, every phase of few has taps."""
    stride = [min(s, 2) for s in window.stride]
    kernel = [max(pair) for pair in zip(window.kernel, stride, strict=True)]
    pad = [int(random.integers(0, k)) for k in kernel]
    pad_end = [int(random.integers(0, k - p)) for k, p in zip(kernel, pad, strict=True)]
    return Window((kernel[0], kernel[1]), (stride[0], stride[1]), (pad[0], pad[1]), (pad_end[0], pad_end[1]))


def _add(
    network: Builder, y: str, conv: ConvAttrs, x: str, given: int, unit: Quantization, random: Random
) -> None:
    height, width, taken = network.shape(x)
    weight = _weight(y, (*conv.window.kernel, taken // conv.groups, given), random)
    bias = random.integers(-10000, 10001, given).astype(np.int32)
    lowered = quantized_conv2d(y, conv, unit, weight, bias, unit)
    size = conv.window.transposed_output if conv.transposed else conv.window.output
    network.put(lowered, y, [x], Tensor(y, (*size(height, width), given), "i8", unit))


def _weight(layer: str, shape: tuple[int, ...], random: Random) -> Constant:
    """Return weights whose scales spread the outputs over their range."""
    spread = 64 * np.sqrt(np.prod(shape[:3]))
    scales = tuple((random.uniform(0.5, 1, shape[3]) / spread).tolist())
    return Constant(f"{layer}.w", random.integers(-127, 128, shape).astype(np.int8), scales=scales)


def _layer(shape: tuple[int, ...]) -> Graph:
    """Return a network of one convolution with weights of `shape`."""
    network, unit = Builder("layer"), Quantization(0.05, 3)
    network.add_input(Tensor("x", (6, 6, shape[2]), "i8", unit), 4)
    conv = ConvAttrs(Window((shape[0], shape[1])))
    _add(network, "y", conv, "x", shape[3], unit, np.random.default_rng(25))
    network.add_output("y")
    return network.graph()


def _fast(constants: Sequence[Constant], zero: int, once: bool) -> NDArray[np.int32] | None:
    weight, bias, *factors = (constant.value for constant in constants)
    return (once_rounding if once else fast_rounding)(weight, bias, factors, zero)


def _same_bits(graph: Graph, board: str, random: Random, folder: Path, prefer: Prefer = "flash") -> None:
    same_bits(graph, [board], samples(graph, random), folder, prefer)
