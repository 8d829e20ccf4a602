"""ONNX operators that only move values.

Maps of the file are channels-first, (1, C), (1, C, L) or (1, C, H, W), those of the graph are rows, columns,
channels: an axis of the file is another one here, and the file's order of values is not ours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from fieldtune.errors import ModelError
from firmware_gen.graph import Shape, Tensor
from firmware_gen.importers.builder import MAX_AXIS, Builder, hwc
from firmware_gen.importers.moves import Move, Range, whole
from firmware_gen.importers.onnx_node import Node
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.layout import BlockSize

# The file's axes in the order rows, columns, channels of the graph, by the number of axes.
OUR_ORDER = {2: (1,), 3: (2, 1), 4: (2, 3, 1)}


def our_axis(axis: int, rank: int) -> int:
    """Return which of rows (0), columns (1), channels (2) an axis of the file is; not the batch."""
    order = OUR_ORDER[rank]
    return 3 - len(order) + order.index(axis)


def _dims(node: Node, builder: Builder) -> list[int]:
    """Return the shape that the file gives to the first input."""
    x = node.inputs[0]
    height, width, channels = builder.shape(x)
    return {2: [1, channels], 3: [1, channels, width], 4: [1, channels, height, width]}[builder.rank(x)]


def _move(node: Node, builder: Builder, dims: Sequence[int], output: int = 0) -> Move:
    """Return the move that ends with an output of shape `dims` in the file."""
    x, y = builder.tensor(node.inputs[0]), node.outputs[output]
    try:
        shape = hwc(dims, y)
    except ModelError as error:
        raise node.error(str(error)) from error
    tensor = Tensor(y, shape, x.dtype, x.quantization, y)
    return Move(builder, node.layer(), tensor, len(dims), node.error)


def _axis(node: Node, axis: int, rank: int) -> int:
    """Return an axis of the file that is not the batch, from the front."""
    if not -rank <= axis < rank or axis % rank == 0:
        raise node.error(f"axis {axis}; all but the batch (axis 0) can be handled")
    return axis % rank


def _ours(per_axis: Sequence[Range]) -> list[Range]:
    """Return the ranges of rows, columns and channels from those of the file's axes."""
    own = [per_axis[axis] for axis in OUR_ORDER[len(per_axis)]]
    return [*(whole(1) for _ in range(3 - len(own))), *own]


def _concat(node: Node, builder: Builder) -> None:
    rank = builder.rank(node.inputs[0])
    axis = _axis(node, int(node.get("axis", 1)), rank)
    if any(builder.rank(x) != rank for x in node.inputs):
        raise node.error("maps with different numbers of axes")
    shapes = [builder.shape(x) for x in node.inputs]
    ours = our_axis(axis, rank)
    dims = _dims(node, builder)
    dims[axis] = sum(shape[ours] for shape in shapes)
    _move(node, builder, dims).join(node.inputs, ours)


def _split(node: Node, builder: Builder) -> None:
    dims = _dims(node, builder)
    axis = _axis(node, int(node.get("axis", 0)), len(dims))
    count = len(node.outputs)
    part = -(-dims[axis] // count)
    sizes = [part] * (count - 1) + [dims[axis] - part * (count - 1)]
    if node.has(1):
        sizes = [int(size) for size in node.value(1).ravel()]
    elif node.get("split", None):
        sizes = [int(size) for size in node.get("split", ())]
    if len(sizes) != count or sum(sizes) != dims[axis] or min(sizes) < 1:
        raise node.error(f"{dims[axis]} positions in parts of {sizes}")
    first = 0
    for output, size in enumerate(sizes):
        ranges = [whole(size) for size in dims]
        ranges[axis] = Range(first, 1, size)
        first += size
        if node.outputs[output]:
            own = [r.count for r in ranges]
            _move(node, builder, own, output).take(node.inputs[0], _ours(ranges))


def _slice(node: Node, builder: Builder) -> None:
    dims = _dims(node, builder)
    if node.has(1):
        starts, ends = (node.value(k).ravel().tolist() for k in (1, 2))
    else:
        starts, ends = list(node.get("starts", ())), list(node.get("ends", ()))
    axes = node.value(3).ravel().tolist() if node.has(3) else list(node.get("axes", range(len(starts))))
    steps = node.value(4).ravel().tolist() if node.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.error(f"starts {starts}, ends {ends}, axes {axes} and steps {steps}")
    ranges = [whole(size) for size in dims]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -len(dims) <= axis < len(dims):
            raise node.error(f"axis {axis} of {len(dims)}")
        positions = range(dims[axis])[int(start) : int(end) : int(step)]
        ranges[axis] = Range(positions.start, positions.step, len(positions))
    if ranges[0].count != 1 or any(r.count < 1 for r in ranges):
        raise node.error(f"an empty part of a map of shape {tuple(dims)}")
    _move(node, builder, [r.count for r in ranges]).take(node.inputs[0], _ours(ranges))


def _pad(node: Node, builder: Builder) -> None:
    dims, mode = _dims(node, builder), node.get("mode", "constant")
    pads = node.value(1).ravel().tolist() if node.has(1) else list(node.get("pads", ()))
    axes = node.value(3).ravel().tolist() if node.has(3) else list(range(len(dims)))
    if len(pads) != 2 * len(axes) or any(not -len(dims) <= axis < len(dims) for axis in axes):
        raise node.error(f"pads {pads} of the axes {axes}")
    by_axis = [(0, 0)] * len(dims)
    for k, axis in enumerate(axes):
        by_axis[axis] = (int(pads[k]), int(pads[k + len(axes)]))
    amounts = [amount for pair in by_axis for amount in pair]
    if by_axis[0] != (0, 0) or min(amounts) < 0 or max(amounts) > MAX_AXIS:
        raise node.error(f"pads {pads}; positive ones of all axes but the batch can be handled")
    own = [by_axis[axis] for axis in OUR_ORDER[len(dims)]]
    pairs = [*((0, 0) for _ in range(3 - len(own))), *own]
    move = _move(node, builder, [sum(pair) + size for pair, size in zip(by_axis, dims, strict=True)])
    x = node.inputs[0]
    if mode == "constant":
        value = float(node.value(2).ravel()[0]) if node.has(2) else float(node.get("value", 0.0))
        move.pad(x, pairs, value)
    elif mode == "reflect":
        move.mirror(x, pairs, edge=1)
    elif mode == "edge" and pairs[2] == (0, 0):
        height, width, _ = builder.shape(x)
        move.gather(x, _clamped(height, pairs[0]), _clamped(width, pairs[1]))
    else:
        raise node.error(f"mode {mode} with pads {pads}")


def _clamped(size: int, border: tuple[int, int]) -> list[int]:
    return [min(max(k, 0), size - 1) for k in range(-border[0], size + border[1])]


def _transpose(node: Node, builder: Builder) -> None:
    dims = _dims(node, builder)
    rank = len(dims)
    order = [int(axis) for axis in node.get("perm", range(rank - 1, -1, -1))]
    if sorted(order) != list(range(rank)):
        raise node.error(f"the order {order} of {rank} axes")
    move = _move(node, builder, [dims[axis] for axis in order])
    # Both sides in the graph's order, the batch in front.
    axes = (0, *OUR_ORDER[rank])
    sizes = [dims[axis] for axis in axes]
    move.transpose(node.inputs[0], sizes, [axes.index(order[axis]) for axis in axes])


def _depth_to_space(node: Node, builder: Builder) -> None:
    height, width, channels = builder.shape(node.inputs[0])
    size, deep = int(node.get("blocksize", 0)), node.kind == "DepthToSpace"
    if builder.rank(node.inputs[0]) != 4 or size < 1:
        raise node.error(f"blocks of {size} for a map of {builder.rank(node.inputs[0])} axes")
    if channels % size**2 if deep else height % size or width % size:
        raise node.error(f"blocks of {size} for a map of {height} x {width} x {channels}")
    shape = (
        (height * size, width * size, channels // size**2)
        if deep
        else (height // size, width // size, channels * size**2)
    )
    attrs = BlockSize(size, depth_first=deep and node.get("mode", "DCR") == "CRD")
    lowered = Lowered("depth_to_space" if deep else "space_to_depth", attrs)
    _move(node, builder, [1, shape[2], shape[0], shape[1]]).put(lowered, node.inputs[0], shape)


def _reshape(node: Node, builder: Builder) -> None:
    x = node.inputs[0]
    old = _dims(node, builder)
    dims = _new_dims(node, old)
    if math.prod(dims) != math.prod(old):
        raise node.error(f"a map of shape {tuple(old)} as {tuple(dims)}")
    y = _move(node, builder, dims).y
    flat: Shape = (1, 1, y.count)
    if builder.shape(x) not in (y.shape, flat):
        # The file's order of values is that of the channels-first map.
        vector = dataclasses.replace(y, shape=flat)
        if y.shape != flat:
            vector = dataclasses.replace(vector, name=f"{y.name}.flat", source="")
        builder.put(Lowered("channels_first"), node.layer(), (x,), vector, rank=2)
        x = vector.name
    if y.shape != builder.shape(x):
        builder.put(Lowered("from_channels_first"), node.layer(), (x,), y, len(dims))
    elif x != y.name:
        builder.alias(y.name, x, len(dims))


def _new_dims(node: Node, old: list[int]) -> list[int]:
    rank = len(old)
    if node.kind == "Flatten":
        axis = int(node.get("axis", 1)) % (rank + 1)
        return [math.prod(old[:axis]), math.prod(old[axis:])]
    if node.kind in ("Squeeze", "Unsqueeze"):
        raw = node.value(1).ravel().tolist() if node.has(1) else list(node.get("axes", []))
        if node.kind == "Squeeze":
            axes = {int(a) % rank for a in raw} or {k for k in range(1, rank) if old[k] == 1}
            if any(old[axis] != 1 for axis in axes):
                raise node.error(f"squeezing the axes {sorted(axes)} of {tuple(old)}")
            return [d for k, d in enumerate(old) if k not in axes]
        dims = list(old)
        for axis in sorted(int(a) % (rank + len(raw)) for a in raw):
            dims.insert(axis, 1)
        return dims
    wanted = [int(v) for v in node.value(1).ravel()]
    dims = [old[k] if v == 0 and k < rank else v for k, v in enumerate(wanted)]
    if dims.count(-1) == 1:
        rest = math.prod(d for d in dims if d != -1)
        dims[dims.index(-1)] = math.prod(old) // rest if rest else 0
    return dims


CONVERTERS: dict[str, Callable[[Node, Builder], None]] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Flatten": _reshape,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _depth_to_space,
    "Split": _split,
    "Squeeze": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
