"""Which tensors share storage: in-place operators, concatenations without copies, slices.

The result is a list of buffers with lifetimes, which :mod:`firmware_gen.arena` then places, and for each
tensor a view into one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from firmware_gen.arena import Buffer, peak_bytes
from firmware_gen.graph import ITEM_BITS, Graph, Tensor
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.layout import OneLayer
from firmware_gen.schedule import Step

ALIGNMENT = 16  # bytes; what the widest vector unit among the targets wants

# A concatenation's input, by the names of both tensors.
Part = tuple[str, str]
# Above this many parts the combinations are tried one part at a time.
EXHAUSTIVE_PARTS = 8


@dataclass(frozen=True)
class View:
    """Where a tensor lies in its buffer: first channel, and strides in elements."""

    buffer: str
    channel: int
    pixel: int
    row: int


@dataclass(frozen=True)
class Storage:
    """Views of all tensors and the buffers behind them."""

    views: Mapping[str, View]
    buffers: tuple[Buffer, ...]


def choose_storage(steps: tuple[Step, ...]) -> Storage:
    """Return the storage with the lowest peak; among equals the one that copies least."""
    graph = steps[0].graph
    layers = {op.outputs[0] for op in graph.ops if isinstance(op.attrs, OneLayer)}
    inside = frozenset(part for part in _concat_parts(graph) if part[1] in layers)
    parts = [part for part in _concat_parts(graph) if part not in inside]

    def cost(direct: frozenset[Part]) -> tuple[int, int]:
        copied = sum(graph.tensors[part].bytes for part, whole in parts if (part, whole) not in direct)
        return peak_bytes(assign(steps, inside | direct).buffers), copied

    if len(parts) <= EXHAUSTIVE_PARTS:
        sizes = range(len(parts) + 1)
        options = [frozenset(some) for size in sizes for some in itertools.combinations(parts, size)]
        best = min(options, key=cost)
    else:
        best = frozenset()
        for part in parts:
            best = min((best, best | {part}), key=cost)
    return assign(steps, inside | best)


def _concat_parts(graph: Graph) -> list[Part]:
    """Return the concatenated tensors that could be written in place: made by an operator, joined once."""
    joined = [(x, op.outputs[0]) for op in graph.ops if op.kind == "concat" for x in op.inputs]
    names = [part for part, _ in joined]
    return [
        (part, whole)
        for part, whole in joined
        if names.count(part) == 1 and graph.producer(part) is not None and part not in graph.outputs
    ]


def assign(steps: tuple[Step, ...], direct: frozenset[Part]) -> Storage:
    """Return views and buffers when the parts in `direct` are written straight into their concatenation."""
    return _Assignment(steps, direct).storage()


class _Assignment:
    def __init__(self, steps: tuple[Step, ...], direct: frozenset[Part]) -> None:
        self._steps = steps
        self._graph = steps[0].graph
        self._whole = dict(direct)
        self._views: dict[str, View] = {}
        self._first, self._last = _lifetimes(steps)

    def storage(self) -> Storage:
        graph = self._graph
        for name in (*graph.inputs, *graph.labels, *graph.masks):
            self._views[name] = self._own(name)
        for index, step in enumerate(self._steps):
            for name in (*step.op.outputs, *step.op.scratch):
                if name not in self._views:
                    self._views[name] = self._place(name, step, index)
        return Storage(self._views, tuple(self._buffers()))

    def _place(self, name: str, step: Step, index: int) -> View:
        op = step.op
        if name in self._whole:
            return self._part(name)
        if op.inputs and op.outputs[:1] == (name,):
            shared = OPERATORS[op.kind].view(op, self._graph, self._views[op.inputs[0]])
            # The host reads outputs, and knows nothing of strides.
            if shared is not None and (name not in self._graph.outputs or self._dense(name, shared)):
                return shared
        if op.outputs[:1] == (name,):
            for k in OPERATORS[op.kind].overwrites(op):
                if self._may_take_over(op.inputs[k], name, index):
                    return self._views[op.inputs[k]]
        return self._own(name)

    def _own(self, name: str) -> View:
        _, width, channels = self._graph.shape(name)
        return View(name, 0, channels, width * channels)

    def _part(self, name: str) -> View:
        whole = self._whole[name]
        if whole not in self._views:
            self._views[whole] = self._part(whole) if whole in self._whole else self._own(whole)
        base, first = self._views[whole], 0
        concat = self._graph.producer(whole)
        assert concat is not None
        for part in concat.inputs:
            if part == name:
                break
            first += self._graph.shape(part)[2]
        return View(base.buffer, base.channel + first, base.pixel, base.row)

    def _may_take_over(self, taken: str, name: str, index: int) -> bool:
        old, new = self._graph.tensors[taken], self._graph.tensors[name]
        if old.shape != new.shape or ITEM_BITS[old.dtype] != ITEM_BITS[new.dtype]:
            return False
        view = self._views[taken]
        if name in self._graph.outputs and not self._dense(name, view):
            return False
        # Another operand may lie there only if it is read where the output is written, value by value.
        return all(
            self._last[other] < index
            or (self._last[other] == index and at == view and self._graph.shape(other) == old.shape)
            for other, at in self._views.items()
            if at.buffer == view.buffer and other != name and self._overlap(taken, other)
        )

    def _dense(self, name: str, view: View) -> bool:
        own = self._own(name)
        return (view.channel, view.pixel, view.row) == (own.channel, own.pixel, own.row)

    def _overlap(self, a: str, b: str) -> bool:
        """Tell whether two views of one buffer may have values in common."""
        (first, end), (other, other_end) = self._span(a), self._span(b)
        if end <= other or other_end <= first:
            return False
        one, two = self._views[a], self._views[b]
        a_end = one.channel + self._graph.shape(a)[2]
        b_end = two.channel + self._graph.shape(b)[2]
        if (one.pixel, one.row) != (two.pixel, two.row) or max(a_end, b_end) > one.pixel:
            return True  # one buffer in two shapes
        return one.channel < b_end and two.channel < a_end

    def _span(self, name: str) -> tuple[int, int]:
        """Return the first element of the buffer that `name` has, and the one behind its last."""
        view, (height, width, channels) = self._views[name], self._graph.shape(name)
        return view.channel, view.channel + (height - 1) * view.row + (width - 1) * view.pixel + channels

    def _buffers(self) -> Iterable[Buffer]:
        members: dict[str, list[str]] = {}
        for name, view in self._views.items():
            members.setdefault(view.buffer, []).append(name)
        for root, names in members.items():
            size = -(-self._graph.tensors[root].bytes // ALIGNMENT) * ALIGNMENT
            first = min(self._first[name] for name in names)
            last = max(self._last[name] for name in names)
            yield Buffer(root, size, first, last)


def _lifetimes(steps: tuple[Step, ...]) -> tuple[dict[str, int], dict[str, int]]:
    """Return for every tensor the step that writes it first (-1: the host) and the last that needs it."""
    graph = steps[0].graph
    first = {name: -1 for name in (*graph.inputs, *graph.labels, *graph.masks)}
    last = dict(first)
    for index, step in enumerate(steps):
        for region in step.writes:
            first.setdefault(region.tensor, index)
            last[region.tensor] = index
        for region in step.reads:
            last[region.tensor] = index
    # The host reads outputs when inference, which is the forward steps, has ended: not even the last step may
    # work in place on one.
    end = 1 + max(index for index, step in enumerate(steps) if step.op.phase == "forward")
    for name in graph.outputs:
        last[name] = max(last[name], end)
    return first, last


def element_bytes(tensor: Tensor) -> int:
    """Return the bytes of one element; bits count as the bytes that hold them."""
    return max(1, ITEM_BITS[tensor.dtype] // 8)
