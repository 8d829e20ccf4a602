"""Compute input gradients only for the channels that somebody reads.

The gradient of a concatenation is sliced; where one part of it comes from a frozen encoder, the convolution
behind need not compute that part at all.
"""

from __future__ import annotations

import dataclasses

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Channels
from firmware_gen.operators.conv2d import ConvAttrs, ConvGradAttrs


def narrow_gradients(graph: Graph) -> Graph:
    """Shrink every convolution's input gradient to the span of the slices that are its only readers."""
    for op in graph.ops:
        readers = graph.consumers(op.outputs[0]) if op.outputs else []
        summands = _summands(graph, op)
        if not readers or not summands or any(reader.kind != "slice" for reader in readers):
            continue
        spans = [reader.attrs for reader in readers if isinstance(reader.attrs, Channels)]
        span = Channels(min(s.first for s in spans), max(s.end for s in spans))
        graph = _narrow(graph, summands, readers, span)
    return _drop_whole_slices(graph)


def _groups(op: Op) -> int:
    """Return the groups of a convolution's input gradient, 0 for other operators."""
    if isinstance(op.attrs, ConvGradAttrs):
        return op.attrs.conv.groups
    carries_back = op.kind == "moving_conv2d" and op.phase == "backward"
    return op.attrs.groups if carries_back and isinstance(op.attrs, ConvAttrs) else 0


def _summands(graph: Graph, op: Op) -> list[Op]:
    """Return the input gradients whose sum `op` makes; none where one of them must stay whole."""
    if _groups(op) != 1:
        return []
    if op.kind != "conv_grad_input" or len(op.inputs) == 1:
        return [op]
    before = graph.producer(op.inputs[1])
    if before is None or before.kind != "conv_grad_input" or graph.consumers(op.inputs[1]) != [op]:
        return []
    others = _summands(graph, before)
    return [*others, op] if others else []


def _narrow(graph: Graph, summands: list[Op], readers: list[Op], span: Channels) -> Graph:
    """Let `summands` make the channels in `span` only, in which the slices `readers` find theirs."""
    height, width, _ = graph.shape(summands[-1].outputs[0])
    constants, tensors = dict(graph.constants), dict(graph.tensors)
    for op in summands:
        made = op.outputs[0]
        tensors[made] = dataclasses.replace(tensors[made], shape=(height, width, span.count))
        if not isinstance(op.attrs, ConvGradAttrs):
            weight = graph.constants[op.constants[0]]
            value, scales = weight.value[..., span.first : span.end], weight.scales[span.first : span.end]
            constants[weight.name] = dataclasses.replace(weight, value=value, scales=scales)

    def rewrite(other: Op) -> Op:
        if other in summands:
            if not isinstance(other.attrs, ConvGradAttrs):
                return other
            return dataclasses.replace(other, attrs=dataclasses.replace(other.attrs, channels=span))
        if other in readers:
            assert isinstance(other.attrs, Channels)
            moved = Channels(other.attrs.first - span.first, other.attrs.end - span.first)
            return dataclasses.replace(other, attrs=moved)
        return other

    ops = [rewrite(other) for other in graph.ops]
    return graph.with_ops(ops, tensors=tensors, constants=constants)


def _drop_whole_slices(graph: Graph) -> Graph:
    """Remove slices that take all channels of a tensor which nothing else reads."""
    names: dict[str, str] = {}
    ops: list[Op] = []
    for op in graph.ops:
        inputs = tuple(names.get(name, name) for name in op.inputs)
        whole = op.kind == "slice" and graph.shape(op.inputs[0]) == graph.shape(op.outputs[0])
        if whole and len(graph.consumers(op.inputs[0])) == 1:
            names[op.outputs[0]] = inputs[0]
        else:
            ops.append(dataclasses.replace(op, inputs=inputs))
    return graph.with_ops(ops)
