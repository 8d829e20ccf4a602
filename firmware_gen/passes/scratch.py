"""Scratch memory for the kernels of an instruction set: on the stack while it is small, else in the arena."""

from __future__ import annotations

import dataclasses

from boards import Board, Isa
from firmware_gen.graph import Graph, Op, Tensor
from firmware_gen.operators import OPERATORS

ENDING = ".scratch"
STACK_SHARE = 2  # of the stack, which is reserved anyway, scratch takes one part in this many at most


def scratch_and_shared(op: Op, graph: Graph, isa: Isa) -> int:
    """Return the bytes that an operator works in where there is one core."""
    operator = OPERATORS[op.kind]
    return operator.scratch_bytes(op, graph, isa) + operator.shared_bytes(op, graph, isa)


def with_scratch(graph: Graph, board: Board) -> Graph:
    """Return `graph` with the scratch that its kernels need on `board`, none that another board needed.

    The cores of a cluster have theirs in L1 (:mod:`firmware_gen.cluster.layers`).
    """
    tensors = dict(graph.tensors)
    ops: list[Op] = []
    for op in graph.ops:
        own = tuple(name for name in op.scratch if not name.endswith(ENDING))
        count = 0 if board.cluster else scratch_and_shared(op, graph, board.isa)
        stack = count if count <= board.stack_bytes // STACK_SHARE else 0
        if count and not stack:
            # What a layer makes may have its name: an update of its weights is told by its kind as well.
            maker = op.outputs[0] if op.outputs else f"{op.name}.{op.kind}"
            name = f"{maker}{ENDING}"
            tensors[name] = Tensor(name, (1, 1, count), "i8")
            own = (*own, name)
        ops.append(dataclasses.replace(op, scratch=own, stack=stack))
    return graph.with_ops(ops, tensors=tensors)
