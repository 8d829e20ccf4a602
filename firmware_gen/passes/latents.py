"""Latents: what a training step can start from in the place of a frame.

What lies below a layer and does not learn makes the same of a frame for ever. So the tensors that it hands on
can be kept instead of the frame: "latent replay" (Pellegrini et al. 2020). The operators that make them come
first in the graph; a step from latents begins behind these.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from fieldtune.errors import UserError
from firmware_gen.graph import Graph, Op, check
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.layout import OneLayer


def with_latents(graph: Graph, layer: str) -> Graph:
    """Return the training graph `graph` with the latents at `layer`: its output, and what skips over it.

    Raises:
        UserError: there is no such layer, something at or below it learns, or the network ends there.
    """
    found = _layers(graph)
    if layer not in found:
        close = difflib.get_close_matches(layer, found, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"the layers are {', '.join(found)}"
        raise UserError(f"no layer of {graph.name} is called '{layer}' as --latents has it; {hint}")
    below = _below(graph, found[layer])
    learning = next((op.name for op in below if _learns(graph, op)), None)
    if learning is not None:
        raise UserError(
            f"--latents {layer} of {graph.name}: {learning} learns, and what lies at or above it changes; "
            f"{_advice(graph)}"
        )
    made = {name for op in below for name in op.outputs}
    ends = made.intersection(graph.outputs)
    if ends:
        raise UserError(
            f"--latents {layer} of {graph.name}: its output '{min(ends)}' is made there; {_advice(graph)}"
        )
    others = [op for op in graph.ops if made.isdisjoint(op.outputs)]
    read = {name for op in others for name in op.inputs}
    latents = tuple(name for op in below for name in op.outputs if name in read)
    return check(graph.with_ops((*below, *others), latents=latents))


def _layers(graph: Graph) -> Mapping[str, Op]:
    """Return the layers by name, without the parts of those that were split."""
    parts = {x for op in graph.ops if isinstance(op.attrs, OneLayer) for x in op.inputs}
    return {op.name: op for op in graph.ops if op.phase == "forward" and parts.isdisjoint(op.outputs)}


def _below(graph: Graph, layer: Op) -> list[Op]:
    """Return `layer` and all that its output is made by."""
    wanted, found = {*layer.outputs}, []
    for op in reversed(graph.ops):
        if wanted.intersection(op.outputs):
            found.append(op)
            wanted.update(op.inputs)
    return found[::-1]


def _learns(graph: Graph, op: Op) -> bool:
    return not set(op.constants).isdisjoint(graph.trained)


def _advice(graph: Graph) -> str:
    """Return what to name instead: the layer below all that learns that has most work below itself."""
    work = {}
    for name, layer in _layers(graph).items():
        below = _below(graph, layer)
        made = {x for op in below for x in op.outputs}
        if made.isdisjoint(graph.outputs) and not any(_learns(graph, op) for op in below):
            work[name] = sum(OPERATORS[op.kind].macs(op, graph) for op in below)
    if not any(work.values()):
        return "no layer lies below all that learns: leave out --latents"
    return f"name a layer below all that learns, such as {max(work, key=lambda name: work[name])}"
