"""Convolutions and fully connected layers on int8 with Helium (C: kernels/mve/conv2d_i8.h).

Weights lie as the kernel reads them: 16 bytes of the window for each of 4 output channels in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.conv2d import forward_literal

if TYPE_CHECKING:
    from firmware_gen.operators.conv2d_i8 import ConvI8Attrs
    from firmware_gen.schedule import Step

VECTOR = 16  # bytes
LANES = 4  # sums a vector


def takes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> bool:
    """Tell whether the layer is a convolution in one group."""
    return not attrs.conv.transposed and attrs.conv.groups == 1


def scratch_bytes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> int:
    """Return the bytes of two gathered windows, 0 where windows are read in place."""
    shape = graph.constants[op.constants[0]].value.shape
    if _in_place(attrs, shape):
        return 0
    taps, inner = attrs.conv.window.taps, shape[2]
    return 2 * -(-taps * int(inner) // VECTOR) * VECTOR


def emit(step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    """Return the kernel's call."""
    op, tables = step.op, step.op.constants
    weight, bias, *factors = (step.graph.constants[name].value for name in tables)
    x, y = op.inputs[0], op.outputs[0]
    fast = not attrs.leaky and bounded(weight, bias, factors, attrs.once)
    if fast:
        packed = padded_factors(factors, LANES)
        names = [c.array(f"{name}.mve", table) for name, table in zip(tables[2:], packed, strict=True)]
        requantize = fast_literal(names, attrs)
    else:
        requantize = attrs.requantize_literal(tables[2:], c)
    return (
        f"ft_mve_conv2d_i8({c.pointer(x)}, {c.map(x)}, {attrs.x_zero},\n"
        f"    {c.array(f'{tables[0]}.mve', _blocks(weight))},\n"
        f"    {c.array(f'{tables[1]}.mve', padded(bias, LANES))},\n"
        f"    {c.pointer(y)}, {c.map(y)}, {forward_literal(attrs.conv, weight.shape)},\n"
        f"    {requantize}, {int(fast)},\n"
        f"    {c.scratch(op)}, {step.rows[0]}, {step.rows[1]});"
    )


def fast_literal(factors: Sequence[str], attrs: ConvI8Attrs) -> str:
    """Return the ft_requantize_t of arrays of multipliers, shifts and, if rounded once, rests."""
    tables = ", ".join((*factors, *["NULL"] * (5 - len(factors))))
    return f"(ft_requantize_t){{{tables}, {attrs.y_zero}, {attrs.low}, {attrs.high}}}"


def bounded(
    weight: NDArray[np.int8], bias: NDArray[np.int32], factors: Sequence[NDArray[Any]], once: bool
) -> bool:
    """Tell whether every sum stays below 2^30 and every factor is 0 or below 1/2, 1/4 if rounded `once`.

    Then no addition wraps, and the instructions' own rounding takes a correction of two instructions; `once`,
    the upper half of the product decides it. `factors`: multipliers, shifts and perhaps others.
    """
    multipliers, shifts = factors[:2]
    sizes = np.abs(weight.astype(np.int64)).sum(axis=(0, 1, 2)) * 128 + np.abs(bias.astype(np.int64))
    small = (shifts <= (-2 if once else -1)) | (multipliers == 0)
    return bool(sizes.max() < 1 << 30) and bool(small.all())


def padded(values: NDArray[Any], multiple: int) -> NDArray[Any]:
    """Return the values of the channels, with zeros up to a multiple."""
    return np.pad(values, (0, -values.size % multiple))


def padded_factors(factors: Sequence[NDArray[Any]], multiple: int) -> list[NDArray[Any]]:
    """Return the tables up to a multiple of channels, with a shift that is allowed where the factor is 0."""
    multipliers, shifts, *rests = (padded(table, multiple) for table in factors)
    return [multipliers, np.where(multipliers == 0, -2, shifts).astype(np.int8), *rests]


def _in_place(attrs: ConvI8Attrs, shape: tuple[int, ...]) -> bool:
    window = attrs.conv.window
    unpadded = not any((*window.pad, *window.pad_end))
    return shape[:2] == (1, 1) and unpadded and shape[2] % VECTOR == 0


def _blocks(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the weights as [4 channels][16 of the window][channel][16]."""
    rows = weight.reshape(-1, weight.shape[3]).T
    rows = np.pad(rows, ((0, -rows.shape[0] % LANES), (0, -rows.shape[1] % VECTOR)))
    blocks = rows.reshape(rows.shape[0] // LANES, LANES, rows.shape[1] // VECTOR, VECTOR)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))
