"""Which layers of a graph compute in int8, and which tensors share a scale."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from fieldtune.errors import UserError
from firmware_gen.graph import Constant, Graph, Op
from firmware_gen.operators.resize import ResizeAttrs
from firmware_gen.update import parse_update, trained_constants
from firmware_gen.window import Activation

MOVERS = ("concat", "max_pool", "channels_first", "from_channels_first")
"""Operators that only choose and arrange values, as resizing to the nearest does."""

CLAMPS = ("relu", "clip")
"""Activations that an integer addition applies while it stores, so that the bare sum needs no scale."""


@dataclass(frozen=True)
class Scheme:
    """The division of a graph into int8 and float.

    Args:
        graph: simplified, in float.
        float_layers: names of the operators that compute in float.
        unscaled_layers: names of those whose weights keep their size, for a learning rate acts on the size:
            what is float and what will learn.
        tensors: those that are int8: whatever an int8 layer reads or writes, in the graph's order.
    """

    graph: Graph
    float_layers: frozenset[str]
    unscaled_layers: frozenset[str]
    tensors: tuple[str, ...]

    def is_int8(self, op: Op) -> bool:
        """Tell whether an operator computes in int8."""
        return op.name not in self.float_layers

    def groups(self) -> list[set[str]]:
        """Return the sets of int8 tensors that must have one scale: what operators that compute nothing join.

        The network's inputs are in none: their scale is that of the pixels.
        """
        groups: list[set[str]] = []
        for op in self.graph.ops:
            if not _moves(op) or not self.is_int8(op):
                continue
            group = {x for x in (*op.inputs, *op.outputs) if x not in self.graph.inputs}
            touching = [other for other in groups if other & group]
            groups = [other for other in groups if not other & group] + [group.union(*touching)]
        return groups


def divide(graph: Graph, keep_float: str | None = None, update: str | None = None) -> Scheme:
    """Return the scheme in which the layers that `keep_float` names stay in float.

    Args:
        graph: simplified, in float.
        keep_float: names or globs of layers or weights, separated by commas. A layer without weights whose
            readers all are in float is in float too.
        update: what will learn on the device, as the update plan has it.

    Raises:
        UserError: a pattern matches nothing, or nothing is left for int8.
        ModelError: a constant that several layers share would learn.
    """
    kept, trained = named_layers(graph, keep_float), trained_constants(graph, parse_update(update))
    learning = {op.name for op in graph.ops if any(name in trained for name in op.constants)}
    if not any(op.constants and op.name not in kept for op in graph.ops):
        raise UserError(f"no layer of {graph.name} is left for int8; name fewer layers with --keep-float")
    return division(graph, kept, learning)


def division(graph: Graph, float_layers: Collection[str], learning: Collection[str] = ()) -> Scheme:
    """Return the scheme in which just these operators are in float, and those whose readers all are.

    Args:
        graph: simplified, in float.
        float_layers: names of operators; where these are all that have weights, all else is in float too.
        learning: names of those that will learn on the device.
    """
    kept = set(float_layers)
    if all(op.name in kept for op in graph.ops if op.constants):
        kept = {op.name for op in graph.ops}
    for op in reversed(graph.ops):
        readers = graph.consumers(op.outputs[0])
        inner = not op.constants and readers and op.outputs[0] not in graph.outputs
        if inner and all(reader.name in kept for reader in readers):
            kept.add(op.name)
    return Scheme(
        _with_biases(graph, kept),
        frozenset(kept),
        frozenset(kept.union(learning)),
        _int8_tensors(graph, kept),
    )


def named_layers(graph: Graph, patterns: str | None) -> set[str]:
    """Return the layers that the `patterns` of --keep-float name by themselves or by their weights.

    Raises:
        UserError: a pattern matches nothing.
    """
    named: set[str] = set()
    for pattern in filter(None, (part.strip() for part in (patterns or "").split(","))):
        hits = {
            op.name
            for op in graph.ops
            if any(fnmatch.fnmatchcase(name, pattern) for name in (op.name, *op.constants))
        }
        if not hits:
            raise UserError(
                f"no layer or weight of {graph.name} is called '{pattern}' as --keep-float has it; "
                f"the layers are {', '.join(op.name for op in graph.ops)}"
            )
        named |= hits
    return named


def _with_biases(graph: Graph, kept: Collection[str]) -> Graph:
    """Give every int8 convolution a bias, by which rounding makes good its mean error."""
    ops: list[Op] = []
    constants = dict(graph.constants)
    for op in graph.ops:
        if op.kind == "conv2d" and len(op.constants) == 1 and op.name not in kept:
            bias = f"{op.name}.bias"
            constants[bias] = Constant(bias, np.zeros(graph.shape(op.outputs[0])[2], np.float32))
            op = replace(op, constants=(*op.constants, bias))
        ops.append(op)
    return graph.with_ops(ops, constants=constants)


def _moves(op: Op) -> bool:
    return op.kind in MOVERS or (isinstance(op.attrs, ResizeAttrs) and op.attrs.mode == "nearest")


def _int8_tensors(graph: Graph, kept: Collection[str]) -> tuple[str, ...]:
    names = dict.fromkeys(graph.inputs) | {op.outputs[0]: None for op in graph.ops}
    touched = {x for op in graph.ops if op.name not in kept for x in (*op.inputs, *op.outputs)}
    return tuple(name for name in names if name in touched and not _is_passing(name, graph, kept))


def _is_passing(tensor: str, graph: Graph, kept: Collection[str]) -> bool:
    """Tell whether `tensor` is a sum that only goes through an activation: one integer layer makes both."""
    producer, readers = graph.producer(tensor), graph.consumers(tensor)
    if producer is None or producer.kind != "add" or tensor in graph.outputs or len(readers) != 1:
        return False
    (reader,) = readers
    clamps = isinstance(reader.attrs, Activation) and reader.attrs.kind in CLAMPS
    return clamps and producer.name not in kept and reader.name not in kept
