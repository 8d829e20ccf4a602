"""Int8 layers with Xpulp's SIMD, in portable C and on the simulated core, give the bits of `native`."""

from pathlib import Path

import numpy as np
import pytest
from xpulp_programs import assert_same_bits, int8_samples, simulator
from xpulp_random import ACTIVATIONS, add_convolution, add_random_layer, random_bias, random_weight

from firmware_gen.emit.model import model_c
from firmware_gen.graph import Constant, Quantization, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d, quantized_fully_connected
from firmware_gen.plan import make_plan
from firmware_gen.window import LINEAR, Activation, Window

LAYERS = 24


KINDS = {
    "dense": "ft_conv2d_i8_xpulp(",
    "pointwise": "ft_conv2d_i8_xpulp(",
    "grouped": "ft_conv2d_i8_xpulp(",
    "transposed": "ft_conv2d_i8_xpulp(",
    "depthwise": "ft_depthwise_i8_xpulp(",
}


@pytest.mark.parametrize("kind", KINDS)
def test_random_layers(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng([*KINDS].index(kind))
    network = Builder(kind)
    for k in range(LAYERS):
        add_random_layer(network, kind, k, random)
    graph = network.graph()
    code = model_c(make_plan(graph, simulator.board(tmp_path)))
    assert code.count(KINDS[kind]) >= LAYERS
    assert {"FT_TWICE_XPULP", "FT_LEAKY_XPULP"} <= {*code.replace(",", " ").split()}
    assert_same_bits(graph, int8_samples(graph, random), tmp_path)


def test_fully_connected_layers(tmp_path: Path) -> None:
    random = np.random.default_rng(10)
    network = Builder("dense")
    for k in range(LAYERS):
        taken, given = random.integers(1, 70, 2).tolist()
        unit = Quantization(0.05, int(random.integers(-128, 128)))
        network.add_input(Tensor(f"x{k}", (1, 1, taken), "i8", unit), 2)
        weight, bias = random_weight(f"y{k}", (1, 1, taken, given), random), random_bias(given, random)
        lowered = quantized_fully_connected(f"y{k}", ACTIVATIONS[k % 3], unit, weight, bias, unit)
        network.put(lowered, f"y{k}", [f"x{k}"], Tensor(f"y{k}", (1, 1, given), "i8", unit))
        network.add_output(f"y{k}")
    assert "FT_ONCE_XPULP" in model_c(make_plan(network.graph(), simulator.board(tmp_path)))
    assert_same_bits(network.graph(), int8_samples(network.graph(), random), tmp_path)


def test_maps_that_are_slices_of_wider_ones(tmp_path: Path) -> None:
    """Some begin at whole words, some do not; pixels are longer than what is read."""
    random, unit = np.random.default_rng(11), Quantization(0.05, 3)
    network = Builder("slices")
    network.add_input(Tensor("x", (7, 9, 5), "i8", unit), 4)
    for name, channels in (("a", 3), ("b", 8), ("c", 4), ("d", 1)):
        conv = ConvAttrs(Window((3, 3), pad=(1, 1), pad_end=(1, 1)))
        add_convolution(network, name, conv, "x", channels, unit, random)
    network.put(Lowered("concat"), "all", ["a", "b", "c", "d"], Tensor("all", (7, 9, 16), "i8", unit))
    for name, x, kernel in (("wide", "b", (3, 2)), ("point", "b", (1, 1)), ("last", "d", (2, 2))):
        add_convolution(network, name, ConvAttrs(Window(kernel, (2, 1))), x, 6, unit, random)
        network.add_output(name)
    network.add_output("all")
    plan = make_plan(network.graph(), simulator.board(tmp_path))
    assert plan.views["b"].pixel == 16, "the plan no longer places the slices in place: this tests nothing"
    assert plan.views["b"].channel % 4, "the slice now begins at a whole word: this tests nothing"
    assert_same_bits(network.graph(), int8_samples(network.graph(), random), tmp_path)


LIMIT = (1 << 30) - 128 * 128  # with one x * w on top, sums stay below 2^30


@pytest.mark.parametrize("once", [False, True])
def test_sums_up_to_the_limit_of_the_short_rounding_and_beyond(once: bool, tmp_path: Path) -> None:
    random, unit = np.random.default_rng(12), Quantization(1.0, 0)
    network = Builder("sums")
    size = (1, 1) if once else (2, 3)
    network.add_input(Tensor("x", (*size, 1), "i8", unit), 4)
    kinds = set()
    for name, magnitude, zero, shifts, activation in (
        ("within", LIMIT, 5, (2, 22), LINEAR),
        ("lowest", LIMIT, -128, (2, 22), Activation("relu")),
        ("clipped", LIMIT, 5, (2, 22), Activation("relu")),
        ("beyond", 1 << 30, 5, (2, 22), LINEAR),
        ("wrapping", (1 << 31) - 1, 5, (2, 22), LINEAR),
        ("above a half", LIMIT, 5, (0, 3), LINEAR),
    ):
        count = 120
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
        constant = Constant(f"{name}.w", weight, scales=tuple(np.ldexp(mantissa, -shift).tolist()))
        y, start = Quantization(1.0, zero), bias.astype(np.int32)
        if once:
            lowered = quantized_fully_connected(name, activation, unit, constant, start, y)
        else:
            conv = ConvAttrs(Window((1, 1)), activation=activation)
            lowered = quantized_conv2d(name, conv, unit, constant, start, y)
        network.put(lowered, name, ["x"], Tensor(name, (*size, count), "i8", y))
        network.add_output(name)
        kinds.add(name)
    code = model_c(make_plan(network.graph(), simulator.board(tmp_path)))
    assert "FT_TABLES_XPULP" in code
    assert ("FT_ONCE_XPULP" if once else "FT_TWICE_XPULP") in code
    assert_same_bits(network.graph(), int8_samples(network.graph(), random), tmp_path)
