"""Operators that only move values, of whatever type (C: kernels/layout.h)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from firmware_gen.c_text import c_float
from firmware_gen.graph import ITEM_BITS, Graph, Op, Shape
from firmware_gen.operators.base import Channels, Emitter, Operator, Rows, Tape

if TYPE_CHECKING:
    from firmware_gen.schedule import Step
    from firmware_gen.storage import View

Triple = tuple[int, int, int]
C_TYPES = {"f32": "float", "i32": "int32_t", "i16": "int16_t", "i8": "int8_t", "u8": "uint8_t"}


@dataclass(frozen=True)
class Walk:
    """Positions in a map that three nested loops visit.

    The loops begin at `start` (row, column, channel); loop k goes along the axis `axes[k]` in steps of
    `steps[k]`, which may be negative.
    """

    start: Triple = (0, 0, 0)
    axes: Triple = (0, 1, 2)
    steps: Triple = (1, 1, 1)


@dataclass(frozen=True)
class Block:
    """`counts` values that move from the input's positions to the output's."""

    counts: Triple
    source: Walk = Walk()
    target: Walk = Walk()

    @property
    def inverse(self) -> Block:
        """The same values moving back."""
        return Block(self.counts, self.target, self.source)


def _item_bytes(step: Step, tensor: str) -> int:
    return ITEM_BITS[step.graph.tensors[tensor].dtype] // 8


def _copy(step: Step, c: Emitter, x: str, y: str, block: Block) -> str:
    """Return the ft_copy call that moves `block` from the map `x` to the map `y`.

    A step that makes bands moves the same rows of both.
    """
    pointers, strides = [], []
    banded = step.chain is not None
    first, end = c.rows(step).split(", ")
    for name, walk in ((x, block.source), (y, block.target)):
        of_axis = (*c.strides(name), 1)
        offset = sum(at * stride for at, stride in zip(walk.start, of_axis, strict=True))
        offsets = [f"{first} * {of_axis[0]}"] * banded + [str(offset)] * (offset != 0)
        pointers.append(" + ".join((c.pointer(name), *offsets)))
        strides.append([step * of_axis[axis] for step, axis in zip(walk.steps, walk.axes, strict=True)])
    loops: list[tuple[int | str, int, int]] = [*_merged(zip(block.counts, *strides, strict=True))]
    if banded:
        row = zip((1, *block.counts[1:]), *strides, strict=True)
        loops = [(f"{end} - {first}", strides[0][0], strides[1][0]), *_merged(row)[1:]]
    counts, xs, ys = (f"(ft_loops_t){{{', '.join(map(str, n))}}}" for n in zip(*loops, strict=True))
    return f"ft_copy({pointers[0]}, {xs}, {pointers[1]}, {ys},\n    {counts}, {_item_bytes(step, x)});"


def _merged(loops: Iterable[Triple]) -> list[Triple]:
    """Return three loops (count, stride in x, stride in y); one that continues another has joined it."""
    kept: list[Triple] = []
    for count, xs, ys in loops:
        if count == 1:
            continue
        if kept and kept[-1][1:] == (xs * count, ys * count):
            kept[-1] = (kept[-1][0] * count, xs, ys)
        else:
            kept.append((count, xs, ys))
    return [(1, 1, 1)] * (3 - len(kept)) + kept


def _fill(step: Step, c: Emitter, y: str, value: float) -> str:
    """Return the ft_fill call that sets all of `y` to `value`."""
    dtype = step.graph.tensors[y].dtype
    literal = c_float(value) if dtype == "f32" else str(int(value))
    one = f"&(const {C_TYPES[dtype]}){{{literal}}}"
    return f"ft_fill({c.pointer(y)}, {c.map(y)}, {one}, {_item_bytes(step, y)}, {c.rows(step)});"


class Move(Operator):
    """An operator whose output consists of blocks of its input: a value goes to one place at most."""

    @abstractmethod
    def blocks(self, op: Op, graph: Graph) -> tuple[Block, ...]:
        """Return the blocks."""

    def backward(self, op: Op, tape: Tape) -> None:
        x = op.inputs[0]
        if tape.wants(x):
            tape.contribute(x, moved_back(op.name, tape.gradient(op.outputs[0]), self.blocks(op, tape.graph)))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return "\n".join(_copy(step, c, x, y, block) for block in self.blocks(step.op, step.graph))


def handed_on(name: str, dy: str, shape: Shape) -> Op:
    """Return the operator that makes the gradient `dy` of one map that of another one of the same `shape`."""
    return Op("slice", name, (dy,), (), Channels(0, shape[2]))


def moved_back(name: str, dy: str, blocks: Iterable[Block]) -> Op:
    """Return the operator that brings the gradient `dy` of what `blocks` moved back to where it came from."""
    return Op("move_back", name, (dy,), (), MoveBack(tuple(block.inverse for block in blocks)))


def channel_block(shape: Shape, first: int) -> Block:
    """Return the block of a map of `shape` that begins at channel `first` of another one."""
    return Block(shape, Walk((0, 0, first)))


@dataclass(frozen=True)
class MoveBack:
    """The way from the gradient of a move's output to that of its input."""

    blocks: tuple[Block, ...]


class MoveGrad(Move):
    """dx = dy at the positions whose values were moved, 0 elsewhere."""

    kind = "move_back"

    def blocks(self, op: Op, graph: Graph) -> tuple[Block, ...]:
        assert isinstance(op.attrs, MoveBack)
        return op.attrs.blocks

    def emit(self, step: Step, c: Emitter) -> str:
        moves, dx = super().emit(step, c), step.op.outputs[0]
        height, width, channels = step.graph.shape(dx)
        moved = sum(a * b * n for a, b, n in (block.counts for block in self.blocks(step.op, step.graph)))
        return moves if moved == height * width * channels else f"{_fill(step, c, dx, 0)}\n{moves}"


class Slice(Move):
    """y = a range of x's channels; a view wherever the host does not want the values densely."""

    kind = "slice"
    row_by_row = True

    def backward(self, op: Op, tape: Tape) -> None:
        if tape.wants(op.inputs[0]):
            tape.contribute_channels(op.inputs[0], tape.gradient(op.outputs[0]), _channels(op))

    def view(self, op: Op, graph: Graph, base: View) -> View:
        return replace(base, channel=base.channel + _channels(op).first)

    def blocks(self, op: Op, graph: Graph) -> tuple[Block, ...]:
        return (channel_block(graph.shape(op.outputs[0]), _channels(op).first),)

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return "" if c.inside(y, x, _channels(step.op).first) else super().emit(step, c)


def _channels(op: Op) -> Channels:
    assert isinstance(op.attrs, Channels)
    return op.attrs


@dataclass(frozen=True)
class OneLayer:
    """The attribute of a concatenation whose inputs are parts of one layer: always made in place."""


class Concat(Operator):
    """y = the inputs' channels side by side. An input that the plan placed inside y needs no copy."""

    kind = "concat"
    row_by_row = True
    leaves_parts = True

    def backward(self, op: Op, tape: Tape) -> None:
        dy, first = tape.gradient(op.outputs[0]), 0
        for x in op.inputs:
            channels = Channels(first, first + tape.graph.shape(x)[2])
            if tape.wants(x):
                tape.contribute(x, Op("slice", op.name, (dy,), (), channels))
            first = channels.end

    def emit(self, step: Step, c: Emitter) -> str:
        y = step.op.outputs[0]
        lines, first = [], 0
        for x in step.op.inputs:
            if not c.inside(x, y, first):
                block = Block(step.graph.shape(x), target=Walk((0, 0, first)))
                lines.append(_copy(step, c, x, y, block))
            first += step.graph.shape(x)[2]
        return "\n".join(lines)


@dataclass(frozen=True)
class Along:
    """An axis: 0 rows, 1 columns."""

    axis: Literal[0, 1]


class Stack(Operator):
    """y = the inputs' rows, or columns, one behind the other."""

    kind = "stack"

    def backward(self, op: Op, tape: Tape) -> None:
        dy = tape.gradient(op.outputs[0])
        for x, start in _stacked(op, tape.graph):
            if tape.wants(x):
                tape.contribute(x, Op("strided_slice", op.name, (dy,), (), Strides(start)))

    def emit(self, step: Step, c: Emitter) -> str:
        y = step.op.outputs[0]
        return "\n".join(
            _copy(step, c, x, y, Block(step.graph.shape(x), target=Walk(start)))
            for x, start in _stacked(step.op, step.graph)
        )


def _stacked(op: Op, graph: Graph) -> list[tuple[str, Triple]]:
    """Return the inputs and where in the output each begins."""
    assert isinstance(op.attrs, Along)
    axis, first = op.attrs.axis, 0
    placed: list[tuple[str, Triple]] = []
    for x in op.inputs:
        placed.append((x, (first, 0, 0) if axis == 0 else (0, first, 0)))
        first += graph.shape(x)[axis]
    return placed


class Reshape(Operator):
    """The same values in the same order in another shape; a view of x where x lies densely."""

    kind = "reshape"

    def view(self, op: Op, graph: Graph, base: View) -> View | None:
        if not _dense(graph.shape(op.inputs[0]), base.row, base.pixel):
            return None
        _, width, channels = graph.shape(op.outputs[0])
        return replace(base, pixel=channels, row=width * channels)

    def backward(self, op: Op, tape: Tape) -> None:
        x = op.inputs[0]
        if tape.wants(x):
            tape.contribute(x, Op("reshape", op.name, (tape.gradient(op.outputs[0]),), ()))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        if c.inside(y, x):
            return ""
        return f"ft_reshape({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)}, {_item_bytes(step, x)});"


class ChannelsFirst(Move):
    """A map flattened the way channels-first models do it: (h, w, c) -> (1, 1, c * h * w)."""

    kind = "channels_first"

    def blocks(self, op: Op, graph: Graph) -> tuple[Block, ...]:
        return (_flattened(graph.shape(op.inputs[0])),)


class FromChannelsFirst(Move):
    """A channels-first vector as (h, w, c)."""

    kind = "from_channels_first"

    def blocks(self, op: Op, graph: Graph) -> tuple[Block, ...]:
        return (_flattened(graph.shape(op.outputs[0])).inverse,)


def _flattened(shape: Shape) -> Block:
    """Return the block that moves a map of `shape` to a vector, channel by channel."""
    height, width, channels = shape
    vector = Walk(axes=(2, 2, 2), steps=(height * width, width, 1))
    return Block((channels, height, width), Walk(axes=(2, 0, 1)), vector)


@dataclass(frozen=True)
class Axes:
    """A permutation: the output's axis k is the input's axis `order[k]`."""

    order: Triple


class Transpose(Move):
    """y = x with its rows, columns and channels exchanged."""

    kind = "transpose"

    def blocks(self, op: Op, graph: Graph) -> tuple[Block, ...]:
        assert isinstance(op.attrs, Axes)
        return (Block(graph.shape(op.outputs[0]), Walk(axes=op.attrs.order)),)


@dataclass(frozen=True)
class Strides:
    """Output position k reads the input's position start + k * step, for (rows, columns, channels)."""

    start: Triple
    step: Triple = (1, 1, 1)


class StridedSlice(Move):
    """y = every so many-th row, column and channel of x, from somewhere on, forwards or backwards."""

    kind = "strided_slice"

    def blocks(self, op: Op, graph: Graph) -> tuple[Block, ...]:
        assert isinstance(op.attrs, Strides)
        return (Block(graph.shape(op.outputs[0]), Walk(op.attrs.start, steps=op.attrs.step)),)


@dataclass(frozen=True)
class Border:
    """Rows, columns and channels before the first; what lies there and behind the last has one value."""

    before: Triple
    value: float = 0.0


class Pad(Move):
    """y = x in a border of one value."""

    kind = "pad"

    def blocks(self, op: Op, graph: Graph) -> tuple[Block, ...]:
        assert isinstance(op.attrs, Border)
        return (Block(graph.shape(op.inputs[0]), target=Walk(op.attrs.before)),)

    def emit(self, step: Step, c: Emitter) -> str:
        assert isinstance(step.op.attrs, Border)
        return f"{_fill(step, c, step.op.outputs[0], step.op.attrs.value)}\n{super().emit(step, c)}"


@dataclass(frozen=True)
class BlockSize:
    """Rows and columns that lie in one pixel's channels.

    Channel (row * size + column) * depth + c holds channel c of that row and column; with `depth_first`,
    channel c * size**2 + row * size + column does.
    """

    size: int
    depth_first: bool = False


class DepthToSpace(Move):
    """(h, w, size**2 * c) -> (h * size, w * size, c)."""

    kind = "depth_to_space"

    def blocks(self, op: Op, graph: Graph) -> tuple[Block, ...]:
        return _unfolded(op, graph.shape(op.inputs[0]), graph.shape(op.outputs[0])[2])


class SpaceToDepth(Move):
    """(h * size, w * size, c) -> (h, w, size**2 * c)."""

    kind = "space_to_depth"

    def blocks(self, op: Op, graph: Graph) -> tuple[Block, ...]:
        back = _unfolded(op, graph.shape(op.outputs[0]), graph.shape(op.inputs[0])[2])
        return tuple(block.inverse for block in back)


def _unfolded(op: Op, deep: Shape, depth: int) -> tuple[Block, ...]:
    assert isinstance(op.attrs, BlockSize)
    size, area = op.attrs.size, op.attrs.size**2
    stride = area if op.attrs.depth_first else 1
    return tuple(
        Block(
            (deep[0], deep[1], depth),
            Walk((0, 0, k if op.attrs.depth_first else k * depth), steps=(1, 1, stride)),
            Walk((k // size, k % size, 0), steps=(size, size, 1)),
        )
        for k in range(area)
    )


@dataclass(frozen=True)
class Positions:
    """The rows and columns of the input that the rows and columns of the output repeat."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]


class Gather(Operator):
    """y[row][column] = x[rows[row]][columns[column]]: nearest neighbours, mirrored borders."""

    kind = "gather"

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        assert isinstance(op.attrs, Positions)
        return op.attrs.rows[row], op.attrs.rows[row] + 1

    def backward(self, op: Op, tape: Tape) -> None:
        x = op.inputs[0]
        if tape.wants(x):
            tape.contribute(x, Op("gather_grad", op.name, (tape.gradient(op.outputs[0]),), (), op.attrs))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        rows, columns = (
            c.table(f"{step.op.name}.{label}", "uint16_t", [str(at) for at in positions])
            for label, positions in _positions(step.op)
        )
        return (
            f"ft_gather_pixels({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)}, {rows}, {columns},\n"
            f"    {_item_bytes(step, x)}, {c.rows(step)});"
        )


def _positions(op: Op) -> tuple[tuple[str, tuple[int, ...]], ...]:
    assert isinstance(op.attrs, Positions)
    return ("rows", op.attrs.rows), ("columns", op.attrs.columns)


class GatherGrad(Operator):
    """dx = the sum of dy over the places where a position was repeated (C: kernels/resize.h)."""

    kind = "gather_grad"

    def emit(self, step: Step, c: Emitter) -> str:
        dy, dx = step.op.inputs[0], step.op.outputs[0]
        rows, columns = (
            c.table(f"{step.op.name}.{label}_grad", "ft_resize_t", [f"{{{k}, {k}, 0.0f}}" for k in positions])
            for label, positions in _positions(step.op)
        )
        return (
            f"ft_fill_zero_f32({c.pointer(dx)}, {step.graph.tensors[dx].count});\n"
            f"ft_resize_grad_f32({c.pointer(dy)}, {c.map(dy)}, {c.pointer(dx)}, {c.map(dx)},\n"
            f"    {rows}, {columns}, 0, {step.graph.shape(dy)[0]});"
        )


def _dense(shape: Shape, row: int, pixel: int) -> bool:
    height, width, channels = shape
    return (width == 1 or pixel == channels) and (height == 1 or row == width * channels)
