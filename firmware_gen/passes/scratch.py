"""Scratch memory for the kernels of an instruction set, planned like every tensor."""

from __future__ import annotations

import dataclasses

from boards import Isa
from firmware_gen.graph import Graph, Op, Tensor
from firmware_gen.operators import OPERATORS

ENDING = ".scratch"


def with_scratch(graph: Graph, isa: Isa) -> Graph:
    """Return `graph` with the scratch that its kernels need with `isa`, and none that another one needed."""
    tensors = dict(graph.tensors)
    ops: list[Op] = []
    for op in graph.ops:
        own = tuple(name for name in op.scratch if not name.endswith(ENDING))
        count = OPERATORS[op.kind].scratch_bytes(op, graph, isa)
        if count:
            name = f"{op.outputs[0] if op.outputs else op.name}{ENDING}"
            tensors[name] = Tensor(name, (1, 1, count), "i8")
            own = (*own, name)
        ops.append(dataclasses.replace(op, scratch=own))
    return graph.with_ops(ops, tensors=tensors)
