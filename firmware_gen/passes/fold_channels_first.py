"""Fold the channels-first flattening before a fully connected layer into the layer's weights."""

from __future__ import annotations

import dataclasses

import numpy as np

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.window import Window


def fold_channels_first(graph: Graph) -> Graph:
    """Turn flatten + linear into one convolution whose window is the whole map: no copy, the same weights."""
    for op in graph.ops:
        if op.kind != "channels_first":
            continue
        users = graph.consumers(op.outputs[0])
        if len(users) != 1 or op.outputs[0] in graph.outputs or not _is_linear(users[0], graph):
            continue
        graph = _merge(graph, op, users[0])
    return graph


def _is_linear(op: Op, graph: Graph) -> bool:
    attrs = op.attrs
    return (
        op.kind == "conv2d"
        and isinstance(attrs, ConvAttrs)
        and attrs.window == Window((1, 1))
        and attrs.groups == 1
        and not attrs.transposed
        and sum(op.constants[0] in other.constants for other in graph.ops) == 1
    )


def _merge(graph: Graph, flatten: Op, linear: Op) -> Graph:
    height, width, channels = graph.shape(flatten.inputs[0])
    weight = graph.constants[linear.constants[0]]
    outputs = weight.value.shape[3]
    value = weight.value.reshape(channels, height, width, outputs).transpose(1, 2, 0, 3)
    axes = weight.source_axes
    if axes is not None:
        # Back: (h, w, c, o) -> (o, c, h, w) or (c, h, w, o), then the file's axes, outputs first or last.
        axes = (3, 2, 0, 1) if axes.index(3) < axes.index(2) else (2, 0, 1, 3)
    constant = dataclasses.replace(weight, value=np.ascontiguousarray(value), source_axes=axes)
    assert isinstance(linear.attrs, ConvAttrs)
    merged = dataclasses.replace(
        linear,
        inputs=flatten.inputs,
        attrs=dataclasses.replace(linear.attrs, window=Window((height, width))),
    )
    ops = [merged if op is linear else op for op in graph.ops if op is not flatten]
    return dataclasses.replace(graph, constants={**graph.constants, constant.name: constant}).with_ops(ops)
