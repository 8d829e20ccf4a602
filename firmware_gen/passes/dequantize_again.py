"""Make floats of integers a second time for the backward pass, instead of keeping them that long.

A layer that learns above an int8 one reads its input again for the weight gradient; as integers that takes
a quarter of the bytes, and the same values come of it: ranges stay as they are until the end of the step.
"""

from __future__ import annotations

import dataclasses

from firmware_gen.graph import Graph, Op


def dequantize_again(graph: Graph) -> Graph:
    """Return `graph` in which nothing behind the forward pass reads what was dequantized in it."""
    for made in (_slice_of_integers, _from_integers):  # a slice that is made again reads what must be, too
        for op in graph.ops:
            if op.phase == "forward" and made(graph, op):
                late = [reader for reader in graph.consumers(op.outputs[0]) if reader.phase != "forward"]
                kept = any(reader.phase == "loss" for reader in late) or op.outputs[0] in graph.outputs
                if late and not kept:
                    graph = _again(graph, op, late)
    return graph


def _from_integers(graph: Graph, op: Op) -> bool:
    return op.kind == "dequantize" and graph.tensors[op.inputs[0]].dtype == "i8"


def _slice_of_integers(graph: Graph, op: Op) -> bool:
    source = graph.producer(op.inputs[0]) if op.kind == "slice" else None
    return source is not None and _from_integers(graph, source)


def _again(graph: Graph, op: Op, late: list[Op]) -> Graph:
    y = graph.tensors[op.outputs[0]]
    again = dataclasses.replace(y, name=f"{y.name}.again", source="")
    copy = dataclasses.replace(op, outputs=(again.name,), phase="backward")
    ops: list[Op] = []
    for other in graph.ops:
        if other is late[0]:
            ops.append(copy)
        if other in late:
            inputs = tuple(again.name if name == y.name else name for name in other.inputs)
            other = dataclasses.replace(other, inputs=inputs)
        ops.append(other)
    return graph.with_ops(ops, tensors={**graph.tensors, again.name: again})
