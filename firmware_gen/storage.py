"""Which tensors share storage: in-place operators, concatenations without copies, slices.

The result is a list of buffers with lifetimes, which :mod:`firmware_gen.arena` then places, and for each
tensor a view into one of them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from firmware_gen.arena import Buffer, peak_bytes
from firmware_gen.graph import ITEM_BITS, Graph, Tensor
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.layout import OneLayer
from firmware_gen.schedule import Chain, Step, layers, whole_layers

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
class Roll:
    """What a buffer holds of tensors that a chain makes and reads: the rows that are still needed.

    Before each band these rows move to the buffer's start. Tensors that share the buffer roll together.

    Attributes:
        writers: indices in the chain of the operators that write to the buffer; the first one moves the rows.
        firsts: for each band the row that lies at the buffer's start.
        moves: for each band how many rows move there when it begins.
        height: rows that the buffer has room for.
        row: elements from row to row.
    """

    chain: Chain
    writers: tuple[int, ...]
    firsts: tuple[int, ...]
    moves: tuple[int, ...]
    height: int
    row: int

    @property
    def moved(self) -> int:
        """Elements that are moved to the start, over all bands."""
        return sum(self.moves) * self.row


@dataclass(frozen=True)
class Storage:
    """Views of all tensors, the buffers behind them, and how some of these roll."""

    views: Mapping[str, View]
    buffers: tuple[Buffer, ...]
    rolls: Mapping[str, Roll]


def choose_storage(steps: tuple[Step, ...]) -> Storage:
    """Return the storage with the lowest peak; among equals the one that copies least."""
    graph = steps[0].graph
    inside = parts_of_layers(graph)
    parts = [part for part in _concat_parts(graph) if part not in inside]
    assignment = _Assignment(steps)

    @functools.cache
    def cost(direct: frozenset[Part]) -> tuple[int, int]:
        storage = assignment.storage(inside | direct)
        return peak_bytes(storage.buffers), copied_bytes(storage, graph)

    if len(parts) <= EXHAUSTIVE_PARTS:
        sizes = range(len(parts) + 1)
        options = [frozenset(some) for size in sizes for some in itertools.combinations(parts, size)]
        best = min(options, key=cost)
    else:
        best = frozenset()
        for part in parts:
            best = min((best, best | {part}), key=cost)
    return assignment.storage(inside | best)


def parts_of_layers(graph: Graph) -> frozenset[Part]:
    """Return the parts of layers that were split: they always lie in the layer's output."""
    whole = {op.outputs[0] for op in graph.ops if isinstance(op.attrs, OneLayer)}
    return frozenset(part for part in _concat_parts(graph) if part[1] in whole)


def copied_bytes(storage: Storage, graph: Graph) -> int:
    """Return the bytes that are copied because parts of concatenations lie elsewhere, or buffers roll."""
    joined = [(x, op.outputs[0]) for op in graph.ops if op.kind == "concat" for x in op.inputs]
    views, tensors = storage.views, graph.tensors
    apart = sum(tensors[x].bytes for x, y in joined if views[x].buffer != views[y].buffer)
    rolled = sum(roll.moved * element_bytes(tensors[root]) for root, roll in storage.rolls.items())
    return apart + rolled


def _concat_parts(graph: Graph) -> list[Part]:
    """Return the concatenated tensors that could be written in place: made by an operator, joined once."""
    joined = [(x, op.outputs[0]) for op in graph.ops if op.kind == "concat" for x in op.inputs]
    names = [part for part, _ in joined]
    return [
        (part, whole)
        for part, whole in joined
        if names.count(part) == 1 and graph.producer(part) is not None and part not in _seen_by_host(graph)
    ]


def _seen_by_host(graph: Graph) -> set[str]:
    """Return the tensors that operators make and the host reads or writes; it knows nothing of strides."""
    return {*graph.outputs, *graph.latents}


def assign(steps: tuple[Step, ...], direct: frozenset[Part]) -> Storage:
    """Return views and buffers when the parts in `direct` are written straight into their concatenation."""
    return _Assignment(steps).storage(direct)


class _Assignment:
    """Assigns views to the tensors of a schedule."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self._graph = steps[0].graph
        self._by_host = _seen_by_host(self._graph)
        self._whole: dict[str, str] = {}
        self._views: dict[str, View] = {}
        self._layers = layers(steps)
        self._lifetimes = _lifetimes(steps)
        self._last = _lifetimes(whole_layers(self._graph))[1]  # counts layers: who comes after whom

    def storage(self, direct: frozenset[Part]) -> Storage:
        """Return the storage when the parts in `direct` are written straight into their concatenation."""
        graph = self._graph
        self._whole, self._views = dict(direct), {}
        for name in (*graph.inputs, *graph.labels, *graph.masks):
            self._views[name] = self._own(name)
        for index, step in enumerate(self._layers):
            for name in step.op.outputs:
                if name not in self._views:
                    self._views[name] = self._place(name, step, index)
            for name in step.op.scratch:
                self._views[name] = self._own(self._largest_scratch(step.chain) if step.chain else name)
        members: dict[str, list[str]] = {}
        for name, view in self._views.items():
            members.setdefault(view.buffer, []).append(name)
        rolls = self._rolls(members)
        return Storage(self._views, tuple(self._buffers(members, rolls)), rolls)

    def _place(self, name: str, step: Step, index: int) -> View:
        op = step.op
        if name in self._whole:
            return self._part(name)
        if op.inputs and op.outputs[:1] == (name,):
            shared = OPERATORS[op.kind].view(op, self._graph, self._views[op.inputs[0]])
            # What outlives a chain must not keep more.
            if (
                shared is not None
                and (name not in self._by_host or self._dense(name, shared))
                and not _outlives(name, op.inputs[0], step)
            ):
                return shared
        if op.outputs[:1] == (name,):
            for k in OPERATORS[op.kind].overwrites(op):
                if self._may_take_over(op.inputs[k], name, step, index):
                    return self._views[op.inputs[k]]
        return self._own(name)

    def _largest_scratch(self, chain: Chain) -> str:
        """Return what all operators of the chain work in: they take turns."""
        names = [name for op in chain.ops for name in op.scratch]
        return max(names, key=lambda name: self._graph.tensors[name].bytes)

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

    def _may_take_over(self, taken: str, name: str, step: Step, index: int) -> bool:
        old, new = self._graph.tensors[taken], self._graph.tensors[name]
        if old.shape != new.shape or ITEM_BITS[old.dtype] != ITEM_BITS[new.dtype]:
            return False
        view = self._views[taken]
        if name in self._by_host and not self._dense(name, view):
            return False
        # Another operand may lie there only if it is read where the output is written, value by value.
        return all(
            (
                self._last[other] < index
                or (self._last[other] == index and at == view and self._graph.shape(other) == old.shape)
            )
            and not _read_later(other, at.row != view.row, step)
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

    def _rolls(self, members: Mapping[str, list[str]]) -> dict[str, Roll]:
        """Return the buffers all of whose members one chain makes and reads."""
        chains = {name: step.chain for step in self._layers if step.chain for name in step.chain.rolling}
        found = {}
        for root, names in members.items():
            chain = chains.get(root)
            if chain is not None and all(name in chain.rolling for name in names):
                found[root] = _roll(chain, names, self._views[root].row)
        return found

    def _buffers(self, members: Mapping[str, list[str]], rolls: Mapping[str, Roll]) -> Iterable[Buffer]:
        firsts, lasts = self._lifetimes
        for root, names in members.items():
            tensor = self._graph.tensors[root]
            bytes_ = tensor.bytes
            if root in rolls:
                bytes_ = rolls[root].height * rolls[root].row * element_bytes(tensor)
            size = -(-bytes_ // ALIGNMENT) * ALIGNMENT
            yield Buffer(root, size, min(firsts[name] for name in names), max(lasts[name] for name in names))


def _roll(chain: Chain, names: list[str], row: int) -> Roll:
    """Return how the rows that `names` have in common roll."""
    made = [max(rows) for rows in zip(*(chain.made[name] for name in names), strict=True)]
    firsts = [min(rows) for rows in zip(*(chain.needed[name] for name in names), strict=True)][:-1]
    return Roll(
        chain,
        tuple(index for index, op in enumerate(chain.ops) if set(op.outputs[:1]) & set(names)),
        tuple(firsts),
        tuple(
            end - first if first > before else 0
            for before, first, end in zip((0, *firsts), firsts, made, strict=False)
        ),
        max(end - first for first, end in zip(firsts, made[1:], strict=True)),
        row,
    )


def _outlives(name: str, source: str, step: Step) -> bool:
    """Tell whether `source` exists in bands only, and `name`, which `step` makes of it, whole."""
    rolling = step.chain.rolling if step.chain is not None else ()
    return source in rolling and name not in rolling


def _read_later(tensor: str, elsewhere: bool, step: Step) -> bool:
    """Tell whether a later band of the chain of `step` reads rows of `tensor` that `step` has then written.

    `elsewhere`: they are not where the tensor that `step` makes has the same rows.
    """
    chain = step.chain
    if chain is None:
        return False
    at = next(index for index, op in enumerate(chain.ops) if op is step.op)
    return any(
        elsewhere or low < ends[at]
        for (reader, name), lows in chain.lows.items()
        if name == tensor and reader != at
        for low, ends in zip(lows[1:], chain.ends, strict=True)
    )


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
    # Gradients that are clipped as one wait for the last of them.
    read = {name for op in graph.ops for name in op.inputs}
    for step in steps:
        if step.op.phase == "update":
            last |= dict.fromkeys(set(step.op.outputs) - read, len(steps) - 1)
    return first, last


def element_bytes(tensor: Tensor) -> int:
    """Return the bytes of one element; bits count as the bytes that hold them."""
    return max(1, ITEM_BITS[tensor.dtype] // 8)
