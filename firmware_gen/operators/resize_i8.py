"""Resizing as TFLite's reference kernels do: bilinear int8 (C: kernels/resize_i8.h), nearest of any type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from firmware_gen.fixed_point import round_half_away
from firmware_gen.graph import Graph, Op, Shape
from firmware_gen.operators.base import Emitter, Lowered, Operator, Rows
from firmware_gen.operators.layout import Positions
from firmware_gen.window import Pair

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

Neighbours = tuple[int, int, int]
ONE = 1 << 10  # weights and positions have 10 bits behind the point


@dataclass(frozen=True)
class ResizeAttrsI8:
    """How output positions map to input positions (TFLite's options)."""

    align_corners: bool
    half_pixel_centers: bool


@dataclass(frozen=True)
class Bilinear:
    """For each row and column of the output: (low, high, weight of high out of 1024) in the input."""

    rows: tuple[Neighbours, ...]
    columns: tuple[Neighbours, ...]


class ResizeI8(Operator):
    """y = x, bilinear."""

    kind = "resize_i8"

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        assert isinstance(op.attrs, Bilinear)
        low, high, _ = op.attrs.rows[row]
        return low, high + 1

    def emit(self, step: Step, c: Emitter) -> str:
        attrs = step.op.attrs
        assert isinstance(attrs, Bilinear)
        x, y = step.op.inputs[0], step.op.outputs[0]
        tables = []
        for label, entries in (("rows", attrs.rows), ("columns", attrs.columns)):
            rows = [f"{{{low}, {high}, {weight}}}" for low, high, weight in entries]
            tables.append(c.table(f"{step.op.name}.{label}", "ft_resize_i8_t", rows))
        return (
            f"ft_resize_i8({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {tables[0]}, {tables[1]}, {c.rows(step)});"
        )


def lower_bilinear(shape: Shape, size: Pair, attrs: ResizeAttrsI8) -> Lowered:
    """Return the resizing of an int8 map of `shape` to `size` rows and columns as TFLite does it."""
    rows, columns = (bilinear(shape[axis], size[axis], attrs) for axis in (0, 1))
    return Lowered("resize_i8", Bilinear(rows, columns))


def bilinear(size: int, count: int, attrs: ResizeAttrsI8) -> tuple[Neighbours, ...]:
    """Return (low, high, weight of high out of 1024) of `count` positions on an axis of `size` inputs."""
    if attrs.align_corners and count > 1:
        scale = (ONE * (size - 1) + (count - 1) // 2) // (count - 1)
    else:
        scale = (ONE * size + count // 2) // count
    table = []
    for k in range(count):
        at = k * scale + (scale // 2 - ONE // 2 if attrs.half_pixel_centers else 0)
        # A position before the first or behind the last input reads that input alone.
        low, high = min(max(at // ONE, 0), size - 1), min(max(-(-at // ONE), 0), size - 1)
        table.append((low, high, at - low * ONE if low < high else 0))
    return tuple(table)


def lower_nearest(shape: Shape, size: Pair, attrs: ResizeAttrsI8) -> Lowered:
    """Return the resizing of a map of `shape` to `size` rows and columns: nearest neighbours, any type."""
    rows, columns = (nearest(shape[axis], size[axis], attrs) for axis in (0, 1))
    return Lowered("gather", Positions(rows, columns))


def nearest(size: int, count: int, attrs: ResizeAttrsI8) -> tuple[int, ...]:
    """Return the nearest of `size` inputs to each of `count` outputs, in TFLite's single precision."""
    if attrs.align_corners and count > 1:
        scale = np.float32(size - 1) / np.float32(count - 1)
    else:
        scale = np.float32(size) / np.float32(count)
    offset = np.float32(0.5 if attrs.half_pixel_centers else 0)
    at = (np.arange(count, dtype=np.float32) + offset) * scale
    whole = round_half_away(at) if attrs.align_corners else np.floor(at)
    return tuple(int(position) for position in np.clip(whole, 0, size - 1))
