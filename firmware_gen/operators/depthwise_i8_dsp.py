"""Depthwise int8 convolutions with Cortex-M's DSP instructions (C: kernels/dsp/depthwise_i8.h).

For windows up to 5 x 5 with one output channel a group. A variant of :mod:`firmware_gen.operators.conv2d_i8`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter
from firmware_gen.window import Window

if TYPE_CHECKING:
    from firmware_gen.operators.conv2d_i8 import ConvI8Attrs
    from firmware_gen.schedule import Step

Integers = NDArray[np.int64]

LARGEST_KERNEL = 5  # FT_DEPTHWISE_KERNEL
LARGEST_STRIDE = 2  # so that the columns that a block reads are unrolled
BLOCK, LARGEST_BLOCK = 4, 5  # outputs side by side; FT_DEPTHWISE_BLOCK


@dataclass(frozen=True)
class _Row:
    """A row of outputs in blocks: ft_depthwise_row_t."""

    first: int
    blocks: int
    last: int

    def c(self) -> str:
        return f"(ft_depthwise_row_t){{{self.first}, {BLOCK}, {self.blocks}, {self.last}}}"


def takes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> bool:
    """Tell whether the kernel can run the layer."""
    conv, window = attrs.conv, attrs.conv.window
    _, _, taken, given = graph.constants[op.constants[0]].value.shape
    if conv.transposed or taken != 1 or given != conv.groups or given == 1:
        return False
    if max(window.kernel) > LARGEST_KERNEL or window.stride[1] > LARGEST_STRIDE or window.dilation != (1, 1):
        return False
    height, width = graph.shape(op.inputs[0])[:2]
    rows, columns = graph.shape(op.outputs[0])[:2]
    last = (rows - 1) * window.stride[0] - window.pad[0]
    every_row_meets_the_map = window.pad[0] < window.kernel[0] and last < height
    return every_row_meets_the_map and _split(window, width, columns) is not None


def scratch_bytes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> int:
    """Return the bytes of the arena that the kernel works in."""
    return 0


def emit(step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    """Return the C statements that run `step`."""
    op, graph = step.op, step.graph
    weight, bias, *factors = op.constants
    x, y = op.inputs[0], op.outputs[0]
    window = attrs.conv.window
    row = _split(window, graph.shape(x)[1], graph.shape(y)[1])
    assert row is not None, "emitted a layer that `takes` refuses"
    taps = graph.constants[weight].value[:, :, 0].astype(np.int64)
    start = graph.constants[bias].value.astype(np.int64)
    fast = None
    if not (attrs.leaky or attrs.once):
        multipliers, shifts = (graph.constants[name].value.astype(np.int64) for name in factors)
        fast = _fast_factors(_bounds(taps, start), multipliers, shifts, attrs.y_zero)
    if fast is not None:
        packed = c.array(f"{weight}.dsp", _pack(2 * taps, 2 * start, *fast))
        output = attrs.requantize_literal((), c)
    else:
        packed = c.array(f"{weight}.dsp", _pack(taps, start))
        output = attrs.requantize_literal(factors, c)
    return (
        f"ft_depthwise_dsp_i8({c.pointer(x)}, {c.map(x)}, {attrs.x_zero}, {packed},\n"
        f"    {c.pointer(y)}, {c.map(y)}, {window.c()}, {row.c()},\n"
        f"    {output}, {int(fast is not None)}, {c.rows(step)});"
    )


def _split(window: Window, width: int, columns: int) -> _Row | None:
    """Return `columns` outputs over a map of `width` in blocks: only the first and the last may be padded."""
    stride, pad = window.stride[1], window.pad[1]
    if columns <= LARGEST_BLOCK:
        return _Row(columns, 0, 0)
    left = -(-pad // stride)
    right = sum(column * stride - pad + window.kernel[1] > width for column in range(columns))
    first = BLOCK if left else 0
    rest = columns - first
    last = rest % BLOCK
    if last == 1 or (last == 0 and right):
        last += BLOCK
    return _Row(first, (rest - last) // BLOCK, last) if left <= BLOCK and right <= last else None


def _bounds(taps: Integers, bias: Integers) -> Integers:
    """Return the largest magnitude that the sum of each channel can have on the way."""
    return np.asarray(np.abs(bias) + 128 * np.abs(taps).sum(axis=(0, 1)))


def _fast_factors(
    bounds: Integers, multipliers: Integers, shifts: Integers, zero: int
) -> tuple[Integers, Integers, Integers] | None:
    """Return multiplier, addend and right shift of ft_depthwise_channel_t; None where they would be wrong.

    With h the high half of 2 * sum * multiplier, rounded: h / 2^shift to nearest, halves away from zero, is
    (h + (h >> 31) + 2^(shift - 1)) >> shift for shift >= 1, as long as 2 * sum and that sum fit 32 bits.
    """
    h = (bounds * multipliers >> 31) + 1
    # Channels whose outputs are all zero may have any shift.
    idle = (multipliers == 0) | (h < 1 << np.maximum(-shifts - 1, 0))
    multipliers, right, h = np.where(idle, 0, multipliers), np.where(idle, 1, -shifts), np.where(idle, 0, h)
    if bounds.max() >= 1 << 30 or right.min() < 1:
        return None
    addends = (1 << (right - 1)) + (zero << right)
    return None if (h + np.abs(addends)).max() >= 1 << 31 else (multipliers, addends, right)


def _pack(taps: Integers, *per_channel: Integers) -> NDArray[np.int32]:
    """Return the words of every channel: pairs of rows of its window, then `per_channel`."""
    rows = np.pad(taps, ((0, taps.shape[0] % 2), (0, 0), (0, 0)))
    pairs = (rows[::2] & 0xFFFF) | (rows[1::2] << 16)
    words = [*pairs.reshape(-1, taps.shape[2]), *per_channel]
    return np.stack(words, axis=1).astype(np.uint64).astype(np.uint32).view(np.int32)
