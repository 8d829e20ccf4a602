"""Turn int8 layers that are to learn into float layers between integers.

Their weights become floats; what goes in and out stays int8, so that what the backward pass keeps of a layer
takes a quarter of the bytes. A layer of which only the bias learns stays int8 as a whole: the bias alone
becomes float.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from firmware_gen.graph import Constant, Graph, Op, Tensor
from firmware_gen.operators.conv2d_i8 import ConvI8Attrs, real_bias, real_weight
from firmware_gen.operators.quantize import dequantize, quantize
from firmware_gen.update import WHOLE, Share


def thaw(graph: Graph, learns: Callable[[Op], Mapping[str, Share]]) -> Graph:
    """Return `graph` in which what `learns` of int8 convolutions and linear layers is float."""
    for op in graph.ops:
        named = learns(op) if op.kind == "conv2d_i8" else {}
        if named:
            whole_bias = op.constants[0] not in named and set(named.values()) == {WHOLE}
            graph = float_bias(graph, op) if whole_bias else _thawed(graph, op)
    return graph


def float_bias(graph: Graph, op: Op, kind: str = "moving_conv2d") -> Graph:
    """Return `graph` with the twin `kind` of an int8 convolution: its grids can move, its bias is float32."""
    attrs = op.attrs
    assert isinstance(attrs, ConvI8Attrs)
    weight, bias = op.constants[:2]
    real = Constant(bias, real_bias(op, graph))
    conv = dataclasses.replace(attrs.conv, activation=attrs.activation)
    twin = dataclasses.replace(op, kind=kind, attrs=conv, constants=(weight, bias))
    ops = [twin if other is op else other for other in graph.ops]
    return graph.with_ops(ops, constants={**graph.constants, bias: real})


def _thawed(graph: Graph, op: Op) -> Graph:
    attrs = op.attrs
    assert isinstance(attrs, ConvI8Attrs)
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    weight, bias = (graph.constants[name] for name in op.constants[:2])
    floats = {
        weight.name: dataclasses.replace(
            weight, value=real_weight(weight, attrs.conv).astype(np.float32), scales=()
        ),
        bias.name: Constant(bias.name, real_bias(op, graph)),
    }
    taken, made = Tensor(f"{op.name}.input", x.shape), Tensor(f"{op.name}.output", y.shape)
    border_in, border_out = dequantize(), quantize("even")
    new = [
        Op(border_in.kind, f"{op.name}.in", (x.name,), (taken.name,), border_in.attrs),
        Op(
            "conv2d",
            op.name,
            (taken.name,),
            (made.name,),
            dataclasses.replace(attrs.conv, activation=attrs.activation),
            tuple(floats),
        ),
        Op(border_out.kind, f"{op.name}.out", (made.name,), (y.name,), border_out.attrs),
    ]
    ops = [other for old in graph.ops for other in (new if old is op else [old])]
    tensors = {**graph.tensors, taken.name: taken, made.name: made}
    return graph.with_ops(ops, tensors=tensors, constants={**graph.constants, **floats})
