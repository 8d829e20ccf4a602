"""Let the ranges of int8 tensors move where a layer below learns.

Calibrated ranges are those of the network as it was. Once it adapts, the layers above see other values: so
every int8 tensor that depends on something that learns gets a range of its own that moves with the data, and
the layers between such tensors become their moving twins. Tensors below keep what calibration has given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from fieldtune.errors import ModelError
from firmware_gen.graph import Graph, Op, Range, Tensor, check
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.lookup import requantize
from firmware_gen.operators.moving_sums import MovingAddAttrs
from firmware_gen.passes.thaw import float_bias

# Chosen on the reference network.
HEADROOM, RATE = 1.25, 0.1
# Operators whose inputs and outputs are on one grid.
SAME_GRID = (
    "concat",
    "depth_to_space",
    "reshape",
    "slice",
    "space_to_depth",
    "stack",
    "strided_slice",
    "transpose",
)


def moving_ranges(graph: Graph, trained: tuple[str, ...], judged: Collection[str]) -> Graph:
    """Return `graph` with moving ranges above the layers that have `trained` constants.

    `judged` are the outputs that a loss reads.

    Raises:
        ModelError: an int8 layer there has no moving twin.
    """
    graph = _without_rescaling(graph, _moving(graph, trained))
    graph = _float_outputs(graph, _moving(graph, trained), judged)
    moving = _moving(graph, trained)
    if not moving:
        return graph
    groups = _groups(graph, moving)
    tensors, ranges = dict(graph.tensors), dict(graph.ranges)
    for name in graph.tensors:  # in their order: a set stored in flash has the ranges in that of the table
        if name not in moving:
            continue
        group = groups[name]
        tensors[name] = dataclasses.replace(tensors[name], range=group)
        ranges[group] = _initial(graph.tensors[group])
    graph = dataclasses.replace(graph, tensors=tensors, ranges=ranges)
    for op in graph.ops:
        if moving.intersection((*op.inputs, *op.outputs)):
            graph = _rewrite(graph, op, moving)
    return check(graph)


def _moving(graph: Graph, trained: tuple[str, ...]) -> set[str]:
    """Return the int8 tensors that depend on something that learns."""
    above: set[str] = set()
    for op in graph.ops:
        if above.intersection(op.inputs) or any(name in trained for name in op.constants):
            above.update(op.outputs)
    return {name for name in above if graph.tensors[name].dtype == "i8"}


def _without_rescaling(graph: Graph, moving: set[str]) -> Graph:
    """Remove tables that only bring a moving tensor to another scale: both can have one range."""
    names: dict[str, str] = {}
    ops: list[Op] = []
    for op in graph.ops:
        op = dataclasses.replace(op, inputs=tuple(names.get(name, name) for name in op.inputs))
        if op.kind == "lookup" and op.inputs[0] in moving and _only_rescales(graph, op):
            names[op.outputs[0]] = op.inputs[0]
        else:
            ops.append(op)
    return graph.with_ops(ops)


def _float_outputs(graph: Graph, moving: set[str], judged: Collection[str]) -> Graph:
    """Let layers whose int8 output is nothing but what a loss reads, in floats, make these floats at once.

    While a network adapts its output moves most, and what its grid rounds or cuts off goes into the loss.
    """
    for op in graph.ops:
        readers = graph.consumers(op.outputs[0])
        lonely = op.outputs[0] in moving and op.outputs[0] not in graph.outputs and len(readers) == 1
        if not lonely or op.kind not in ("conv2d_i8", "moving_conv2d"):
            continue
        (back,) = readers
        if back.kind != "dequantize" or back.outputs[0] not in judged:
            continue
        graph = float_bias(graph, op) if op.kind == "conv2d_i8" else graph
        twin = graph.producer(op.outputs[0])
        assert twin is not None
        assert isinstance(twin.attrs, ConvAttrs)
        if not twin.attrs.transposed and twin.attrs.groups == 1:
            made = dataclasses.replace(twin, kind="conv2d_i8_f32", outputs=back.outputs)
            graph = graph.with_ops([made if old is twin else old for old in graph.ops if old is not back])
    return graph


def _only_rescales(graph: Graph, op: Op) -> bool:
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if x.dtype != "i8" or y.name in graph.outputs:
        return False
    return np.array_equal(graph.constants[op.constants[0]].value, requantize(x, y).constants[0].value)


def _groups(graph: Graph, moving: set[str]) -> dict[str, str]:
    """Return for each moving tensor the one whose name the range gets: the same for tensors on one grid."""
    leader = {name: name for name in moving}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for op in graph.ops:
        if op.kind in SAME_GRID and op.outputs[0] in moving:
            for x in moving.intersection(op.inputs):
                leader[find(x)] = find(op.outputs[0])
    return {name: find(name) for name in moving}


def _initial(tensor: Tensor) -> Range:
    """Return the range that calibration has given, which leaves no headroom."""
    known = tensor.quantization
    assert known is not None
    low, high = ((q - known.zero_point) * known.scale / HEADROOM for q in (-128, 127))
    return Range(low, high, HEADROOM, RATE)


def _rewrite(graph: Graph, op: Op, moving: set[str]) -> Graph:
    if op.kind == "conv2d_i8":
        return float_bias(graph, op)
    if op.kind == "add_i8":
        return _moving_sum(graph, op)
    if op.kind == "mean_i8":
        return _replaced(graph, op, [dataclasses.replace(op, kind="moving_mean", attrs=None)])
    if op.kind in ("quantize", "dequantize", "moving_conv2d", "learning_conv2d", "conv2d_i8_f32"):
        return graph
    if op.kind in SAME_GRID:
        return _on_one_grid(graph, op, moving)
    if any(graph.tensors[name].dtype == "i8" for name in (*op.inputs, *op.outputs)):
        raise ModelError(
            f"layer '{op.name}' ({op.kind}) is an int8 layer above one that learns, and its scales cannot "
            "move yet: leave it in float with fieldtune quantize --keep-float"
        )
    return graph


def _moving_sum(graph: Graph, op: Op) -> Graph:
    y = graph.tensors[op.outputs[0]]
    if op.constants or any(graph.shape(x) != y.shape for x in op.inputs):
        raise ModelError(
            f"layer '{op.name}' adds a constant or a smaller map in int8 above a layer that learns, and its "
            "scales cannot move: leave it in float with fieldtune quantize --keep-float"
        )
    # The file leaves a ReLU behind a sum to the grid, which begins at 0.
    relu = y.quantization is not None and y.quantization.zero_point == -128
    return _replaced(graph, op, [dataclasses.replace(op, kind="moving_add", attrs=MovingAddAttrs(relu))])


def _on_one_grid(graph: Graph, op: Op, moving: set[str]) -> Graph:
    """Bring inputs whose grid is fixed to the moving one of the output."""
    target = graph.tensors[op.outputs[0]].range
    names, before, tensors = list(op.inputs), [], dict(graph.tensors)
    for k, name in enumerate(op.inputs):
        if name in moving:
            continue
        part = dataclasses.replace(graph.tensors[name], name=f"{name}.moved", range=target, source="")
        tensors[part.name] = part
        before.append(Op("rescale", f"{op.name}.part{k}", (name,), (part.name,)))
        names[k] = part.name
    graph = dataclasses.replace(graph, tensors=tensors)
    return _replaced(graph, op, [*before, dataclasses.replace(op, inputs=tuple(names))])


def _replaced(graph: Graph, op: Op, new: list[Op]) -> Graph:
    return graph.with_ops(other for old in graph.ops for other in (new if old is op else [old]))
