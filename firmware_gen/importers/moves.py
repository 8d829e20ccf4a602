"""Adds operators that only move values to a graph, whatever the file format."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fieldtune.errors import ModelError
from firmware_gen.graph import Shape, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.base import Channels, Lowered
from firmware_gen.operators.layout import Along, Axes, Border, Positions, Strides

Pairs = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Range:
    """`count` positions of an axis: start, start + step, ..."""

    start: int
    step: int
    count: int


def whole(size: int) -> Range:
    """Return all positions of an axis."""
    return Range(0, 1, size)


@dataclass(frozen=True)
class Move:
    """A node that moves values, and the tensor with which it ends.

    `rank`: number of axes of `y` in the file; `error` makes the error that names the node. All methods raise
    ModelError where the file contradicts itself.
    """

    builder: Builder
    layer: str
    y: Tensor
    rank: int
    error: Callable[[str], ModelError]

    def put(self, lowered: Lowered, x: str, shape: Shape) -> None:
        """Add an operator that makes a map of `shape`; y is that map, or the same values in another shape."""
        if self.y.count != math.prod(shape):
            raise self.error(f"a result of shape {self.y.shape} where {shape} was expected")
        if self.y.shape == shape:
            self.builder.put(lowered, self.layer, (x,), self.y, self.rank)
        else:
            self.reshape(self._step(lowered, x, shape, "moved"))

    def reshape(self, x: str) -> None:
        """Let y be the values of x in the same order."""
        tensor = self.builder.tensor(x)
        if self.y.count != tensor.count:
            raise self.error(f"{tensor.count} values in the shape {self.y.shape}")
        if (self.y.shape, self.y.quantization) == (tensor.shape, tensor.quantization):
            self.builder.alias(self.y.name, x, self.rank)
        else:
            self.builder.put(Lowered("reshape"), self.layer, (x,), self.y, self.rank)

    def take(self, x: str, ranges: Sequence[Range]) -> None:
        """Let y be these rows, columns and channels of x."""
        size = self.builder.shape(x)
        for r, positions in zip(ranges, size, strict=True):
            last = r.start + (r.count - 1) * r.step
            if r.count < 1 or not (0 <= r.start < positions and 0 <= last < positions):
                raise self.error(f"positions {r.start} to {last} of {positions}")
        rows, columns, channels = ranges
        shape = (rows.count, columns.count, channels.count)
        if all(r == whole(positions) for r, positions in zip(ranges, size, strict=True)):
            self.reshape(x)
        elif shape[:2] == size[:2] and rows.step == columns.step == channels.step == 1:
            self.put(Lowered("slice", Channels(channels.start, channels.start + channels.count)), x, shape)
        else:
            start = (rows.start, columns.start, channels.start)
            step = (rows.step, columns.step, channels.step)
            self.put(Lowered("strided_slice", Strides(start, step)), x, shape)

    def join(self, parts: Sequence[str], axis: int) -> None:
        """Let y be the parts one behind the other along rows (0), columns (1) or channels (2)."""
        shapes = [self.builder.shape(part) for part in parts]
        if len(parts) == 1:
            self.reshape(parts[0])
            return
        joined = list(shapes[0])
        joined[axis] = sum(shape[axis] for shape in shapes)
        others = [k for k in range(3) if k != axis]
        if self.y.shape != tuple(joined) or any(shape[k] != joined[k] for shape in shapes for k in others):
            raise self.error(f"joining maps of shapes {shapes} to {self.y.shape}")
        lowered = Lowered("concat") if axis == 2 else Lowered("stack", Along(0 if axis == 0 else 1))
        self.builder.put(lowered, self.layer, parts, self.y, self.rank)

    def transpose(self, x: str, sizes: Sequence[int], order: Sequence[int]) -> None:
        """Let axis k of y be axis order[k] of x; `sizes` are those of x, in the order of our layout.

        There may be more than three axes, since those of one position move no value.
        """
        long = [axis for axis, size in enumerate(sizes) if size > 1]
        moved = [long.index(axis) for axis in order if axis in long]
        if moved == sorted(moved):
            self.reshape(x)
            return
        front = 3 - len(long)
        a, b, c = [1] * front + [sizes[axis] for axis in long]
        axes = [*range(front), *(front + k for k in moved)]
        if self.builder.shape(x) != (a, b, c):
            x = self._step(Lowered("reshape"), x, (a, b, c), "axes")
        shape = ((a, b, c)[axes[0]], (a, b, c)[axes[1]], (a, b, c)[axes[2]])
        self.put(Lowered("transpose", Axes((axes[0], axes[1], axes[2]))), x, shape)

    def pad(self, x: str, pairs: Pairs, value: float) -> None:
        """Let y be x in a border of `value`; `pairs`: positions before and behind rows, columns, channels."""
        (top, bottom), (left, right), (first, last) = pairs
        height, width, channels = self.builder.shape(x)
        shape = (height + top + bottom, width + left + right, channels + first + last)
        if max(pairs) == min(pairs) == (0, 0):
            self.reshape(x)
        else:
            self.put(Lowered("pad", Border((top, left, first), value)), x, shape)

    def gather(self, x: str, rows: Sequence[int], columns: Sequence[int]) -> None:
        """Let y repeat these rows and columns of x."""
        shape = (len(rows), len(columns), self.builder.shape(x)[2])
        self.put(Lowered("gather", Positions(tuple(rows), tuple(columns))), x, shape)

    def mirror(self, x: str, pairs: Pairs, edge: int) -> None:
        """Let y be x in a border that mirrors it; `edge` 1: the outermost positions are not doubled."""
        height, width, _ = self.builder.shape(x)
        rows, columns, channels = pairs
        if channels != (0, 0) or max(rows) > height - edge or max(columns) > width - edge:
            raise self.error(f"a mirrored border of {rows} rows, {columns} columns and {channels} channels")
        self.gather(x, _mirrored(height, rows, edge), _mirrored(width, columns, edge))

    def _step(self, lowered: Lowered, x: str, shape: Shape, suffix: str) -> str:
        """Add an operator on the way to y; return its output."""
        tensor = dataclasses.replace(self.y, name=f"{self.y.name}.{suffix}", shape=shape, source="")
        self.builder.put(lowered, self.layer, (x,), tensor)
        return tensor.name


def _mirrored(size: int, border: tuple[int, int], edge: int) -> tuple[int, ...]:
    before, after = border
    return (
        *range(before - 1 + edge, edge - 1, -1),
        *range(size),
        *range(size - 1 - edge, size - 1 - edge - after, -1),
    )
