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
        if _groups(op) != 1 or not readers or any(reader.kind != "slice" for reader in readers):
            continue
        spans = [reader.attrs for reader in readers if isinstance(reader.attrs, Channels)]
        span = Channels(min(s.first for s in spans), max(s.end for s in spans))
        graph = _narrow(graph, op, readers, span)
    return _drop_whole_slices(graph)


def _groups(op: Op) -> int:
    """Return the groups of a convolution's input gradient, 0 for other operators."""
    if isinstance(op.attrs, ConvGradAttrs):
        return op.attrs.conv.groups
    carries_back = op.kind == "moving_conv2d" and op.phase == "backward"
    return op.attrs.groups if carries_back and isinstance(op.attrs, ConvAttrs) else 0


def _narrow(graph: Graph, op: Op, readers: list[Op], span: Channels) -> Graph:
    height, width, _ = graph.shape(op.outputs[0])
    constants = dict(graph.constants)
    if isinstance(op.attrs, ConvGradAttrs):
        narrow = dataclasses.replace(op, attrs=dataclasses.replace(op.attrs, channels=span))
    else:
        weight = graph.constants[op.constants[0]]
        value, scales = weight.value[..., span.first : span.end], weight.scales[span.first : span.end]
        constants[weight.name] = dataclasses.replace(weight, value=value, scales=scales)
        narrow = op
    made = dataclasses.replace(graph.tensors[op.outputs[0]], shape=(height, width, span.count))
    tensors = {**graph.tensors, made.name: made}

    def rewrite(other: Op) -> Op:
        if other is op:
            return narrow
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
