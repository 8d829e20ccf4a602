"""Make what is read much later a second time instead of keeping it (Chen et al. 2016).

A copy of the layers that make a tensor runs right before the backward pass, or the far end of a skip
connection, reads it. They start from what is kept anyway or from the network's input, before any weight that
they use has changed, and ranges stay as they are until the end of a step: so the copy has the same bits.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator

from firmware_gen.graph import Graph, Op, Phase, check

FAR = 4  # operators in which nothing reads a tensor, for it to be worth making again


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


def bridges(graph: Graph) -> tuple[str, ...]:
    """Return what is kept in the forward pass only for readers far behind the others: skip connections."""
    ahead = {
        op.outputs[0]: len(_far_readers(graph, op.outputs[0]))
        for op in graph.ops
        if op.phase == "forward" and len(op.outputs) == 1 and not late_readers(graph, op.outputs[0])
    }
    return tuple(name for name, count in ahead.items() if count)


def rebuild(graph: Graph, name: str) -> Graph:
    """Return `graph` in which what bridges a gap is made again behind it, if that is possible."""
    readers = _far_readers(graph, name)
    at = graph.ops.index(readers[0])
    return check(_again(graph, readers, _sources(graph, name, _alive(graph, at)), "forward"))


def _far_readers(graph: Graph, name: str) -> list[Op]:
    """Return the forward operators that read `name` behind the longest time in which nothing does."""
    forward = [(k, op) for k, op in enumerate(graph.ops) if op.phase == "forward"]
    uses = [k for k, op in forward if name in (*op.inputs, *op.outputs)]
    gaps = [behind - before for before, behind in itertools.pairwise(uses)]
    if len(uses) < 3 or max(gaps) < FAR:
        return []
    return [graph.ops[k] for k in uses[gaps.index(max(gaps)) + 1 :]]


def _alive(graph: Graph, at: int) -> set[str]:
    """Return what the operators from `at` on read anyway, and the inputs, which a copy can begin with."""
    return {*graph.inputs, *(name for op in graph.ops[at:] for name in op.inputs)}


def _made_again(graph: Graph, name: str) -> Graph:
    late = late_readers(graph, name)
    if not late:
        return graph
    keeps = {x for op in graph.ops for x in op.inputs if late_readers(graph, x)}
    return _again(graph, late, _sources(graph, name, keeps), "backward")


def _again(graph: Graph, late: list[Op], sources: list[Op] | None, phase: Phase) -> Graph:
    """Return `graph` in which the operators `late` read what a copy of `sources` makes right before them."""
    if sources is None:
        return graph
    at = graph.ops.index(late[0])
    changed = {constant for op in graph.ops[:at] if op.phase == "update" for constant in op.constants}
    if any(changed.intersection(op.constants) for op in sources):
        return graph
    again = {op.outputs[0]: f"{op.outputs[0]}.recomputed" for op in sources}
    if any(copy in graph.tensors for copy in again.values()):
        return graph
    copies = [
        dataclasses.replace(_renamed(op, again), outputs=(again[op.outputs[0]],), phase=phase)
        for op in sources
    ]
    tensors = {
        copy: dataclasses.replace(graph.tensors[made], name=copy, source="") for made, copy in again.items()
    }
    name = sources[-1].outputs[0]
    readers = [_renamed(op, {name: again[name]}) if op in late else op for op in graph.ops[at:]]
    return graph.with_ops((*graph.ops[:at], *copies, *readers), tensors={**graph.tensors, **tensors})


def _sources(graph: Graph, name: str, alive: Collection[str]) -> list[Op] | None:
    """Return the layers that make `name` from tensors that are `alive`; None if that is not possible."""
    wanted = {name}
    found: list[Op] = []
    for op in reversed(graph.ops[graph.latent_ops :]):  # a step from latents runs nothing below them
        if op.phase != "forward" or op.outputs[0] not in wanted:
            continue
        if len(op.outputs) > 1:
            return None
        found.append(op)
        wanted.update(x for x in op.inputs if x not in alive)
    made = {op.outputs[0] for op in found}
    return found[::-1] if wanted == made else None


def _renamed(op: Op, names: dict[str, str]) -> Op:
    return dataclasses.replace(op, inputs=tuple(names.get(x, x) for x in op.inputs))
