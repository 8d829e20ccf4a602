"""Convolutions and fully connected layers on int8 with Helium (C: kernels/mve/conv2d_i8.h).

Weights lie as the kernel reads them: 16 bytes of the window for each of 4 output channels in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Graph, Op, Shape
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.conv2d import forward_literal
from firmware_gen.operators.conv_parts import ConvPart, conv_parts, has_parts

if TYPE_CHECKING:
    from firmware_gen.operators.conv2d_i8 import ConvI8Attrs
    from firmware_gen.schedule import Step

VECTOR = 16  # bytes
LANES = 4  # sums a vector
LEAST_CHANNELS = 4  # in and out of a group: with fewer, gathering takes longer than the vectors save


def takes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> bool:
    """Tell whether the kernel can run the layer, whose groups must be wide enough to be worth it."""
    _, _, taken, given = graph.constants[op.constants[0]].value.shape
    wide = attrs.conv.groups == 1 or min(taken, given // attrs.conv.groups) >= LEAST_CHANNELS
    return wide and has_parts(op, attrs, graph)


def scratch_bytes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> int:
    """Return the bytes of two gathered windows, 0 where windows are read in place."""
    x, y = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
    return max(_part_scratch(part, x, y) for part in conv_parts(op, attrs, graph))


def _part_scratch(part: ConvPart, x: Shape, y: Shape) -> int:
    window, inner = part.conv.window, part.weight.shape[2]
    on_map = all((part.positions(k, y[k]) - 1) * window.stride[k] < x[k] for k in range(2))
    if window.kernel == (1, 1) and window.pad == (0, 0) and on_map and inner % VECTOR == 0:
        return 0
    return 2 * -(-window.taps * int(inner) // VECTOR) * VECTOR


def moving_scratch(parts: Sequence[ConvPart], op: Op, graph: Graph) -> int | None:
    """Return the bytes that `moving_call` works in; None where the portable kernel is to run these parts."""
    x, y = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
    return None if parts[0].conv.groups > 1 else max(_part_scratch(part, x, y) for part in parts)


def packed_bytes(part: ConvPart) -> int:
    """Return the bytes of the weights in the kernel's order."""
    return int(_blocks(part.weight, 1).size)


def moving_call(part: ConvPart, step: Step, c: Emitter, scratch: str, packed: str | None = None) -> str:
    """Return the call for a layer whose `bias`, `from.zero` and rounding `to` are variables.

    packed: the C name of weights that ft_pack_i8_mve has made; None: they are frozen.
    """
    op, graph = step.op, step.graph
    x, weight = op.inputs[0], op.constants[0]
    in_place = _part_scratch(part, graph.shape(x), graph.shape(op.outputs[0])) == 0
    if packed is None:
        packed = c.array(f"{weight}.mve{part.suffix}", _blocks(part.weight, 1))
    return (
        f"ft_mve_conv2d_i8({c.pointer(x)}, {c.map(x)}, from.zero, {packed}, bias,\n"
        f"    {part.output(step, c)},\n"
        f"    {forward_literal(part.conv, part.weight.shape)}, to, 1,\n"
        f"    {'NULL' if in_place else scratch}, {part.rows(step, c)});"
    )


def emit(step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    """Return the kernel's calls."""
    return "\n".join(_call(part, step, attrs, c) for part in conv_parts(step.op, attrs, step.graph))


def _call(part: ConvPart, step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    op, graph, groups = step.op, step.graph, part.conv.groups
    weight, bias, *tables = op.constants
    factors = [graph.constants[name].value for name in tables]
    fast = bounded(part.weight, part.bias, factors, attrs.once)
    if fast and attrs.leaky:
        fast = bounded(part.weight, part.bias, factors[2:], once=False)
    if fast:
        packed = padded_factors(factors, LANES, groups)
        if attrs.leaky:
            pairs = (padded_factors(factors[k : k + 2], LANES, groups) for k in (0, 2))
            packed = [table for pair in pairs for table in pair]
        names = [c.array(f"{name}.mve", table) for name, table in zip(tables, packed, strict=True)]
        requantize = fast_literal(names, attrs)
    else:
        requantize = attrs.requantize_literal(tables, c)
    x = op.inputs[0]
    in_place = _part_scratch(part, graph.shape(x), graph.shape(op.outputs[0])) == 0
    return (
        f"ft_mve_conv2d_i8({c.pointer(x)}, {c.map(x)}, {attrs.x_zero},\n"
        f"    {c.array(f'{weight}.mve{part.suffix}', _blocks(part.weight, groups))},\n"
        f"    {c.array(f'{bias}.mve{part.suffix}', padded(part.bias, LANES, groups))},\n"
        f"    {part.output(step, c)}, {forward_literal(part.conv, part.weight.shape)},\n"
        f"    {requantize}, {int(fast)},\n"
        f"    {'NULL' if in_place else c.scratch(op)}, {part.rows(step, c)});"
    )


def fast_literal(factors: Sequence[str], attrs: ConvI8Attrs) -> str:
    """Return the ft_requantize_t of arrays: multipliers, shifts, then rests or those of negative sums."""
    tables = [*factors[:2], *([] if attrs.once else ["NULL"]), *factors[2:]]
    tables += ["NULL"] * (5 - len(tables))
    return f"(ft_requantize_t){{{', '.join(tables)}, {attrs.y_zero}, {attrs.low}, {attrs.high}}}"


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


def padded(values: NDArray[Any], multiple: int, groups: int = 1) -> NDArray[Any]:
    """Return the values of the channels, those of each group with zeros up to a multiple."""
    rows = values.reshape(groups, -1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % multiple))).ravel()


def padded_factors(factors: Sequence[NDArray[Any]], multiple: int, groups: int = 1) -> list[NDArray[Any]]:
    """Return the tables up to a multiple of channels, with a shift that is allowed where the factor is 0."""
    multipliers, shifts, *rests = (padded(table, multiple, groups) for table in factors)
    return [multipliers, np.where(multipliers == 0, -2, shifts).astype(np.int8), *rests]


def _blocks(weight: NDArray[np.int8], groups: int) -> NDArray[np.int8]:
    """Return the weights as [group][4 channels][16 of the window][channel][16]."""
    rows = weight.reshape(-1, groups, weight.shape[3] // groups).transpose(1, 2, 0)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % LANES), (0, -rows.shape[2] % VECTOR)))
    blocks = rows.reshape(groups, rows.shape[1] // LANES, LANES, rows.shape[2] // VECTOR, VECTOR)
    return np.ascontiguousarray(blocks.transpose(0, 1, 3, 2, 4))
