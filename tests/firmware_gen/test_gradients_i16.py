"""Gradients of 16 bits through int8 layers: no sum overflows, and every kernel gives the same bits."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from emulation import same_bits
from numpy.typing import NDArray

from firmware_gen.graph import Constant, Graph, Op, Range, Shape, Tensor
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import real_weight
from firmware_gen.operators.moving import turned
from firmware_gen.operators.moving_i16 import MOST_WEIGHTS
from firmware_gen.window import Window

LARGEST = 32767
SIZE = 7
# Channels that go in and out, and how: as the input gradients of convolutions and transposed ones have it.
LAYERS = {
    "padded": (8, 6, ConvAttrs(Window((3, 3), pad=(1, 1), pad_end=(1, 1)))),
    "odd": (5, 3, ConvAttrs(Window((3, 2), (2, 1), dilation=(1, 2)))),
    "one": (70, 1, ConvAttrs(Window((SIZE, SIZE)))),
    "groups": (12, 8, ConvAttrs(Window((3, 3), pad=(1, 0), pad_end=(0, 1)), 2)),
    "narrow groups": (9, 6, ConvAttrs(Window((3, 3)), 3)),
    "depthwise": (6, 6, ConvAttrs(Window((5, 5), pad=(2, 2), pad_end=(2, 2)), 6)),
    "transposed": (8, 7, ConvAttrs(Window((3, 3), (2, 2), (1, 0), (0, 1)), transposed=True)),
    "transposed in 9 phases": (4, 5, ConvAttrs(Window((3, 3), (3, 3)), transposed=True)),
    "transposed groups": (8, 8, ConvAttrs(Window((2, 3), (2, 1)), 4, transposed=True)),
}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("spread", [0.0, 0.3, 0.8])
def test_no_sum_of_products_overflows_32_bits(transposed: bool, groups: int, spread: float) -> None:
    random = np.random.default_rng(5)
    conv = ConvAttrs(Window((3, 3)), groups, transposed)
    shape = (3, 3, 4 * groups, 300) if transposed else (3, 3, 4, 300 * groups)
    sizes = np.exp(-spread * np.abs(random.standard_normal(shape)))
    value = np.rint(127 * sizes).astype(np.int8)
    value[:, :, 3:] = 0
    value[0, 0, 3:] = 127  # a channel with so few weights that nothing can overflow
    scales = random.uniform(0.5, 1.5, shape[3] * (groups if transposed else 1)) / 100
    weight = Constant("w", value, scales=tuple(np.float32(scale).item() for scale in scales))
    wide, narrow = (turned(weight, conv, most) for most in (MOST_WEIGHTS, None))
    opposite = dataclasses.replace(conv, transposed=not transposed)
    totals, plain = (_sizes(found, opposite) for found in (wide, narrow))
    assert (totals * LARGEST < 2**31).all()
    fits = plain * LARGEST < 2**31
    assert 0 < fits.sum() < fits.size
    assert (totals[fits] == plain[fits]).all(), "resolution was given away"
    assert (totals[~fits] > 0.95 * MOST_WEIGHTS).all(), "resolution was given away"
    real = real_weight(weight, conv).transpose(0, 1, 3, 2)
    for found in (wide, narrow):
        steps = np.abs(real_weight(found, opposite) - real)
        assert steps.max() <= 0.51 * max(found.scales)


def _sizes(weight: Constant, conv: ConvAttrs) -> NDArray[np.int64]:
    """Return for each output what the sizes of its weights add up to."""
    rows, columns, _, given = weight.value.shape
    groups = conv.groups if conv.transposed else 1
    parts = weight.value.reshape(rows, columns, groups, -1, given).astype(np.int64)
    return np.abs(parts).sum(axis=(0, 1, 3)).ravel()


def layers() -> Graph:
    """Return float maps, made integers of 16 bits, and for each a layer."""
    tensors: dict[str, Tensor] = {}
    ranges: dict[str, Range] = {}
    constants: dict[str, Constant] = {}
    ops: list[Op] = []

    def gradient(name: str, shape: Shape, most: float) -> None:
        tensors[name] = Tensor(name, shape, "i16", range=name)
        ranges[name] = Range(-most, most, 1.5, 0.1, LARGEST)

    random = np.random.default_rng(8)
    for name, (taken, given, attrs) in LAYERS.items():
        x, q, y = f"{name}.x", f"{name}.q", f"{name}.y"
        output = attrs.window.transposed_output if attrs.transposed else attrs.window.output
        tensors[x] = Tensor(x, (SIZE, SIZE, taken))
        gradient(q, (SIZE, SIZE, taken), 1.0)
        shape = (taken, given // attrs.groups) if attrs.transposed else (taken // attrs.groups, given)
        value = random.integers(-127, 128, (*attrs.window.kernel, *shape)).astype(np.int8)
        inputs = value.size / given
        gradient(y, (*output(SIZE, SIZE), given), 4 * np.sqrt(inputs))
        scales = tuple(np.float32(s).item() for s in random.uniform(0.5, 1.5, given) / 127)
        constants[name] = Constant(name, value, scales=scales)
        ops.append(Op("quantize_gradient", f"{name}.border", (x,), (q,)))
        ops.append(Op("moving_conv2d", name, (q,), (y,), attrs, (name,)))
    taken_in, outputs = (tuple(f"{name}.{end}" for name in LAYERS) for end in "xy")
    # Where ranges move something learns.
    constants["bias"] = Constant("bias", np.zeros(tensors[outputs[0]].shape[2], np.float32))
    ops.append(Op("bias_update_i8", "bias", outputs[:1], (), None, ("bias",), phase="update"))
    return Graph(
        "layers", tuple(ops), tensors, constants, taken_in, outputs, trained=("bias",), ranges=ranges
    )


def test_every_kernel_gives_the_bits_of_portable_c(tmp_path: Path) -> None:
    graph, random = layers(), np.random.default_rng(9)
    drawn = [
        {name: random.standard_normal(graph.shape(name)).astype(np.float32) for name in graph.inputs},
        {name: np.full(graph.shape(name), -1, np.float32) for name in graph.inputs},
    ]
    same_bits(graph, ["mps2_an386"], drawn, tmp_path)
