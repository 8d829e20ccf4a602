"""Make what the backward pass reads a second time instead of keeping it (Chen et al. 2016).

A copy of the layers that make a tensor runs right before the backward pass reads it. They start from what is
kept anyway, before any weight that they use has changed, and ranges stay as they are until the end of a step:
so the copy has the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from firmware_gen.graph import Graph, Op, check


def recomputed(graph: Graph) -> Iterator[Graph]:
    """Yield `graph` with more and more of what is kept made again, beginning with what was made first.

    What was made last is read first in the backward pass, where gradients are largest.
    """
    names = kept(graph)
    for first in reversed(range(len(names))):
        other = recompute(graph, names[first:])
        if other.ops != graph.ops:
            yield other


def kept(graph: Graph) -> tuple[str, ...]:
    """Return what the forward pass makes and something behind the losses reads, last made first."""
    return tuple(
        op.outputs[0]
        for op in reversed(graph.ops)
        if op.phase == "forward" and len(op.outputs) == 1 and late_readers(graph, op.outputs[0])
    )


def recompute(graph: Graph, names: Iterable[str]) -> Graph:
    """Return `graph` in which those of `names` (of `kept`, in its order) that can be are made again."""
    for name in names:
        graph = _made_again(graph, name)
    return check(graph)


def late_readers(graph: Graph, name: str) -> list[Op]:
    """Return the operators behind the losses that read `name`."""
    loss = max((index for index, op in enumerate(graph.ops) if op.phase == "loss"), default=len(graph.ops))
    return [op for op in graph.ops[loss + 1 :] if name in op.inputs]


def _made_again(graph: Graph, name: str) -> Graph:
    late = late_readers(graph, name)
    sources = _sources(graph, name)
    if not late or sources is None:
        return graph
    at = next(index for index, op in enumerate(graph.ops) if op is late[0])
    changed = {constant for op in graph.ops[:at] if op.phase == "update" for constant in op.constants}
    if any(changed.intersection(op.constants) for op in sources):
        return graph
    again = {op.outputs[0]: f"{op.outputs[0]}.recomputed" for op in sources}
    if any(copy in graph.tensors for copy in again.values()):
        return graph
    copies = [
        dataclasses.replace(_renamed(op, again), outputs=(again[op.outputs[0]],), phase="backward")
        for op in sources
    ]
    tensors = {
        copy: dataclasses.replace(graph.tensors[made], name=copy, source="") for made, copy in again.items()
    }
    readers = [_renamed(op, {name: again[name]}) if op in late else op for op in graph.ops[at:]]
    return graph.with_ops((*graph.ops[:at], *copies, *readers), tensors={**graph.tensors, **tensors})


def _sources(graph: Graph, name: str) -> list[Op] | None:
    """Return the layers that make `name` from tensors that are kept; None if that is not possible."""
    wanted = {name}
    found: list[Op] = []
    for op in reversed(graph.ops[graph.latent_ops :]):  # a step from latents runs nothing below them
        if op.phase != "forward" or op.outputs[0] not in wanted:
            continue
        if len(op.outputs) > 1:
            return None
        found.append(op)
        wanted.update(x for x in op.inputs if not late_readers(graph, x))
    made = {op.outputs[0] for op in found}
    return found[::-1] if wanted == made else None


def _renamed(op: Op, names: dict[str, str]) -> Op:
    return dataclasses.replace(op, inputs=tuple(names.get(x, x) for x in op.inputs))
