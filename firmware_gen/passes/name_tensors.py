"""Name every tensor after the layer that makes it: exporters' names say nothing to who reads a plan."""

from __future__ import annotations

import dataclasses

from firmware_gen.graph import Graph


def name_tensors(graph: Graph) -> Graph:
    """Rename intermediate tensors; inputs and outputs of the network keep their names."""
    fixed = {*graph.inputs, *graph.outputs}
    names = {
        op.outputs[0]: op.name if op.name not in fixed else f"{op.name}.value"
        for op in graph.ops
        if op.outputs[0] not in fixed
    }

    def renamed(tensors: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(name, name) for name in tensors)

    ops = [
        dataclasses.replace(op, inputs=renamed(op.inputs), outputs=renamed(op.outputs)) for op in graph.ops
    ]
    tensors = {
        names.get(name, name): dataclasses.replace(tensor, name=names.get(name, name))
        for name, tensor in graph.tensors.items()
    }
    return graph.with_ops(ops, tensors=tensors)
