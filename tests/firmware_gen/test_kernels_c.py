"""Portable int8 convolutions on a RISC-V core in QEMU: LiteRT's bits, up to the ends of int32."""

import re
from pathlib import Path

import numpy as np
import pytest
from emulation import answers
from int8_proof import read
from numpy.typing import NDArray
from tflite_layers import DRAWS, Random, model
from tflite_writer import Reference

from boards import load_board
from firmware_gen.emit.model import model_c
from firmware_gen.fixed_point import multiply_by_quantized_multiplier, wrap_int32
from firmware_gen.graph import Constant, Graph, Quantization, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d
from firmware_gen.plan import make_plan
from firmware_gen.window import LINEAR, Activation, Window

BOARD = "qemu_riscv32"
SAMPLES = 3
LEAKY = Activation("leaky_relu", 0.125)
ACTIVATIONS = (LINEAR, Activation("relu"), Activation("clip", -0.5, 0.75), LEAKY)
LIMIT = (1 << 30) - 2 * 128 * 128  # with two x * w on top, sums stay below 2^30

Sample = dict[str, NDArray[np.int8]]


def test_random_layers_give_litert_s_bits(tmp_path: Path) -> None:
    random = np.random.default_rng(40)
    layers = model([draw(random) for _ in range(8) for draw in DRAWS])
    graph, reference = read(layers, tmp_path, "layers"), Reference(layers)
    assert _roundings(graph) == {"0", "1"}, "the plan no longer has both ways to round: this tests nothing"
    drawn = [reference.draw(random) for _ in range(SAMPLES)]
    samples = [
        {name: x.reshape(graph.shape(name)) for name, x in zip(graph.inputs, sample, strict=True)}
        for sample in drawn
    ]
    for found, sample in zip(answers(graph, BOARD, samples, tmp_path), drawn, strict=True):
        for name, expected in zip(graph.outputs, reference(sample), strict=True):
            assert np.array_equal(found[name].ravel(), expected.ravel()), name


def test_blocks_at_every_place_of_a_map_give_the_bits_of_native(tmp_path: Path) -> None:
    """Widths around multiples of a block, channels too, and windows that reach beyond each border."""
    random = np.random.default_rng(41)
    network = Builder("blocks")
    for k in range(36):
        depthwise = k % 3 == 0
        taken, given = random.choice([1, 3, 4, 5, 8, 12, 17], 2).tolist()
        given = taken * int(random.integers(1, 3)) if depthwise else given
        kernel = random.integers(1, 4, 2) if k % 4 else np.ones(2, np.int64)
        geometry = kernel, random.integers(1, 3, 2), random.integers(0, kernel), random.integers(0, kernel)
        pairs = [(int(rows), int(columns)) for rows, columns in geometry]
        size = (int(random.integers(3, 6)), int(random.integers(3, 24)))
        conv = ConvAttrs(Window(*pairs), taken if depthwise else 1, activation=ACTIVATIONS[k % 4])
        _add_layer(network, f"{k}", conv, (*size, taken), given, random)
    graph = network.graph()
    assert _roundings(graph) == {"1"}
    samples = _samples(graph, random)
    truth, found = (answers(graph, board, samples, tmp_path) for board in ("native", BOARD))
    for expected, outputs in zip(truth, found, strict=True):
        for name in graph.outputs:
            assert np.array_equal(outputs[name], expected[name]), name
    assert np.mean([np.unique(truth[-1][name]).size > 2 for name in graph.outputs]) > 0.8


@pytest.mark.parametrize(
    ("magnitude", "zero", "shifts", "activation", "fast"),
    [
        (LIMIT, 5, (1, 22), LINEAR, True),
        (LIMIT, -128, (1, 22), LINEAR, True),
        (LIMIT, 5, (1, 22), LEAKY, True),
        (LIMIT, -128, (24, 24), LINEAR, False),  # the zero point overflows when it is added before the shift
        (1 << 30, 5, (1, 22), LINEAR, False),
        ((1 << 31) - 1, 5, (1, 22), LINEAR, False),  # sums wrap
        ((1 << 31) - 1, 5, (1, 22), LEAKY, False),
        (LIMIT, 5, (0, 3), LINEAR, False),
        (1 << 24, -3, (-3, 0), LINEAR, False),
    ],
)
def test_sums_up_to_the_limit_of_the_fast_rounding_and_beyond(
    magnitude: int, zero: int, shifts: tuple[int, int], activation: Activation, fast: bool, tmp_path: Path
) -> None:
    random = np.random.default_rng(42)
    count, unit, y = 120, Quantization(1.0, 0), Quantization(1.0, zero)
    right = np.arange(count) % (shifts[1] - shifts[0] + 1) + shifts[0]
    mantissa = random.uniform(0.5, 1, count)
    weight = random.integers(-127, 128, (1, 1, 2, count)).astype(np.int8)
    bias = random.integers(-magnitude, magnitude + 1, count)
    bias[::3] >>= random.integers(0, 31, count)[::3]
    # Every other third: odd halves of units of y, and one beside them.
    weight[..., 1::3], mantissa[1::3] = 0, 0.5
    most = np.minimum(60, magnitude >> (np.maximum(right, 0) + 1)) - 1
    halves = (2 * random.integers(-most, most) + 1) << np.maximum(right, 0)
    bias[1::3] = (halves + random.integers(-1, 2, count))[1::3]
    bias[:2] = -magnitude, magnitude
    scales = tuple(np.ldexp(mantissa, -right).tolist())
    conv, constant = ConvAttrs(Window((1, 1)), activation=activation), Constant("w", weight, scales=scales)
    lowered = quantized_conv2d("y", conv, unit, constant, bias.astype(np.int32), y)
    network = Builder("sums")
    network.add_input(Tensor("x", (3, 5, 2), "i8", unit), 4)
    network.put(lowered, "y", ["x"], Tensor("y", (3, 5, count), "i8", y))
    network.add_output("y")
    graph = network.graph()
    assert _roundings(graph) == {str(int(fast))}
    factors = [constant.value.astype(np.int64) for constant in lowered.constants[2:]]
    samples = _samples(graph, random)
    for sample, found in zip(samples, answers(graph, BOARD, samples, tmp_path), strict=True):
        sums = wrap_int32(sample["x"].astype(np.int64) @ weight[0, 0].astype(np.int64) + bias)
        scaled = _scaled(sums, *factors[:2])
        if activation == LEAKY:
            scaled = np.where(sums < 0, _scaled(sums, *factors[2:]), scaled)
        assert np.array_equal(found["y"], np.clip(scaled + zero, -128, 127))


def test_channels_whose_products_round_to_nothing_keep_the_fast_rounding(tmp_path: Path) -> None:
    random = np.random.default_rng(43)
    network, unit = Builder("dead"), Quantization(1.0, -20)
    network.add_input(Tensor("x", (3, 3, 8), "i8", unit), 4)
    scales = (0.001, 1e-7, 1e-9, 1e-30, 0.002)
    weight = Constant("w", random.integers(-127, 128, (1, 1, 8, 5)).astype(np.int8), scales=scales)
    lowered = quantized_conv2d("layer", ConvAttrs(Window((1, 1))), unit, weight, None, unit)
    network.put(lowered, "layer", ["x"], Tensor("y", (3, 3, 5), "i8", unit))
    network.add_output("y")
    graph = network.graph()
    assert _roundings(graph) == {"1"}
    for outputs in answers(graph, BOARD, _samples(graph, random), tmp_path):
        assert np.all(outputs["y"][..., 1:4] == -20)


def _add_layer(
    network: Builder, name: str, conv: ConvAttrs, shape: tuple[int, int, int], given: int, random: Random
) -> None:
    """Add a layer with an input and an output of its own, whose values spread over their range."""
    x, y = f"x{name}", f"y{name}"
    unit = Quantization(0.05, int(random.integers(-128, 128)))
    network.add_input(Tensor(x, shape, "i8", unit), 4)
    weights = random.integers(-127, 128, (*conv.window.kernel, shape[2] // conv.groups, given))
    spread = 64 * np.sqrt(np.prod(weights.shape[:3]))
    scales = tuple((random.uniform(0.5, 1, given) / spread).tolist())
    weight = Constant(f"{y}.w", weights.astype(np.int8), scales=scales)
    bias = random.integers(-10000, 10001, given).astype(np.int32)
    lowered = quantized_conv2d(y, conv, unit, weight, bias, unit)
    output = Tensor(y, (*conv.window.output(*shape[:2]), given), "i8", unit)
    network.put(lowered, y, [x], output)
    network.add_output(y)


def _scaled(
    sums: NDArray[np.int64], multipliers: NDArray[np.int64], shifts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the sums times the factors of their channels, as TFLite rounds them."""
    channels = [
        multiply_by_quantized_multiplier(sums[..., k], int(multiplier), int(shift))
        for k, (multiplier, shift) in enumerate(zip(multipliers, shifts, strict=True))
    ]
    return np.stack(channels, axis=-1)


def _roundings(graph: Graph) -> set[str]:
    """Return what the kernels' calls say of the fast rounding: "0", "1"."""
    return set(re.findall(r"\}, (\d), \d+, \d+\);", model_c(make_plan(graph, load_board(BOARD)))))


def _samples(graph: Graph, random: Random) -> list[Sample]:
    samples = [
        {name: random.integers(-128, 128, graph.shape(name)).astype(np.int8) for name in graph.inputs}
        for _ in range(SAMPLES)
    ]
    for name in graph.inputs:
        samples[0][name][:] = -128
        samples[1][name][:] = 127
    return samples
