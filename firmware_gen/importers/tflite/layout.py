"""Operators that only move values, of any type: RESHAPE, CONCATENATION, SPLIT, SLICE, TRANSPOSE, PAD, ..."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from firmware_gen.importers.builder import Builder
from firmware_gen.importers.moves import Move, Range, whole
from firmware_gen.importers.tflite.node import Node, TfliteTensor
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.layout import BlockSize

REFLECT = 0  # the schema's number
BATCH = -1


def axis_of(node: Node, axis: int, rank: int) -> int:
    """Return which of rows (0), columns (1), channels (2) an axis of the file is; BATCH: one in front."""
    if not -rank <= axis < rank:
        raise node.error(f"axis {axis} of {rank}")
    return max(axis % rank - rank + 3, BATCH)


def move_to(node: Node, builder: Builder, y: TfliteTensor) -> Move:
    """Return the move that ends with `y`."""
    return Move(builder, node.name, y.described(), y.rank, node.error)


# LiteRT refuses these with different scales; the others move the bits whatever the scales say.
SAME_SCALE = ("CONCATENATION", "EXPAND_DIMS", "MIRROR_PAD", "PACK", "PADV2", "UNPACK")


def _expect_same(node: Node, x: TfliteTensor, y: TfliteTensor) -> None:
    """Refuse an operator that would have to convert values while it moves them."""
    if x.dtype != y.dtype:
        raise node.error(f"from type {x.dtype} to {y.dtype}")
    if node.kind in SAME_SCALE and x.quantization != y.quantization:
        raise node.error(f"'{x.name}' and '{y.name}' have different scales; they must be the same")


def _reshape(node: Node, builder: Builder) -> None:
    x, y = node.tensor(0), node.outputs[0]
    _expect_same(node, x, y)
    move_to(node, builder, y).reshape(x.name)


def _concatenation(node: Node, builder: Builder) -> None:
    parts = [node.tensor(k) for k in range(len(node.inputs))]
    if node.options.FusedActivationFunction():
        raise node.error("a fused activation")
    axis = axis_of(node, node.options.Axis(), node.outputs[0].rank)
    for part in parts:
        if part.rank != node.outputs[0].rank:
            raise node.error(f"joining '{part.name}' of shape {part.dims} to {node.outputs[0].dims}")
        _expect_same(node, part, node.outputs[0])
    if axis == BATCH and len(parts) > 1:
        raise node.error("joining along the batch axis")
    move_to(node, builder, node.outputs[0]).join([part.name for part in parts], axis)


def _pack(node: Node, builder: Builder) -> None:
    y = node.outputs[0]
    move, axis = move_to(node, builder, y), axis_of(node, node.options.Axis(), y.rank)
    rows, columns, channels = (1 if k == axis else size for k, size in enumerate(move.y.shape))
    parts = []
    for position in range(len(node.inputs)):
        x = node.tensor(position)
        _expect_same(node, x, y)
        part = dataclasses.replace(
            move.y, name=f"{y.name}.part{position}", shape=(rows, columns, channels), source=""
        )
        dataclasses.replace(move, y=part).reshape(x.name)
        parts.append(part.name)
    if axis == BATCH and len(parts) > 1:
        raise node.error("stacking along the batch axis")
    move.join(parts, axis)


def _take(node: Node, builder: Builder, ranges: Sequence[Range], y: TfliteTensor) -> None:
    """Let `y` be the positions `ranges` of the axes of the file."""
    x = node.tensor(1 if node.kind == "SPLIT" else 0)
    _expect_same(node, x, y)
    padded = [*(whole(1) for _ in range(3)), *ranges]
    if any(r.count != 1 for r in padded[:-3]):
        raise node.error("positions of the batch axis")
    move_to(node, builder, y).take(x.name, padded[-3:])


def _whole(dims: Sequence[int]) -> list[Range]:
    return [whole(size) for size in dims]


def _split(node: Node, builder: Builder) -> None:
    x = node.tensor(1)
    axis = int(node.value(0).ravel()[0])
    axis_of(node, axis, x.rank)
    count = len(node.outputs)
    if x.dims[axis] % count:
        raise node.error(f"{x.dims[axis]} positions in {count} parts")
    _split_in(node, builder, x, axis % x.rank, [x.dims[axis] // count] * count)


def _split_v(node: Node, builder: Builder) -> None:
    x, sizes = node.tensor(0), [int(size) for size in node.value(1).ravel()]
    axis = int(node.value(2).ravel()[0])
    axis_of(node, axis, x.rank)
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = x.dims[axis] - sum(size for size in sizes if size != -1)
    if len(sizes) != len(node.outputs) or sum(sizes) != x.dims[axis]:
        raise node.error(f"{x.dims[axis]} positions in parts of {sizes}")
    _split_in(node, builder, x, axis % x.rank, sizes)


def _split_in(node: Node, builder: Builder, x: TfliteTensor, axis: int, sizes: Sequence[int]) -> None:
    first = 0
    for y, size in zip(node.outputs, sizes, strict=True):
        ranges = _whole(x.dims)
        ranges[axis] = Range(first, 1, size)
        _take(node, builder, ranges, y)
        first += size


def _unpack(node: Node, builder: Builder) -> None:
    x, axis = node.tensor(0), node.options.Axis()
    axis_of(node, axis, x.rank)
    if x.dims[axis] != len(node.outputs):
        raise node.error(f"{x.dims[axis]} positions to {len(node.outputs)} tensors")
    _split_in(node, builder, x, axis % x.rank, [1] * len(node.outputs))


def _slice(node: Node, builder: Builder) -> None:
    x = node.tensor(0)
    begins, sizes = ([int(v) for v in node.value(k).ravel()] for k in (1, 2))
    if not len(begins) == len(sizes) == x.rank:
        raise node.error(f"{len(begins)} beginnings and {len(sizes)} sizes for {x.rank} axes")
    ranges = [
        Range(begin, 1, dim - begin if size == -1 else size)
        for begin, size, dim in zip(begins, sizes, x.dims, strict=True)
    ]
    _take(node, builder, ranges, node.outputs[0])


def _strided_slice(node: Node, builder: Builder) -> None:
    x, options = node.tensor(0), node.options
    begins, ends, steps = ([int(v) for v in node.value(k).ravel()] for k in (1, 2, 3))
    if not len(begins) == len(ends) == len(steps) or 0 in steps:
        raise node.error(f"beginnings {begins}, ends {ends} and steps {steps}")
    if options.Offset():
        raise node.error("ends that count from the beginnings")
    new, ellipsis = options.NewAxisMask(), options.EllipsisMask()
    named = sum(not (new | ellipsis) >> k & 1 for k in range(len(begins)))
    ranges: list[Range] = []
    for k, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        if ellipsis >> k & 1:
            ranges += _whole(x.dims[len(ranges) : len(ranges) + x.rank - named])
        elif not new >> k & 1:
            if len(ranges) == x.rank:
                raise node.error(f"{len(begins)} ranges for {x.rank} axes")
            dim = x.dims[len(ranges)]
            low = None if options.BeginMask() >> k & 1 else begin
            high = None if options.EndMask() >> k & 1 else end
            if options.ShrinkAxisMask() >> k & 1:
                at = low if low is not None else 0
                ranges.append(Range(at + dim if at < 0 else at, 1, 1))
            else:
                positions = range(dim)[low:high:step]
                ranges.append(Range(positions.start, positions.step, len(positions)))
    _take(node, builder, ranges + _whole(x.dims[len(ranges) :]), node.outputs[0])


def _reverse(node: Node, builder: Builder) -> None:
    x, ranges = node.tensor(0), _whole(node.tensor(0).dims)
    for axis in node.value(1).ravel().tolist():
        axis_of(node, axis, x.rank)
        ranges[axis] = Range(x.dims[axis] - 1, -1, x.dims[axis])
    _take(node, builder, ranges, node.outputs[0])


def _transpose(node: Node, builder: Builder) -> None:
    x, y = node.tensor(0), node.outputs[0]
    _expect_same(node, x, y)
    order = [int(axis) for axis in node.value(1).ravel()]
    if sorted(order) != list(range(x.rank)):
        raise node.error(f"the order {order} of {x.rank} axes")
    move_to(node, builder, y).transpose(x.name, x.dims, order)


def _paddings(node: Node) -> list[tuple[int, int]]:
    """Return the positions before and behind the map's rows, columns and channels."""
    x, table = node.tensor(0), node.value(1)
    if table.shape != (x.rank, 2) or table.min(initial=0) < 0:
        raise node.error(f"paddings {table.tolist()} for a map of shape {x.dims}")
    pairs = [(0, 0)] * 3 + [(int(before), int(after)) for before, after in table]
    if any(pair != (0, 0) for pair in pairs[:-3]):
        raise node.error("padding of the batch axis")
    _expect_same(node, x, node.outputs[0])
    return pairs[-3:]


def _pad(node: Node, builder: Builder) -> None:
    x, y = node.tensor(0), node.outputs[0]
    pairs = _paddings(node)
    value = 0.0 if y.quantization is None else float(y.quantization.zero_point)
    if node.has(2):
        _expect_same(node, node.tensor(2), y)
        value = float(node.value(2).ravel()[0])
    move_to(node, builder, y).pad(x.name, pairs, value)


def _mirror_pad(node: Node, builder: Builder) -> None:
    edge = 1 if node.options.Mode() == REFLECT else 0
    pairs = _paddings(node)
    move_to(node, builder, node.outputs[0]).mirror(node.tensor(0).name, pairs, edge)


def _depth_to_space(node: Node, builder: Builder) -> None:
    x, y = node.tensor(0), node.outputs[0]
    _expect_same(node, x, y)
    height, width, channels = builder.shape(x.name)
    size = node.options.BlockSize()
    deep = node.kind == "DEPTH_TO_SPACE"
    if size < 1 or (channels % size**2 if deep else height % size or width % size):
        raise node.error(f"blocks of {size} for a map of shape {x.dims}")
    shape = (
        (height * size, width * size, channels // size**2)
        if deep
        else (height // size, width // size, channels * size**2)
    )
    move_to(node, builder, y).put(Lowered(node.kind.lower(), BlockSize(size)), x.name, shape)


CONVERTERS: dict[str, Callable[[Node, Builder], None]] = {
    "CONCATENATION": _concatenation,
    "DEPTH_TO_SPACE": _depth_to_space,
    "EXPAND_DIMS": _reshape,
    "MIRROR_PAD": _mirror_pad,
    "PACK": _pack,
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "REVERSE_V2": _reverse,
    "SLICE": _slice,
    "SPACE_TO_DEPTH": _depth_to_space,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
}
