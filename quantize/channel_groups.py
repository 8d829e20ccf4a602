"""Which channels of a graph can be removed, and the graph without some of them.

Channels that are added, or pass through a depthwise convolution, can only go together, and with them the
filters that make them and the weights that read them. torch-pruning finds which these are from a trace of the
network. It does not know what must stay, and takes a map that is concatenated with itself for one part; so
every group is followed through the graph before it is believed. What is removed is removed from the graph's
own constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch_pruning
from numpy.typing import NDArray
from torch import nn

from firmware_gen.graph import Array, Constant, Graph, Op, check
from firmware_gen.operators.conv2d import ConvAttrs
from quantize.torch_module import Conv, DepthwiseConv, GraphModule, is_depthwise

Side = Literal["in", "out"]
Removed = dict[tuple[str, Side], set[int]]


@dataclass(frozen=True)
class Member:
    """A layer's part in a group: channel k of the group is channel `positions[k]` of what it reads or makes.

    Where only some channels of the group reach the layer, the others are -1. Of a depthwise convolution,
    whose filters are the channels, the side is "out".
    """

    layer: str
    side: Side
    positions: tuple[int, ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that go together; it is named after the first layer that makes them."""

    name: str
    channels: int
    members: tuple[Member, ...]


def channel_groups(graph: Graph) -> tuple[ChannelGroup, ...]:
    """Return the groups of which channels can be removed, in the order of the layers.

    What cannot: inputs and outputs of the network, what reaches a softmax or is flattened without a layer
    behind it, channels of grouped convolutions, and those of layers that share weights with others.

    Args:
        graph: simplified, in float.

    Raises:
        ModelError: an operator has no counterpart in torch.
    """
    module = GraphModule(graph, {})
    names = {module.get_submodule(f"layer{k}"): op.name for k, op in enumerate(graph.ops)}
    images = [torch.zeros(1, graph.shape(x)[2], *graph.shape(x)[:2]) for x in graph.inputs]
    kinds = {Conv: _Filters(), DepthwiseConv: _DepthwiseFilters()}
    with torch.enable_grad():
        tracer = torch_pruning.DependencyGraph().build_dependency(
            module, images, customized_pruners=kinds, verbose=False
        )
    order = {op.name: index for index, op in enumerate(graph.ops)}
    found = []
    for group in tracer.get_all_groups(root_module_types=[Conv, DepthwiseConv]):
        count = len(group.items[0].idxs)
        members = sorted(
            {_member(item, names, count) for item in group.items if item.dep.target.module in names},
            key=lambda member: (member.side == "in", order[member.layer], member.positions),
        )
        candidate = ChannelGroup(members[0].layer, count, tuple(members))
        if _can_go(candidate, graph):
            found.append(candidate)
    return tuple(sorted(found, key=lambda group: (order[group.name], group.members)))


def without(graph: Graph, dropped: Mapping[ChannelGroup, Iterable[int]]) -> Graph:
    """Return `graph` without the channels `dropped` of each group; layers and weights keep their names."""
    removed = removed_channels(dropped)
    tensors, constants = dict(graph.tensors), dict(graph.constants)
    ops: list[Op] = []
    for op in graph.ops:
        if op.kind == "conv2d":
            gone = len(removed.get((op.name, "out"), ()))
            for name, value in zip(op.constants, _remaining(op, graph, removed), strict=True):
                constants[name] = Constant(name, value)
            channels = graph.shape(op.outputs[0])[2] - gone
            if gone and is_depthwise(op, graph):
                op = replace(op, attrs=replace(op.attrs, groups=channels))  # type: ignore[type-var]
        elif op.kind in ("channels_first", "from_channels_first"):
            channels = graph.shape(op.outputs[0])[2]
        else:
            parts = op.inputs if op.kind == "concat" else op.inputs[:1]
            channels = sum(tensors[x].shape[2] for x in parts)
        described = tensors[op.outputs[0]]
        tensors[op.outputs[0]] = replace(described, shape=(*described.shape[:2], channels))
        ops.append(op)
    return check(graph.with_ops(ops, tensors=tensors, constants=constants))


def removed_channels(dropped: Mapping[ChannelGroup, Iterable[int]]) -> Removed:
    """Return the channels that each layer loses."""
    removed: Removed = {}
    for group, channels in dropped.items():
        gone = tuple(channels)
        for member in group.members:
            positions = {member.positions[k] for k in gone} - {-1}
            removed.setdefault((member.layer, member.side), set()).update(positions)
    return removed


def filter_sizes(graph: Graph, group: ChannelGroup, removed: Removed) -> Array:
    """Return the mean magnitude of the weights that make each channel, the mean over all layers that do.

    Args:
        graph: what the group is of.
        group: where.
        removed: channels that are gone already, whose weights do not count.
    """
    sums, makers = np.zeros(group.channels), np.zeros(group.channels)
    ops = {op.name: op for op in graph.ops}
    for member in group.members:
        if member.side == "in":
            continue
        op = ops[member.layer]
        value = np.abs(graph.constants[op.constants[0]].value)
        if is_depthwise(op, graph):
            sizes = value.reshape(-1, group.channels).mean(0)
        else:
            sizes = np.delete(value, sorted(removed.get((op.name, "in"), ())), 2).mean((0, 1, 2))
        positions = np.array(member.positions)
        there = positions >= 0
        sums[there] += sizes[positions[there]]
        makers[there] += 1
    found: Array = (sums / makers).astype(np.float32)
    return found


class _Filters(torch_pruning.BasePruningFunc):  # type: ignore[misc]
    """Tells torch-pruning how many channels a layer takes and gives; it is never asked to remove any."""

    def prune_out_channels(self, layer: Conv, idxs: Sequence[int]) -> Conv:
        raise NotImplementedError

    def prune_in_channels(self, layer: Conv, idxs: Sequence[int]) -> Conv:
        raise NotImplementedError

    def get_out_channels(self, layer: Conv) -> int:
        return layer.given

    def get_in_channels(self, layer: Conv) -> int:
        return layer.taken


class _DepthwiseFilters(_Filters):
    """Where both are the same function, torch-pruning goes on behind the layer."""

    prune_in_channels = _Filters.prune_out_channels


def _member(item: torch_pruning._helpers.GroupItem, names: Mapping[nn.Module, str], count: int) -> Member:
    module = item.dep.target.module
    outwards = isinstance(module, DepthwiseConv) or item.dep.handler.__name__ == "prune_out_channels"
    positions = [-1] * count
    for root, position in zip(item.root_idxs, item.idxs, strict=True):
        positions[root] = position
    return Member(names[module], "out" if outwards else "in", tuple(positions))


def _can_go(group: ChannelGroup, graph: Graph) -> bool:
    """Tell whether each channel of the group can go by itself: whatever makes and reads it is in the group.

    Every channel of the group has a number, all others have 0, and the numbers are followed through the
    graph.
    """
    numbers = {x: np.zeros(graph.shape(x)[2], np.int64) for x in graph.inputs}
    for op in graph.ops:
        taken = [numbers[x] for x in op.inputs]
        made = np.zeros(graph.shape(op.outputs[0])[2], np.int64)
        if isinstance(op.attrs, ConvAttrs):
            made = _numbered(group, op.name, "out", made.size)
            reads = made if is_depthwise(op, graph) else _numbered(group, op.name, "in", taken[0].size)
            stays = _is_fixed(op, graph) and (made.any() or reads.any())
            if stays or not np.array_equal(taken[0], reads):
                return False
        elif op.kind == "concat":
            made = np.concatenate(taken)
        elif op.kind in ("channels_first", "from_channels_first", "softmax"):
            if any(x.any() for x in taken):
                return False
        else:
            made = taken[0]
            if not all(np.array_equal(made, x) for x in taken):
                return False
        numbers[op.outputs[0]] = made
    return not any(numbers[y].any() for y in graph.outputs)


def _numbered(group: ChannelGroup, layer: str, side: Side, count: int) -> NDArray[np.int64]:
    numbers = np.zeros(count, np.int64)
    for member in group.members:
        if (member.layer, member.side) == (layer, side):
            positions = np.array(member.positions)
            there = positions >= 0
            numbers[positions[there]] = np.arange(1, group.channels + 1)[there]
    return numbers


def _is_fixed(op: Op, graph: Graph) -> bool:
    """Tell whether a layer must keep its channels, because groups or shared weights hold them."""
    assert isinstance(op.attrs, ConvAttrs)
    others = {name for other in graph.ops if other is not op for name in other.constants}
    return not others.isdisjoint(op.constants) or (op.attrs.groups > 1 and not is_depthwise(op, graph))


def _remaining(op: Op, graph: Graph, removed: Removed) -> list[Array]:
    """Return the constants of a layer without what is removed."""
    weight, *bias = (graph.constants[name].value for name in op.constants)
    taken, given = (sorted(removed.get((op.name, side), ())) for side in ("in", "out"))
    if is_depthwise(op, graph):
        assert isinstance(op.attrs, ConvAttrs)
        weight = np.delete(weight, given, 2 if op.attrs.transposed else 3)
    else:
        weight = np.delete(np.delete(weight, taken, 2), given, 3)
    return [weight, *(np.delete(value, given) for value in bias)]
