"""Nearest and bilinear resizing in every coordinate convention of ONNX Resize (C: kernels/resize.h)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from firmware_gen.c_text import c_float
from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter, Operator, Rows, Tape

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class ResizeAttrs:
    """How output positions map to input positions; scale is output size / input size, (rows, columns)."""

    mode: Literal["nearest", "linear"]
    coordinates: str
    rounding: str
    scale: tuple[float, float]


def positions(attrs: ResizeAttrs, axis: int, size: int, count: int) -> list[tuple[int, int, float]]:
    """Return (low, high, weight of high) of `count` output positions on an axis of `size` inputs (ONNX)."""
    table = []
    scale = attrs.scale[axis]
    for k in range(count):
        at = _coordinate(attrs.coordinates, k, scale, size, count)
        if attrs.mode == "nearest":
            near = min(max(_round(attrs.rounding, at), 0), size - 1)
            table.append((near, near, 0.0))
        else:
            at = min(max(at, 0.0), size - 1.0)
            low = min(math.floor(at), size - 1)
            table.append((low, min(low + 1, size - 1), at - low))
    return table


def _coordinate(convention: str, k: int, scale: float, size: int, count: int) -> float:
    if convention == "asymmetric":
        return k / scale
    if convention == "align_corners":
        return k * (size - 1) / (count - 1) if count > 1 else 0.0
    if convention == "pytorch_half_pixel" and count == 1:
        return 0.0
    return (k + 0.5) / scale - 0.5


def _round(rounding: str, at: float) -> int:
    if rounding == "floor":
        return math.floor(at)
    if rounding == "ceil":
        return math.ceil(at)
    if rounding == "round_prefer_ceil":
        return math.floor(at + 0.5)
    return math.ceil(at - 0.5)


def _tables(step: Step, c: Emitter, small: str, large: str) -> tuple[str, str]:
    attrs = step.op.attrs
    assert isinstance(attrs, ResizeAttrs)
    names = []
    for axis, label in enumerate(("rows", "columns")):
        entries = positions(attrs, axis, step.graph.shape(small)[axis], step.graph.shape(large)[axis])
        rows = [f"{{{low}, {high}, {c_float(weight)}}}" for low, high, weight in entries]
        names.append(c.table(f"{step.op.name}.{label}", "ft_resize_t", rows))
    return names[0], names[1]


class Resize(Operator):
    """y = x resized."""

    kind = "resize"

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        assert isinstance(op.attrs, ResizeAttrs)
        heights = (graph.shape(op.inputs[k])[0], graph.shape(op.outputs[0])[0])
        low, high, _ = positions(op.attrs, 0, *heights)[row]
        return low, high + 1

    def backward(self, op: Op, tape: Tape) -> None:
        x = op.inputs[0]
        if tape.wants(x):
            tape.contribute(x, Op("resize_grad", op.name, (tape.gradient(op.outputs[0]),), (), op.attrs))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        rows, columns = _tables(step, c, x, y)
        return (
            f"ft_resize_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {rows}, {columns}, {c.rows(step)});"
        )


class ResizeGrad(Operator):
    """dx = the transpose of the resizing, applied to dy."""

    kind = "resize_grad"

    def emit(self, step: Step, c: Emitter) -> str:
        dy, dx = step.op.inputs[0], step.op.outputs[0]
        rows, columns = _tables(step, c, dx, dy)
        return (
            f"ft_fill_zero_f32({c.pointer(dx)}, {step.graph.tensors[dx].count});\n"
            f"ft_resize_grad_f32({c.pointer(dy)}, {c.map(dy)}, {c.pointer(dx)}, {c.map(dx)},\n"
            f"    {rows}, {columns}, 0, {step.graph.shape(dy)[0]});"
        )
