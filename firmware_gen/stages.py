"""The backward pass in stages, each of which makes what it reads a second time, in bands.

Checkpointing (Chen et al. 2016) for the case that weights change only when a step ends, because gradients
wait for their norm or for further samples: then any layer of the forward pass can run again at any time, with
the same bits. A stage runs the layers that it needs again and then its part of the backward pass, all of them
in one chain of row bands, so that nothing of what they make for each other exists whole. From stage to stage
go gradients, and what is kept of the forward pass.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from boards import Board
from firmware_gen.arena import alive_bytes, extent, peak_bytes, place
from firmware_gen.bands import Bands
from firmware_gen.graph import Graph, Op, check
from firmware_gen.passes.scratch import with_scratch
from firmware_gen.schedule import Chain, Step
from firmware_gen.storage import Storage, assign, choose_storage, parts_of_layers

LEAST_LAYERS = 2  # of a chain
FORWARD = 0  # number of the forward pass; stages count from 1


@dataclass(frozen=True)
class Staging:
    """How a training graph is divided.

    Attributes:
        cuts: indices of the operators behind the loss with which a stage begins, but for the first stage.
        kept: what the forward pass makes and no stage makes again.
    """

    cuts: frozenset[int] = frozenset()
    kept: frozenset[str] = frozenset()


def staged(graph: Graph, staging: Staging) -> tuple[Graph, tuple[range, ...]]:
    """Return `graph` in stages, and which operators of it are the forward pass and each of the stages.

    Weights must not change before the last stage ends.
    """
    begin = _behind_loss(graph)
    ops, ranges, tensors = list(graph.ops[:begin]), [range(begin)], dict(graph.tensors)
    borders = [begin, *sorted(staging.cuts), len(graph.ops)]
    for number, (first, end) in enumerate(itertools.pairwise(borders)):
        part = graph.ops[first:end]
        again = _made_again(graph, part, staging.kept)
        names = {y: f"{y}.again{number}" for op in again for y in op.outputs}
        for y, copy in names.items():
            tensors[copy] = dataclasses.replace(graph.tensors[y], name=copy, source="")
        at = len(ops)
        ops += [dataclasses.replace(_renamed(op, names), phase="backward") for op in again]
        ops += _last_things_last([_renamed(op, names) for op in part])
        ranges.append(range(at, len(ops)))
    return check(graph.with_ops(ops, tensors=tensors)), tuple(ranges)


def _behind_loss(graph: Graph) -> int:
    return 1 + max(index for index, op in enumerate(graph.ops) if op.phase == "loss")


def _made_again(graph: Graph, part: Iterable[Op], kept: frozenset[str]) -> list[Op]:
    """Return the layers of the forward pass that make what `part` reads."""
    wanted = {x for op in part for x in op.inputs} - kept
    found: list[Op] = []
    for op in reversed(graph.ops[: _behind_loss(graph)]):
        if op.phase == "forward" and not wanted.isdisjoint(op.outputs):
            found.append(op)
            wanted.update(set(op.inputs) - kept)
    return found[::-1]


def _renamed(op: Op, names: dict[str, str]) -> Op:
    """Return `op` with other inputs, and with other outputs if these are among `names`."""
    return dataclasses.replace(
        op,
        inputs=tuple(names.get(x, x) for x in op.inputs),
        outputs=tuple(names.get(y, y) for y in op.outputs),
    )


def _last_things_last(part: list[Op]) -> list[Op]:
    """Return `part` with what only rounds its sums at the end: no chain need end before it."""
    return sorted(part, key=lambda op: op.kind == "round_gradient")


def _ends_layer(op: Op) -> bool:
    """Tell whether the operator comes last in a layer's backward: an update, or a part of its gradient."""
    return op.phase == "update" or op.kind == "slice"


@dataclass(frozen=True)
class _Choice:
    staging: Staging
    steps: tuple[Step, ...]
    peaks: tuple[int, ...]  # bytes alive in the forward pass and in each stage

    @property
    def cost(self) -> list[int]:
        """The peaks, from the highest down: what lowers one may leave another as it is."""
        return sorted(self.peaks, reverse=True)

    @cached_property
    def storage(self) -> Storage:
        """Where everything lies."""
        return choose_storage(self.steps)

    @cached_property
    def least(self) -> int:
        """The most bytes that are alive when storage is shared as well as can be."""
        return peak_bytes(self.storage.buffers)

    def fits(self, room: int) -> bool:
        """Tell whether the arena has `room` bytes at most."""
        buffers = self.storage.buffers
        return self.least <= room and extent(buffers, place(buffers)) <= room

    @property
    def worst(self) -> int:
        """Number of the stage with the highest peak, from 1 on, or `FORWARD`."""
        return self.peaks.index(max(self.peaks))


def in_stages(graph: Graph, board: Board, room: int) -> tuple[tuple[Step, ...], Storage]:
    """Return a schedule in stages and its storage, whose arena needs `room` bytes, else the fewest found.

    Greedy: the stage with the highest peak is cut where that helps most; where no cut helps, one tensor more
    is kept, or one less. Once it fits, all is kept that has room.
    """
    return _Search(graph, board, room).run()


class _Search:
    def __init__(self, graph: Graph, board: Board, room: int) -> None:
        self._graph = graph
        self._board = board
        self._room = room
        self._begin = _behind_loss(graph)
        self._needed = {*graph.outputs, *graph.latents}  # by the host; a step from latents runs nothing below

    def run(self) -> tuple[tuple[Step, ...], Storage]:
        best = least = self._choice(Staging(kept=frozenset(self._needed)))
        while not least.fits(self._room):
            found = self._better(best, self._cut(best)) or self._better(best, self._keep(best))
            if found is None:
                return least.steps, least.storage
            best = found
            least = min(least, best, key=lambda choice: choice.least)
        lightest = self._lightened(least)
        return lightest.steps, lightest.storage

    def _lightened(self, best: _Choice) -> _Choice:
        """Return a choice that fits as well and makes less again; what was made last, behind most, first."""
        for op in reversed(self._graph.ops[: self._begin]):
            if op.phase == "forward" and op.outputs[0] not in best.staging.kept:
                kept = best.staging.kept | {op.outputs[0]}
                option = self._choice(dataclasses.replace(best.staging, kept=kept))
                if max(option.peaks) <= self._room and option.fits(self._room):
                    best = option
        return best

    def _better(self, best: _Choice, options: Iterable[Staging]) -> _Choice | None:
        """Return the cheapest of the options, None if none is cheaper than `best`."""
        choices = (self._choice(option) for option in options)
        found = min(choices, key=lambda choice: choice.cost, default=best)
        return found if found.cost < best.cost else None

    def _cut(self, best: _Choice) -> Iterator[Staging]:
        """Yield what comes of cutting the worst stage behind each of its layers."""
        if best.worst == FORWARD:
            return
        ops = self._graph.ops
        borders = [self._begin, *sorted(best.staging.cuts), len(ops)]
        first, end = borders[best.worst - 1 : best.worst + 1]
        for at in range(first + 1, end):
            # A slice that came in the next stage would keep the whole gradient that it is a view of.
            if _ends_layer(ops[at - 1]) and not _ends_layer(ops[at]):
                yield dataclasses.replace(best.staging, cuts=best.staging.cuts | {at})

    def _keep(self, best: _Choice) -> Iterator[Staging]:
        """Yield what comes of keeping a tensor more, or one less."""
        for op in self._graph.ops[: self._begin]:
            if op.phase == "forward" and op.outputs[0] not in self._needed:
                yield dataclasses.replace(best.staging, kept=best.staging.kept ^ {op.outputs[0]})

    def _choice(self, staging: Staging) -> _Choice:
        graph, ranges = staged(self._graph, staging)
        graph = with_scratch(graph, self._board)
        bands = Bands(graph)
        steps = bands.steps(chain for part in ranges for chain in _chains(bands, part))
        buffers = assign(steps, parts_of_layers(graph)).buffers
        numbers = {
            id(op): number for number, part in enumerate(ranges) for op in graph.ops[part.start : part.stop]
        }
        peaks = [0] * len(ranges)
        for step, bytes_ in zip(steps, alive_bytes(buffers, len(steps)), strict=True):
            number = numbers[id(step.op)]
            peaks[number] = max(peaks[number], bytes_)
        return _Choice(staging, steps, tuple(peaks))


def _chains(bands: Bands, part: range) -> Iterator[Chain]:
    """Yield the longest chains that lie side by side in `part`."""
    for able, run in itertools.groupby(part, lambda index: bands.banded(index)):
        members = list(run)
        if able and len(members) >= LEAST_LAYERS:
            chain = bands.chain(members[0], members[-1] + 1, 1)
            if chain is not None:
                yield chain
