"""Depthwise int8 convolutions with GAP9's SIMD (C: kernels/xpulp/depthwise_i8.h).

For windows up to 8 x 8 with one output channel a group. A variant of :mod:`firmware_gen.operators.conv2d_i8`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.conv2d_i8_xpulp import CHANNELS, WORD, channels_literal
from firmware_gen.operators.conv_parts import conv_parts

if TYPE_CHECKING:
    from firmware_gen.operators.conv2d_i8 import ConvI8Attrs
    from firmware_gen.schedule import Step

LARGEST_KERNEL = 8  # FT_DEPTHWISE_KERNEL_XPULP


def takes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> bool:
    """Tell whether the kernel can run the layer."""
    conv = attrs.conv
    _, _, taken, given = graph.constants[op.constants[0]].value.shape
    depthwise = not conv.transposed and taken == 1 and given == conv.groups and given > 1
    return depthwise and max(conv.window.kernel) <= LARGEST_KERNEL and not attrs.once


def scratch_bytes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> int:
    """Return the bytes of the columns that a row of outputs reads, of four channels, in whole words."""
    window, columns = attrs.conv.window, graph.shape(op.outputs[0])[1]
    read = (columns - 1) * window.stride[1] + (window.kernel[1] - 1) * window.dilation[1] + 1
    return CHANNELS * read * -(-window.kernel[0] // WORD) * WORD


def emit(step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    """Return the C statements that run `step`."""
    op = step.op
    x, y = op.inputs[0], op.outputs[0]
    (part,) = conv_parts(op, attrs, step.graph)
    channels = channels_literal(part, 1, _pack_weights(part.weight), step, attrs, c)
    return (
        f"ft_depthwise_i8_xpulp({c.pointer(x)}, {c.map(x)}, {attrs.x_zero},\n"
        f"    {channels},\n"
        f"    {c.pointer(y)}, {c.map(y)}, {attrs.conv.window.c()}, {int(c.aligned(x, WORD))},\n"
        f"    {c.scratch(op)}, {c.rows(step)}, {c.channels(step.graph.shape(y)[2], CHANNELS)});"
    )


def _pack_weights(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return (rows, columns, 1, channels) as (channels, columns, words, 4 rows)."""
    columns = np.pad(weight[:, :, 0], ((0, -len(weight) % WORD), (0, 0), (0, 0))).transpose(2, 1, 0)
    return np.ascontiguousarray(columns.reshape(*columns.shape[:2], -1, WORD))
