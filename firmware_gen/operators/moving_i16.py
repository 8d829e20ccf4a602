"""How gradients of 16 bits pass through the int8 weights of a layer (C: kernels/moving_i16.h).

With Cortex-M's SIMD (kernels/dsp/conv2d_i16.h) a transposed layer runs as a convolution for each phase of its
stride, and weights are packed in the order of the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boards import Isa
from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.conv2d import ConvAttrs, forward_literal
from firmware_gen.operators.conv2d_i8_dsp import CHANNELS, GROUP, HALFWORDS, LEAST_CHANNELS, PIXELS
from firmware_gen.operators.conv_parts import ConvPart, split, splits

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

# What the sizes of an output's weights may add up to, so that no sum of 32 bits overflows.
MOST_WEIGHTS = ((1 << 31) - 1) // 32767


def scratch_bytes(op: Op, graph: Graph, isa: Isa) -> int:
    """Return the bytes that the kernel works in, besides multipliers."""
    return max((_patch_bytes(part, op, graph) for part in _parts(op, graph, isa)), default=0)


def calls(step: Step, c: Emitter, scratch: str) -> list[str]:
    """Return the calls that run the layer with the C variables `bias` and `to`."""
    op, graph = step.op, step.graph
    x, y, name = op.inputs[0], op.outputs[0], op.constants[0]
    source = f"{c.pointer(x)}, {c.map(x)}"
    parts = _parts(op, graph, c.isa)
    if not parts:
        attrs = _attrs(op)
        kernel = "ft_conv2d_transpose_i16" if attrs.transposed else "ft_conv2d_i16"
        literal = forward_literal(attrs, graph.constants[name].value.shape)
        return [
            f"{kernel}({source}, {c.weight(name)}, bias, {c.pointer(y)}, {c.map(y)},\n"
            f"    {literal}, to, {c.rows(step)});"
        ]
    return [
        f"ft_conv2d_i16_dsp({source}, {c.array(f'{name}.dsp{part.suffix}', _packed(part))}, bias,\n"
        f"    {part.output(step, c)}, {forward_literal(part.conv, part.weight.shape)}, to,\n"
        f"    (int16_t *)(void *)({scratch}), {part.rows(step, c)});"
        for part in parts
    ]


def _attrs(op: Op) -> ConvAttrs:
    assert isinstance(op.attrs, ConvAttrs)
    return op.attrs


def _parts(op: Op, graph: Graph, isa: Isa) -> Sequence[ConvPart]:
    """Return the convolutions that the SIMD kernel runs; none where the portable one runs the layer."""
    attrs, weight = _attrs(op), graph.constants[op.constants[0]].value
    if isa != "dsp" or not splits(attrs):
        return ()
    channels = graph.shape(op.outputs[0])[2]
    parts = split(attrs, weight, np.zeros(channels, np.int32), 0, graph.shape(op.outputs[0]))
    conv, (_, _, taken, given) = parts[0].conv, parts[0].weight.shape
    narrow = conv.groups > 1 and min(taken, given // conv.groups) < LEAST_CHANNELS
    return () if narrow else parts


def _patch_bytes(part: ConvPart, op: Op, graph: Graph) -> int:
    height, width, _ = graph.shape(op.outputs[0])
    pixels = min(part.positions(0, height) * part.positions(1, width), PIXELS)
    values = int(part.weight[..., 0].size)
    return pixels * 2 * GROUP * -(-values // GROUP)


def _packed(part: ConvPart) -> NDArray[np.int8]:
    """Return (rows, columns, in of a group, out) as (groups, pairs of outputs, words, 2 outputs, 4 bytes)."""
    return np.stack([_pack_group(group) for group in np.split(part.weight, part.conv.groups, axis=3)])


def _pack_group(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    outputs = weight.shape[3]
    values = weight.reshape(-1, outputs)
    values = np.pad(values, ((0, -len(values) % GROUP), (0, -outputs % CHANNELS)))
    words = values.reshape(-1, GROUP, values.shape[1])[:, HALFWORDS]
    return words.reshape(len(words), GROUP, -1, CHANNELS).transpose(2, 0, 3, 1)
