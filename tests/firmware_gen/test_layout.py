"""Operators of TFLite files that only move values, against LiteRT's reference kernels, to the bit.

Each family draws a shape and says what the operator makes of it; LiteRT refuses models whose output has
another shape than it computes, so numpy's answer here is checked as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from int8_proof import prove
from tflite_pieces import Piece, side_by_side
from tflite_writer import Array, Operation, Value

CASES = 12
DTYPES = ("i8", "f32")
Random = np.random.Generator
Shape = tuple[int, ...]
SCALE = {"scale": 0.1, "zero_point": 3}


def integers(name: str, values: Sequence[int] | Array) -> Value:
    """Return a constant of the file."""
    return Value(name, dtype="i32", data=np.asarray(values, np.int32))


def tensor(name: str, shape: Sequence[int], dtype: str) -> Value:
    """Return an activation of the file."""
    return Value(name, tuple(int(size) for size in shape), dtype, **({} if dtype == "f32" else SCALE))


def model(
    values: Sequence[Value], operations: Sequence[Operation], inputs: Sequence[str], outputs: Sequence[str]
) -> Piece:
    """Return a piece whose `inputs`, of any shape, are made from vectors with a batch of one.

    Something is always computed, even where the operators under test move nothing.
    """
    shapes = {value.name: value for value in values}
    before: list[Operation] = []
    more: list[Value] = [integers("second", [0, 1]), integers("rest", [-1, -1])]
    for name in inputs:
        x = shapes[name]
        count = int(np.prod(x.shape))
        more += [tensor(f"{name}.in", (1, count + 1), x.dtype), tensor(f"{name}.cut", (1, count), x.dtype)]
        more.append(integers(f"{name}.shape", x.shape))
        before.append(Operation("SLICE", [f"{name}.in", "second", "rest"], [f"{name}.cut"]))
        before.append(Operation("RESHAPE", [f"{name}.cut", f"{name}.shape"], [name]))
    given = [f"{name}.in" for name in inputs]
    return Piece([*values, *more], [*before, *operations], given, outputs)


# LiteRT moves bits between tensors of different scales, but not with these.
SAME_SCALE = ("EXPAND_DIMS", "MIRROR_PAD", "PADV2")


def one(operation: Operation, x: Shape, y: Sequence[int], constants: Sequence[Value], dtype: str) -> Piece:
    """Return the model of one operator that makes y from x."""
    out = tensor("y", y, dtype)
    if dtype == "i8" and operation.code not in SAME_SCALE:
        out = replace(out, scale=0.2, zero_point=-5)
    return model([tensor("x", x, dtype), out, *constants], [operation], ["x"], ["y"])


def draw_shape(random: Random, rank: int | None = None, most: int = 7) -> Shape:
    """Draw a shape of a batch of one."""
    rank = int(random.integers(2, 5)) if rank is None else rank
    sizes = random.integers(1, most, min(rank, 3)).tolist()
    return (1, *sizes) if rank == 4 else tuple(sizes)


def after(x: Shape, function: Callable[[Array], Array]) -> Shape:
    """Return the shape that numpy gives."""
    return function(np.empty(x)).shape


def reshape(random: Random, dtype: str) -> Piece:
    x = draw_shape(random)
    count = int(np.prod(x))
    divisors = [k for k in range(1, count + 1) if count % k == 0]
    first = int(random.choice(divisors))
    second = int(random.choice([k for k in divisors if count // first % k == 0]))
    y = random.permutation([first, second, count // first // second]).tolist()
    y = [[1, *y], y, [y[0], y[1] * y[2]], [count]][int(random.integers(4))]
    return one(Operation("RESHAPE", ["x", "shape"], ["y"]), x, y, [integers("shape", y)], dtype)


def squeeze(random: Random, dtype: str) -> Piece:
    x = (1, *random.permutation([1, *random.integers(1, 6, 2)]).tolist())
    axes = [k for k, size in enumerate(x) if size == 1][: int(random.integers(1, 3))]
    y = after(x, lambda a: a.squeeze(tuple(axes)))
    operation = Operation("SQUEEZE", ["x"], ["y"], "SqueezeOptions", {"squeezeDims": axes})
    return one(operation, x, y, [], dtype)


def expand(random: Random, dtype: str) -> Piece:
    x = draw_shape(random, 3)
    axis = int(random.integers(-4, 4))
    if axis in (1, 2, 3, -1, -2, -3):
        x = (1, *x[1:])
    y = after(x, lambda a: np.expand_dims(a, axis))
    return one(Operation("EXPAND_DIMS", ["x", "axis"], ["y"]), x, y, [integers("axis", axis)], dtype)


def join(random: Random, dtype: str) -> Piece:
    """Draw a concatenation of results, so that some can be made in place."""
    rank = int(random.integers(2, 5))
    first = draw_shape(random, rank)
    axis = int(random.integers(1 if rank == 4 else 0, rank))
    shapes = []
    for _ in range(int(random.integers(2, 4))):
        size = int(random.integers(1, 6))
        shapes.append(tuple(size if k == axis else s for k, s in enumerate(first)))
    joint = sum(shape[axis] for shape in shapes)
    y = tuple(joint if k == axis else s for k, s in enumerate(first))
    names = [f"x{k}" for k in range(len(shapes))]
    values = [tensor(name, shape, dtype) for name, shape in zip(names, shapes, strict=True)]
    moved = [tensor(f"r{k}", shape, dtype) for k, shape in enumerate(shapes)]
    axes = integers("axes", [axis])
    values += [*moved, axes, tensor("y", y, dtype)]
    reverse = [Operation("REVERSE_V2", [f"x{k}", "axes"], [f"r{k}"]) for k in range(len(names))]
    given = axis if random.integers(2) else axis - rank
    parts = [f"r{k}" if random.integers(4) else f"x{k}" for k in range(len(names))]
    options = {"axis": given, "fusedActivationFunction": 0}
    operation = Operation("CONCATENATION", parts, ["y"], "ConcatenationOptions", options)
    used = [r for r in reverse if r.outputs[0] in parts]
    return model(values, [*used, operation], names, ["y"])


def pack(random: Random, dtype: str) -> Piece:
    x = draw_shape(random, int(random.integers(2, 4)))
    rank = len(x) + 1
    if rank == 4:
        x = (1, *x[1:])
    axis = int(random.integers(0 if rank < 4 else 1, rank))
    count = int(random.integers(2, 4))
    y = after(x, lambda a: np.stack([a] * count, axis))
    names = [f"x{k}" for k in range(count)]
    values = [*(tensor(name, x, dtype) for name in names), tensor("y", y, dtype)]
    options = {"axis": axis, "valuesCount": count}
    operation = Operation("PACK", names, ["y"], "PackOptions", options)
    return model(values, [operation], names, ["y"])


def parts_case(
    operation: Operation, x: Shape, ys: Sequence[Shape], constants: Sequence[Value], dtype: str
) -> Piece:
    """Return the model of an operator with several outputs."""
    values = [tensor("x", x, dtype), *constants]
    values += [tensor(name, y, dtype) for name, y in zip(operation.outputs, ys, strict=True)]
    return model(values, [operation], ["x"], operation.outputs)


def unpack(random: Random, dtype: str) -> Piece:
    x = draw_shape(random)
    axis = int(random.integers(1 if len(x) == 4 else 0, len(x)))
    x = tuple(max(size, 2) if k == axis else size for k, size in enumerate(x))
    y = after(x, lambda a: a.take(0, axis))
    names = [f"y{k}" for k in range(x[axis])]
    options = {"axis": axis, "num": x[axis]}
    operation = Operation("UNPACK", ["x"], names, "UnpackOptions", options)
    return parts_case(operation, x, [y] * len(names), [], dtype)


def split(random: Random, dtype: str) -> Piece:
    x = draw_shape(random)
    axis = int(random.integers(1 if len(x) == 4 else 0, len(x)))
    count = int(random.integers(2, 4))
    x = tuple(size * count if k == axis else size for k, size in enumerate(x))
    y = tuple(size // count if k == axis else size for k, size in enumerate(x))
    names = [f"y{k}" for k in range(count)]
    given = axis if random.integers(2) else axis - len(x)
    operation = Operation("SPLIT", ["axis", "x"], names, "SplitOptions", {"numSplits": count})
    return parts_case(operation, x, [y] * count, [integers("axis", given)], dtype)


def split_v(random: Random, dtype: str) -> Piece:
    x = draw_shape(random)
    axis = int(random.integers(1 if len(x) == 4 else 0, len(x)))
    sizes = random.integers(1, 5, int(random.integers(2, 4))).tolist()
    x = tuple(sum(sizes) if k == axis else size for k, size in enumerate(x))
    ys = [tuple(own if k == axis else size for k, size in enumerate(x)) for own in sizes]
    if random.integers(2):
        sizes[int(random.integers(len(sizes)))] = -1
    names = [f"y{k}" for k in range(len(sizes))]
    options = {"numSplits": len(sizes)}
    operation = Operation("SPLIT_V", ["x", "sizes", "axis"], names, "SplitVOptions", options)
    return parts_case(operation, x, ys, [integers("sizes", sizes), integers("axis", axis)], dtype)


def cut(random: Random, dtype: str) -> Piece:
    x = draw_shape(random)
    begin = [int(random.integers(size)) for size in x]
    size = [int(random.integers(1, s - b + 1)) for s, b in zip(x, begin, strict=True)]
    given = [-1 if b + n == s and random.integers(2) else n for s, b, n in zip(x, begin, size, strict=True)]
    constants = [integers("begin", begin), integers("size", given)]
    return one(Operation("SLICE", ["x", "begin", "size"], ["y"]), x, size, constants, dtype)


def strided(random: Random, dtype: str) -> Piece:
    """Draw indices with steps of either sign, masks, a new axis and an ellipsis."""
    while True:
        x = draw_shape(random)
        count = int(random.integers(1, len(x) + 1))
        index: list[Any] = []
        fields = dict.fromkeys(("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"), 0)
        begins, ends, steps = [], [], []
        for k in range(count):
            size = x[k]
            begin, end = int(random.integers(-size - 1, size + 1)), int(random.integers(-size - 1, size + 1))
            step = int(random.choice([-3, -2, -1, 1, 1, 1, 2, 3]))
            kind = random.choice(["range", "range", "range", "one", "new", "rest"])
            if kind == "rest" and fields["ellipsisMask"]:
                kind = "range"
            if kind == "one":
                begin, step = int(random.integers(-size, size)), 1
                end = begin + 1
                fields["shrinkAxisMask"] |= 1 << k
                index.append(begin)
            elif kind == "new":
                fields["newAxisMask"] |= 1 << k
                index.append(None)
            elif kind == "rest":
                fields["ellipsisMask"] |= 1 << k
                index.append(...)
            else:
                free = random.integers(2, size=2)
                fields["beginMask"] |= int(free[0]) << k
                fields["endMask"] |= int(free[1]) << k
                index.append(slice(None if free[0] else begin, None if free[1] else end, step))
            begins.append(begin)
            ends.append(end)
            steps.append(step)
        try:
            y = after(x, lambda a, at=tuple(index): a[at])  # type: ignore[misc]
        except IndexError:
            continue  # a position that was drawn for another axis
        if 1 <= len(y) <= 4 and 0 not in y and (len(y) < 4 or y[0] == 1):
            break
    constants = [integers("begin", begins), integers("end", ends), integers("steps", steps)]
    operation = Operation(
        "STRIDED_SLICE", ["x", "begin", "end", "steps"], ["y"], "StridedSliceOptions", fields
    )
    return one(operation, x, y, constants, dtype)


def turn(random: Random, dtype: str) -> Piece:
    x = draw_shape(random)
    if random.integers(2):
        x = tuple(1 if random.integers(3) == 0 else size for size in x)
    while True:
        order = random.permutation(len(x))
        y = after(x, lambda a, order=order: a.transpose(order))  # type: ignore[misc]
        if len(y) < 4 or y[0] == 1:
            break
    return one(Operation("TRANSPOSE", ["x", "order"], ["y"]), x, y, [integers("order", order)], dtype)


def pad(random: Random, dtype: str) -> Piece:
    x = draw_shape(random)
    table = random.integers(0, 4, (len(x), 2))
    if len(x) == 4:
        table[0] = 0
    y = after(x, lambda a: np.pad(a, table))
    if random.integers(2):
        return one(Operation("PAD", ["x", "table"], ["y"]), x, y, [integers("table", table)], dtype)
    data = np.full((), -7, np.int8 if dtype == "i8" else np.float32)
    value = Value("value", dtype=dtype, data=data, **({} if dtype == "f32" else SCALE))
    operation = Operation("PADV2", ["x", "table", "value"], ["y"])
    return one(operation, x, y, [integers("table", table), value], dtype)


def mirror(random: Random, dtype: str) -> Piece:
    x = draw_shape(random, int(random.integers(3, 5)))
    mode = int(random.integers(2))  # 0: REFLECT, 1: SYMMETRIC
    table = np.array([[int(random.integers(0, size + mode)) for _ in range(2)] for size in x])
    table[-1] = 0
    if len(x) == 4:
        table[0] = 0
    y = after(x, lambda a: np.pad(a, table))
    operation = Operation("MIRROR_PAD", ["x", "table"], ["y"], "MirrorPadOptions", {"mode": mode})
    return one(operation, x, y, [integers("table", table)], dtype)


def blocks(random: Random, dtype: str) -> Piece:
    height, width, channels = random.integers(1, 5, 3).tolist()
    size = int(random.integers(1, 4))
    wide, deep = (1, height * size, width * size, channels), (1, height, width, channels * size**2)
    if random.integers(2):
        operation = Operation("SPACE_TO_DEPTH", ["x"], ["y"], "SpaceToDepthOptions", {"blockSize": size})
        return one(operation, wide, deep, [], dtype)
    operation = Operation("DEPTH_TO_SPACE", ["x"], ["y"], "DepthToSpaceOptions", {"blockSize": size})
    return one(operation, deep, wide, [], dtype)


def chain(random: Random, dtype: str) -> Piece:
    """Draw operators on top of each other and a joint of all: views of views, parts and results in place."""
    shapes = [draw_shape(random, 4, 5)]
    values, operations = [tensor("t0", shapes[0], dtype)], []
    for k in range(int(random.integers(2, 7))):
        source = int(random.integers(max(0, len(shapes) - 3), len(shapes)))
        x, y = shapes[source], shapes[source]
        kind = str(random.choice(["RESHAPE", "RELU", "TRANSPOSE", "PAD", "SLICE"]))
        tables: list[Any] = []
        if kind == "RESHAPE":
            y = (1, *random.permutation(x[1:]).tolist())
            tables = [y]
        elif kind == "TRANSPOSE":
            order = np.array([0, *(1 + random.permutation(3))])
            y = tuple(x[axis] for axis in order)
            tables = [order]
        elif kind == "PAD":
            table = np.array([[0, 0], *random.integers(0, 2, (3, 2))])
            y = tuple(size + sum(pair) for size, pair in zip(x, table.tolist(), strict=True))
            tables = [table]
        elif kind == "SLICE":
            first = int(random.integers(x[3]))
            y = (*x[:3], x[3] - first)
            tables = [(0, 0, 0, first), y]
        names = [f"c{k}.{position}" for position in range(len(tables))]
        values += [integers(name, table) for name, table in zip(names, tables, strict=True)]
        values.append(tensor(f"t{k + 1}", y, dtype))
        operations.append(Operation(kind, [f"t{source}", *names], [f"t{k + 1}"]))
        shapes.append(y)
    counts = [int(np.prod(shape)) for shape in shapes[1:]]
    for k, count in enumerate(counts, 1):
        values += [tensor(f"f{k}", (1, count), dtype), integers(f"n{k}", [1, count])]
        operations.append(Operation("RESHAPE", [f"t{k}", f"n{k}"], [f"f{k}"]))
    values.append(tensor("y", (1, sum(counts)), dtype))
    names = [f"f{k}" for k in range(1, len(shapes))]
    options = {"axis": 1, "fusedActivationFunction": 0}
    operations.append(Operation("CONCATENATION", names, ["y"], "ConcatenationOptions", options))
    outputs = ["y", f"t{len(counts)}"] if random.integers(2) else ["y"]
    return model(values, operations, ["t0"], outputs)


FAMILIES: dict[str, Callable[[Random, str], Piece]] = {
    "reshape": reshape,
    "squeeze": squeeze,
    "expand": expand,
    "join": join,
    "pack": pack,
    "unpack": unpack,
    "split": split,
    "split of sizes": split_v,
    "slice": cut,
    "strided slice": strided,
    "transpose": turn,
    "pad": pad,
    "mirrored pad": mirror,
    "blocks": blocks,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_moves_give_the_bits_of_litert(family: str, tmp_path: Path) -> None:
    random = np.random.default_rng(len(family))
    prove([side_by_side(FAMILIES[family](random, dtype) for _ in range(CASES)) for dtype in DTYPES], tmp_path)


def test_chains_of_moves_give_the_bits_of_litert(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    prove([side_by_side([chain(random, dtype)]) for dtype in DTYPES for _ in range(CASES)], tmp_path)


def test_moves_compiled_as_in_firmware_give_the_bits_of_litert(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    cases = [side_by_side(draw(random, dtype) for draw in FAMILIES.values()) for dtype in DTYPES]
    prove(cases, tmp_path, firmware=True)
