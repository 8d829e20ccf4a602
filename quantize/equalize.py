"""Cross-layer equalization: rescale channels so that all of a tensor's channels use its int8 range.

A layer's outputs may be divided by any positive number, channel by channel, if the layers that read them
multiply their weights by it: convolutions are linear, and ReLU and LeakyReLU let positive factors pass (Nagel
et al. 2019, arXiv 1906.04721). Nagel et al. choose the factors from the weights alone, for weights with one
scale a tensor. Here every output channel of a weight has its own scale, but activations have one scale a
tensor, so that the factors come from measured activations: each channel is divided by its own range. That
also gives the parts of a concatenation one range.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Constant, Graph, Op
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.window import Activation

HOMOGENEOUS = ("linear", "relu", "leaky_relu")
LARGEST_FACTOR = 100.0
"""A channel that is weaker than this, against its tensor's strongest, stays weaker: it may be noise."""

Ranges = Mapping[str, NDArray[np.float32]]


def equalize(graph: Graph, ranges: Ranges, fixed: Collection[str] = ()) -> Graph:
    """Return a graph that computes the same with channels of like ranges.

    Args:
        graph: simplified, in float.
        ranges: the largest magnitude of every channel of every tensor, (c,).
        fixed: layers whose weights and inputs must stay as they are.
    """
    channels = _Channels(graph, fixed)
    factors = channels.factors(ranges)
    constants = dict(graph.constants)
    for op in graph.ops:
        if op.kind == "conv2d":
            constants |= _rescaled(op, graph, factors[op.inputs[0]], factors[op.outputs[0]])
    return replace(graph, constants=constants)


def _rescaled(
    op: Op, graph: Graph, read: NDArray[np.float64], written: NDArray[np.float64]
) -> dict[str, Constant]:
    """Return the constants of a layer whose inputs and outputs are divided by `read` and `written`."""
    attrs = op.attrs
    assert isinstance(attrs, ConvAttrs)
    weight, *bias = (graph.constants[name] for name in op.constants)
    if (read == 1).all() and (written == 1).all():
        return {}
    rows, columns, inner, outer = weight.value.shape
    groups = attrs.groups
    if attrs.transposed:  # (rows, columns, in, out of a group)
        wide = weight.value.reshape(rows, columns, groups, inner // groups, outer)
        wide = wide * read.reshape(groups, -1, 1) / written.reshape(groups, 1, outer)
    else:  # (rows, columns, in of a group, out)
        wide = weight.value.reshape(rows, columns, inner, groups, outer // groups)
        wide = wide * read.reshape(groups, inner).T[..., None] / written.reshape(groups, -1)
    found = {weight.name: Constant(weight.name, wide.reshape(weight.value.shape).astype(np.float32))}
    for constant in bias:
        found[constant.name] = Constant(constant.name, (constant.value / written).astype(np.float32))
    return found


class _Channels:
    """Which channels of which tensors must have one factor, and which must keep 1.

    Each channel of each tensor is a number; `_parent` joins the numbers that share a factor (union-find).
    """

    def __init__(self, graph: Graph, fixed: Collection[str]) -> None:
        self._parent: list[int] = []
        self._numbers: dict[str, NDArray[np.int64]] = {}
        self._pinned: set[int] = set()
        for name in graph.inputs:
            self._pin(self._new(name, graph))
        for op in graph.ops:
            self._add(op, graph, fixed)
        for name in graph.outputs:
            self._pin(self._numbers[name])

    def factors(self, ranges: Ranges) -> dict[str, NDArray[np.float64]]:
        """Return what each channel of each tensor is to be divided by."""
        roots = {name: np.array([self._root(n) for n in ids]) for name, ids in self._numbers.items()}
        largest = np.zeros(len(self._parent))
        for name, root in roots.items():
            np.maximum.at(largest, root, ranges[name])
        goal = self._goals(roots, largest)
        factor = largest / np.where(goal > 0, goal, 1)
        factor[goal == 0] = 1
        factor = np.maximum(factor, 1 / LARGEST_FACTOR)
        factor[[self._root(n) for n in self._pinned]] = 1
        return {name: factor[root] for name, root in roots.items()}

    def _goals(
        self, roots: Mapping[str, NDArray[np.int64]], largest: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the range that each channel is to have: one for all tensors that share channels.

        That is the largest range of those that cannot change, else the largest of all: the network's numbers
        stay of the size they were.
        """
        parent = np.arange(len(self._parent))

        def top(n: int) -> int:
            while parent[n] != n:
                n = parent[n]
            return n

        for root in roots.values():
            for n in root:
                parent[top(n)] = top(root[0])
        tops = np.array([top(n) for n in range(len(parent))])
        pinned = np.zeros(len(parent), bool)
        pinned[[self._root(n) for n in self._pinned]] = True
        kept, free = np.zeros(len(parent)), np.zeros(len(parent))
        np.maximum.at(kept, tops, np.where(pinned, largest, 0))
        np.maximum.at(free, tops, largest)
        goals: NDArray[np.float64] = np.where(kept > 0, kept, free)[tops]
        return goals

    def _add(self, op: Op, graph: Graph, fixed: Collection[str]) -> None:
        ids = [self._numbers[x] for x in op.inputs]
        shared = any(sum(name in other.constants for other in graph.ops) > 1 for name in op.constants)
        activation = op.attrs.activation if isinstance(op.attrs, ConvAttrs) else op.attrs
        bends = isinstance(activation, Activation) and activation.kind not in HOMOGENEOUS
        if op.kind == "conv2d":
            written = self._new(op.outputs[0], graph)
            if shared or op.name in fixed:
                self._pin(ids[0])
            if shared or bends or op.name in fixed:
                self._pin(written)
        elif op.kind in ("max_pool", "average_pool", "resize") or (op.kind == "activation" and not bends):
            self._numbers[op.outputs[0]] = ids[0]
        elif op.kind == "concat":
            self._numbers[op.outputs[0]] = np.concatenate(ids)
        elif op.kind == "add":
            for a, b in zip(*ids, strict=True):
                self._parent[self._root(a)] = self._root(b)
            self._numbers[op.outputs[0]] = ids[1]
        elif op.kind == "channels_first":
            height, width, _ = graph.shape(op.inputs[0])
            self._numbers[op.outputs[0]] = np.repeat(ids[0], height * width)
        else:
            for numbers in (*ids, self._new(op.outputs[0], graph)):
                self._pin(numbers)

    def _new(self, tensor: str, graph: Graph) -> NDArray[np.int64]:
        first, count = len(self._parent), graph.shape(tensor)[2]
        self._parent += range(first, first + count)
        self._numbers[tensor] = np.arange(first, first + count)
        return self._numbers[tensor]

    def _pin(self, numbers: NDArray[np.int64]) -> None:
        self._pinned.update(numbers.tolist())

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            number = self._parent[number]
        return number
