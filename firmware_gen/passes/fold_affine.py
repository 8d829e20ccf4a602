"""Fold scales and shifts of channels (batch normalization, bias additions) into the layer before them."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import ModelError
from firmware_gen.graph import Array, Constant, Graph, Op
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.window import LINEAR, Window

POINT = Window((1, 1))


def fold_affine(graph: Graph) -> Graph:
    """Merge every 1x1 depthwise convolution into a convolution that feeds only it."""
    folded = True
    while folded:
        folded = False
        for op in graph.ops:
            before = graph.producer(op.inputs[0]) if _is_affine(op, graph) else None
            if before is not None and _absorbs(before, op, graph):
                graph = _merge(graph, before, op)
                folded = True
                break
    return graph


def _is_affine(op: Op, graph: Graph) -> bool:
    attrs = op.attrs
    return (
        op.kind == "conv2d"
        and isinstance(attrs, ConvAttrs)
        and attrs.window == POINT
        and graph.constants[op.constants[0]].value.shape[2:] == (1, attrs.groups)
        and graph.constants[op.constants[0]].source_axes is None
    )


def _absorbs(before: Op, op: Op, graph: Graph) -> bool:
    return (
        before.kind == "conv2d"
        and isinstance(before.attrs, ConvAttrs)
        and before.attrs.activation == LINEAR
        and len(graph.consumers(op.inputs[0])) == 1
        and op.inputs[0] not in graph.outputs
        and all(sum(name in other.constants for other in graph.ops) == 1 for name in before.constants)
    )


def _merge(graph: Graph, conv: Op, affine: Op) -> Graph:
    assert isinstance(conv.attrs, ConvAttrs)
    weight = graph.constants[conv.constants[0]]
    scale = graph.constants[affine.constants[0]].value.reshape(-1).astype(np.float64)
    channels = scale.size
    shift = np.zeros(channels)
    if len(affine.constants) > 1:
        shift = graph.constants[affine.constants[1]].value.astype(np.float64)
    bias = np.zeros(channels)
    if len(conv.constants) > 1:
        bias = graph.constants[conv.constants[1]].value.astype(np.float64)
    trivial = bool((scale == 1).all())
    if not trivial:
        # Whole channels are scaled, so that integers behind the weight stay what they are.
        grid = np.asarray(weight.scales) * np.maximum(np.abs(scale), 1e-30) if weight.scales else ()
        scales = (
            tuple(float(step) for step in grid) if conv.attrs.groups == 1 or not conv.attrs.transposed else ()
        )
        weight = Constant(weight.name, _scaled(weight.value, scale, conv.attrs), scales=scales)
    name = conv.constants[1] if len(conv.constants) > 1 else f"{conv.name}.bias"
    shifted = Constant(name, _single(bias * scale + shift))
    if trivial and len(conv.constants) == 1 and len(affine.constants) > 1:
        own = graph.constants[affine.constants[1]]
        if own.source_axes is not None:
            shifted = own  # a bare bias addition (MatMul + Add): it stands in the model file by its own name
    if not (np.isfinite(weight.value).all() and np.isfinite(shifted.value).all()):
        raise ModelError(f"{affine.name} of {graph.name}, folded into {conv.name}, exceeds single precision")
    constants = {**graph.constants, weight.name: weight, shifted.name: shifted}
    merged = dataclasses.replace(conv, outputs=affine.outputs, constants=(weight.name, shifted.name))
    ops = [merged if op is conv else op for op in graph.ops if op is not affine]
    return dataclasses.replace(graph, constants=constants).with_ops(ops)


def _scaled(value: Array, scale: NDArray[np.float64], attrs: ConvAttrs) -> Array:
    wide = value.astype(np.float64)
    if not attrs.transposed:
        return _single(wide * scale)
    # (rows, columns, in, out of a group): output channels run group by group along the inputs.
    rows, columns, inner, outer = wide.shape
    grouped = wide.reshape(rows, columns, attrs.groups, inner // attrs.groups, outer)
    scaled = grouped * scale.reshape(attrs.groups, 1, outer)
    return _single(scaled.reshape(value.shape))


def _single(value: NDArray[np.float64]) -> Array:
    with np.errstate(over="ignore"):
        return value.astype(np.float32)
