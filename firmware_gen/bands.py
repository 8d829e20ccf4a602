"""Chains of layers that run band by band, so that tensors between them never exist whole.

For each band of rows of the chain's last output every operator makes just the rows that are newly needed:
no row is made twice, and each has the bits that it has in a whole layer. What lies between is a rolling
buffer of the rows that are still needed. (A line buffer; Alwani et al. 2016, "Fused-layer CNN accelerators",
call it the reuse of intermediate data.)
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from firmware_gen.graph import Graph, Op
from firmware_gen.operators import OPERATORS
from firmware_gen.schedule import Chain, Region, Step, whole_layers, whole_region


@dataclass(frozen=True)
class _Reach:
    """Which rows of an input an operator reads for the first `n` rows of its output, and from row `n` on."""

    ends: tuple[int, ...]  # [n]: end of the rows that rows before n read
    lows: tuple[int, ...]  # [n]: first of the rows that n and those behind it read, the height if none

    def rows_from(self, end: int) -> int:
        """Return how many rows of the output the rows of the input before `end` suffice for."""
        return bisect.bisect_right(self.ends, end) - 1


_Regions = tuple[tuple[Region, ...], tuple[Region, ...]]  # read, written


class Bands:
    """Makes chains of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._latent_ops = graph.latent_ops
        self._reaches = [_reaches(op, graph) for op in graph.ops]
        self._last_reader = {x: index for index, op in enumerate(graph.ops) for x in op.inputs}
        self._whole = whole_layers(graph)
        # A search makes the same rows in many chains.
        self._touched: dict[tuple[int, tuple[int, int]], _Regions] = {}

    def banded(self, index: int) -> bool:
        """Tell whether the operator at `index` can be a member of a chain."""
        return self._reaches[index] is not None

    def chain(self, start: int, end: int, height: int) -> Chain | None:
        """Return the chain of the operators from `start` to before `end`.

        `height`: of a band in the tallest of their outputs; bands of others have that share of their rows.
        None: an operator among them makes its output only as a whole, there would be only one band, or a
        training step may start from latents in the middle.
        """
        if start < self._latent_ops < end:
            return None
        ops = self.graph.ops[start:end]
        known = [reaches for reaches in self._reaches[start:end] if reaches is not None]
        if len(known) < len(ops):
            return None
        rows = [self._height(op) for op in ops]
        if max(rows) <= height:
            return None
        pace = [-(-height * count // max(rows)) for count in rows]
        rolling = self._rolling(ops, end)
        last = [min(rows[-1], at + pace[-1]) for at in range(0, rows[-1], pace[-1])]
        ends = _paced(ops, known, zip(*self._ends(ops, known, rolling, last), strict=True), pace)
        lows = {
            (index, x): self._lows(x, reach, [made[index] for made in ends])
            for index, (op, reaches) in enumerate(zip(ops, known, strict=True))
            for x, reach in zip(op.inputs, reaches, strict=True)
        }
        return Chain(start, height, ops, tuple(ends), lows, rolling)

    def steps(self, chains: Iterable[Chain]) -> tuple[Step, ...]:
        """Return the steps of a schedule in which these chains run in bands, all other layers whole."""
        steps: list[Step] = []
        at = 0
        for chain in sorted(chains, key=lambda chain: chain.start):
            steps += [*self._whole[at : chain.start], *self._banded(chain)]
            at = chain.end
        return (*steps, *self._whole[at:])

    def _height(self, op: Op) -> int:
        return OPERATORS[op.kind].height(op, self.graph)

    def _rolling(self, ops: Sequence[Op], end: int) -> frozenset[str]:
        """Return the tensors that are made among `ops`, which end before `end`, and read only there."""
        return frozenset(
            op.outputs[0]
            for op in ops
            if not OPERATORS[op.kind].accumulates
            and op.outputs[0] not in self.graph.outputs
            and self._last_reader.get(op.outputs[0], end) < end
            and self.graph.tensors[op.outputs[0]].dtype != "bits"  # rows need not begin on a byte
        )

    def _ends(
        self, ops: Sequence[Op], known: Sequence[tuple[_Reach, ...]], rolling: frozenset[str], last: list[int]
    ) -> list[list[int]]:
        """Return for each operator how many rows it must have made for each band of the last one.

        An operator makes what those behind it need. One whose output nothing in the chain reads makes all
        that it can from what the others need, so that nothing waits for it.
        """
        makers = {y for op in ops for y in op.outputs[:1]}
        wanted: dict[str, list[int]] = {}
        ends: list[list[int]] = []
        for op, reaches in zip(reversed(ops), reversed(known), strict=True):
            rows = self._height(op)
            sources = [(x, reach) for x, reach in zip(op.inputs, reaches, strict=True) if x in makers]
            made = wanted.get(op.outputs[0]) if ends and op.outputs else None
            if not ends:
                made = last
            elif made is None and all(x in wanted for x, _ in sources):
                made = [
                    min((reach.rows_from(wanted[x][band]) for x, reach in sources), default=rows)
                    for band in range(len(last))
                ]
            elif made is None:
                made = [-(-rows * end // last[-1]) for end in last]
            if not rolling.issuperset(op.outputs) or not op.outputs:
                made = [*made[:-1], rows]
            for x, reach in sources:
                others = wanted.get(x, [0] * len(made))
                wanted[x] = [max(reach.ends[n], other) for n, other in zip(made, others, strict=True)]
            ends.append(made)
        return ends[::-1]

    def _lows(self, x: str, reach: _Reach, made: list[int]) -> tuple[int, ...]:
        height = self.graph.shape(x)[0]
        return tuple(height if n == made[-1] else reach.lows[n] for n in (0, *made))

    def _banded(self, chain: Chain) -> Iterable[Step]:
        before: tuple[int, ...] = (0,) * len(chain.ops)
        for band, ends in enumerate(chain.ends):
            for index, op, rows in zip(
                range(chain.start, chain.end), chain.ops, zip(before, ends, strict=True), strict=True
            ):
                reads, writes = self._regions(index, rows)
                yield Step(op, self.graph, rows, reads, writes, chain, band)
            before = ends

    def _regions(self, index: int, rows: tuple[int, int]) -> _Regions:
        """Return what the operator at `index` reads and writes to make `rows`."""
        if (index, rows) not in self._touched:
            self._touched[index, rows] = self._new_regions(index, rows)
        return self._touched[index, rows]

    def _new_regions(self, index: int, rows: tuple[int, int]) -> _Regions:
        if rows[0] == rows[1]:
            return (), ()
        op, reaches = self.graph.ops[index], self._reaches[index]
        assert reaches is not None
        reads = tuple(
            Region(x, (reach.lows[rows[0]], reach.ends[rows[1]]), (0, self.graph.shape(x)[2]))
            for x, reach in zip(op.inputs, reaches, strict=True)
        )
        banded = 0 if OPERATORS[op.kind].accumulates else 1
        made = (Region(y, rows, (0, self.graph.shape(y)[2])) for y in op.outputs[:banded])
        rest = (whole_region(self.graph, name) for name in (*op.outputs[banded:], *op.scratch))
        return reads, (*made, *rest)


def _paced(
    ops: Sequence[Op],
    known: Sequence[tuple[_Reach, ...]],
    targets: Iterable[tuple[int, ...]],
    pace: Sequence[int],
) -> list[tuple[int, ...]]:
    """Return `targets` in as many bands as it takes when an operator goes over `pace` rows in each at most.

    A row of the last output may need several rows of the first one, at the upper border most of all: made at
    once, they would fill the rolling buffers.
    """
    makers = {y: index for index, op in enumerate(ops) for y in op.outputs[:1]}
    made = [0] * len(ops)
    ends: list[tuple[int, ...]] = []
    for target in targets:
        while tuple(made) != target:
            for index, (op, reaches) in enumerate(zip(ops, known, strict=True)):
                inputs = zip(op.inputs, reaches, strict=True)
                possible = [reach.rows_from(made[makers[x]]) for x, reach in inputs if x in makers]
                made[index] = min(target[index], made[index] + pace[index], *possible)
            ends.append(tuple(made))
    return ends


def _reaches(op: Op, graph: Graph) -> tuple[_Reach, ...] | None:
    """Return the reach into every input, None when the operator makes its output only as a whole."""
    found = []
    rows = OPERATORS[op.kind].height(op, graph)
    for k, x in enumerate(op.inputs):
        read = [OPERATORS[op.kind].reach(op, graph, k, row) for row in range(rows)]
        known = [each for each in read if each is not None]
        if len(known) < rows:
            return None
        height = graph.shape(x)[0]
        ends = itertools.accumulate((end if low < end else 0 for low, end in known), max, initial=0)
        lows = itertools.accumulate(
            (low if low < end else height for low, end in reversed(known)), min, initial=height
        )
        found.append(_Reach(tuple(ends), tuple(lows)[::-1]))
    return tuple(found)
