"""Fuse activations into the convolution before them, which then stores activated values."""

from __future__ import annotations

import dataclasses

from firmware_gen.graph import Graph
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.window import LINEAR, Activation


def fuse_activation(graph: Graph) -> Graph:
    """Merge every activation into a linear convolution that feeds only it."""
    for op in graph.ops:
        if op.kind != "activation":
            continue
        before = graph.producer(op.inputs[0])
        if before is None or before.kind != "conv2d":
            continue
        attrs = before.attrs
        assert isinstance(attrs, ConvAttrs)
        assert isinstance(op.attrs, Activation)
        lonely = len(graph.consumers(op.inputs[0])) == 1 and op.inputs[0] not in graph.outputs
        if attrs.activation == LINEAR and lonely and op.attrs.slope_from_output:
            fused = dataclasses.replace(
                before, outputs=op.outputs, attrs=dataclasses.replace(attrs, activation=op.attrs)
            )
            graph = graph.with_ops(fused if o is before else o for o in graph.ops if o is not op)
    return graph
