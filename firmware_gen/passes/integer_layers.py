"""Turn what lies between dequantize and quantize into integer layers.

A QDQ model says where values are rounded, and computes in floats in between. Three rewrites, until none
applies:

* a layer whose inputs come out of ``dequantize`` and whose only reader is a ``quantize`` becomes an integer
  layer, if there is one of its kind;
* an operator that only moves or selects values changes places with the ``dequantize`` before it;
* ``quantize`` of a dequantized tensor is a table, or nothing if both have one quantization.

What has no integer counterpart, and what was left in float on purpose, stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from firmware_gen.graph import Graph, Op, Quantization, Tensor
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.lookup import lower_lookup, quantized, requantize
from firmware_gen.operators.quantize import PixelScale, QuantizeAttrs, dequantize
from firmware_gen.passes.integer_twins import commutes, integer_twin, twin_output

BORDERS = ("quantize", "dequantize")


def integer_layers(graph: Graph) -> Graph:
    """Return `graph` with integer layers where its file asks for them."""
    graph = _join_equal_borders(graph)
    while True:
        for op in graph.ops:
            rewritten = _requantized(graph, op) or _integer_layer(graph, op) or _moved_up(graph, op)
            if rewritten is not None:
                graph = _without_unread(rewritten)
                break
        else:
            return graph


def _join_equal_borders(graph: Graph) -> Graph:
    """Let all readers of a (de)quantized tensor read one copy: exporters write one for each."""
    first: dict[tuple[str, str, Quantization | None], str] = {}
    names: dict[str, str] = {}
    ops: list[Op] = []
    for op in graph.ops:
        op = dataclasses.replace(op, inputs=tuple(names.get(name, name) for name in op.inputs))
        y = op.outputs[0]
        if op.kind in BORDERS and y not in graph.outputs:
            known = first.setdefault((op.kind, op.inputs[0], graph.tensors[y].quantization), y)
            if known != y:
                names[y] = known
                continue
        ops.append(op)
    return graph.with_ops(ops)


def _requantized(graph: Graph, op: Op) -> Graph | None:
    """Replace quantize(dequantize(x)) by a table, or by x itself."""
    before = graph.producer(op.inputs[0]) if op.kind == "quantize" else None
    if before is None or before.kind != "dequantize":
        return None
    x, y = graph.tensors[before.inputs[0]], graph.tensors[op.outputs[0]]
    if isinstance(before.attrs, PixelScale):
        assert isinstance(op.attrs, QuantizeAttrs)
        return _with(graph, op, [(_pixel_table(before.attrs, op.attrs, y), (x.name,), y.name)])
    if (x.dtype, x.quantization) != (y.dtype, y.quantization) or y.name in graph.outputs:
        return _with(graph, op, [(requantize(x, y), (x.name,), y.name)])
    renamed = [
        dataclasses.replace(other, inputs=tuple(x.name if name == y.name else name for name in other.inputs))
        for other in graph.ops
        if other is not op
    ]
    return graph.with_ops(renamed)


def _pixel_table(pixels: PixelScale, rounding: QuantizeAttrs, y: Tensor) -> Lowered:
    """Lower what scales pixels and then quantizes them."""
    exact = np.arange(256) * np.float64(np.float32(pixels.scale)) + np.float64(np.float32(pixels.bias))
    return lower_lookup(y, quantized(exact.astype(np.float32), rounding.rounding, y))


def _integer_layer(graph: Graph, op: Op) -> Graph | None:
    """Replace a float layer between integer tensors."""
    readers = graph.consumers(op.outputs[0])
    sources = _dequantized(graph, op)
    if not sources or op.outputs[0] in graph.outputs or [r.kind for r in readers] != ["quantize"]:
        return None
    y = graph.tensors[readers[0].outputs[0]]
    new: list[tuple[Lowered, tuple[str, ...], str]] = []
    if op.kind == "concat":
        # Each part is brought to the scale of the whole before it is joined, unless it has it already.
        for k, x in enumerate(sources):
            if x.quantization != y.quantization:
                part = Tensor(f"{y.name}.part{k}", x.shape, "i8", y.quantization)
                new.append((requantize(x, part), (x.name,), part.name))
                graph = dataclasses.replace(graph, tensors={**graph.tensors, part.name: part})
                sources = (*sources[:k], part, *sources[k + 1 :])
    made = twin_output(op, sources, y)
    lowered = integer_twin(op, graph, sources, made)
    if lowered is None:
        return None
    new.append((lowered, _names(sources), made.name))
    if made is not y:
        new.append((requantize(made, y), (made.name,), y.name))
        graph = dataclasses.replace(graph, tensors={**graph.tensors, made.name: made})
    return _with(graph, readers[0], new, drop=op)


def _moved_up(graph: Graph, op: Op) -> Graph | None:
    """Let an operator that moves values work on the integers, and dequantize what it has moved."""
    sources = _dequantized(graph, op)
    if not commutes(op) or len({x.quantization for x in sources}) != 1:
        return None
    y = op.outputs[0]
    moved = Tensor(f"{y}.integers", graph.shape(y), "i8", sources[0].quantization)
    lowered = integer_twin(op, graph, sources, moved)
    if lowered is None:
        return None
    graph = dataclasses.replace(graph, tensors={**graph.tensors, moved.name: moved})
    return _with(graph, op, [(lowered, _names(sources), moved.name), (dequantize(), (moved.name,), y)])


def _dequantized(graph: Graph, op: Op) -> tuple[Tensor, ...]:
    """Return the int8 tensors behind all inputs of `op`, () if one of them has none."""
    makers = [graph.producer(x) for x in op.inputs] if op.kind not in BORDERS else []
    sources = tuple(
        graph.tensors[maker.inputs[0]]
        for maker in makers
        if maker is not None and maker.kind == "dequantize" and graph.tensors[maker.inputs[0]].dtype == "i8"
    )
    return sources if len(sources) == len(op.inputs) else ()


def _names(tensors: tuple[Tensor, ...]) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in tensors)


def _with(
    graph: Graph,
    at: Op,
    new: Sequence[tuple[Lowered, tuple[str, ...], str]],
    drop: Op | None = None,
) -> Graph:
    """Return `graph` with new operators (what, inputs, output) in place of `at`, and without `drop`."""
    named = drop or at
    taken = {name for op in graph.ops if op not in (at, drop) for name in op.constants}
    constants = dict(graph.constants)
    added: list[Op] = []
    for lowered, inputs, output in new:
        names = []
        for constant in lowered.constants:
            # A weight that a float layer reads as well keeps its name there.
            name = f"{constant.name}.int8" if constant.name in taken else constant.name
            constants[name] = dataclasses.replace(constant, name=name)
            names.append(name)
        added.append(Op(lowered.kind, named.name, inputs, (output,), lowered.attrs, tuple(names)))
    ops: list[Op] = []
    for op in graph.ops:
        if op is at:
            ops.extend(added)
        elif op is not drop:
            ops.append(op)
    return dataclasses.replace(graph, constants=constants).with_ops(ops)


def _without_unread(graph: Graph) -> Graph:
    """Drop operators whose outputs nobody reads any more."""
    needed = set(graph.outputs)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if needed.intersection(op.outputs):
            kept.append(op)
            needed.update(op.inputs)
    return graph.with_ops(reversed(kept))
