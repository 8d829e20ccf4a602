"""Constants outside the chip, in L3: which layers' they are, and through what room in L2 they come.

Only where L2 holds not all. The weights and tables of a layer that is chosen lie in L3 in one piece, which
comes to a buffer in L2 before the layer begins. There are two buffers, which take turns: while a layer runs,
the other one is filled for the next layer of this kind. Where there is no room for two there is one, and
layers wait. What learns, what a core reads in passing (small tables), maps and code stay in L2.

The choice is greedy. For each limit to the size of a piece, hence of the buffers, the layers within it are
taken, first those that are read least often, of these the largest, until L2 suffices; then those that it can
do without go back, the largest first. Of what is found for all limits the fewest bytes a run win.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from boards import Isa
from firmware_gen.flash import layer_arrays
from firmware_gen.graph import Graph
from firmware_gen.operators.base import Prefer
from firmware_gen.schedule import Step

# Of pieces and of the arrays in them. A read of the EVK's PSRAM that begins fewer than 5 bytes before the end
# of a page of 2 KB wraps there (measured by others: docs/gap9.md); whole units of 16 never do.
ALIGNMENT = 16
CODE_BYTES = 1536  # of runtime/cluster/l3.c, roughly
PIECE_BYTES = 24  # of the tables for one of them, roughly
BUFFERS = 2


@dataclass(frozen=True)
class Piece:
    """The constants of one layer: `bytes` from `offset` in L3, which come to buffer `buffer` in L2.

    `step`: index of the layer's first step in the plan. `arrays`: where in the piece each begins, by its name
    in `layer_arrays`.
    """

    step: int
    offset: int
    bytes: int
    buffer: int
    arrays: Mapping[str, int]


@dataclass(frozen=True)
class External:
    """What lies in L3. `freed`: bytes of constants that L2 need not hold, for which it holds the buffers."""

    pieces: tuple[Piece, ...]
    freed: int

    @property
    def bytes(self) -> int:
        """Bytes in L3, and of the file that brings them there."""
        return sum(piece.bytes for piece in self.pieces)

    @cached_property
    def buffers(self) -> tuple[int, ...]:
        """Bytes of each buffer in L2: of its largest piece."""
        return tuple(
            max((piece.bytes for piece in self.pieces if piece.buffer == buffer), default=0)
            for buffer in range(BUFFERS)
        )

    @property
    def code_bytes(self) -> int:
        """What code and tables take by estimate."""
        return CODE_BYTES + PIECE_BYTES * len(self.pieces)

    @property
    def saved(self) -> int:
        """What L2 has gained."""
        return self.freed - sum(self.buffers) - self.code_bytes

    def piece_of(self, step: int) -> Piece | None:
        """Return the piece of the layer whose first step is `step`."""
        return next((piece for piece in self.pieces if piece.step == step), None)

    def read_bytes(self, steps: Iterable[int]) -> int:
        """Return what comes from L3 while layers run in this order, given by their first steps.

        A piece that is still in its buffer is not read again.
        """
        total, held = 0, dict[int, int]()
        pieces = {piece.step: piece for piece in self.pieces}
        for step in steps:
            piece = pieces.get(step)
            if piece is not None and held.get(piece.buffer) != step:
                held[piece.buffer] = step
                total += piece.bytes
        return total

    def run_cycles(self, layers: Sequence[tuple[int, float]], bytes_per_cycle: float) -> float:
        """Return the cycles of a run whose layers, by their first steps, take so many with all in place.

        A piece is asked for as in runtime/cluster/l3.c: when the one before it has come, if that has the
        other buffer.
        """
        pieces = {piece.step: piece for piece in self.pieces}
        uses = [pieces[step] for step, _ in layers if step in pieces]
        now, held, there = 0.0, dict[int, int](), dict[int, float]()

        def ask(piece: Piece) -> None:
            if held.get(piece.buffer) != piece.step:
                held[piece.buffer], there[piece.buffer] = piece.step, now + piece.bytes / bytes_per_cycle

        for piece in uses[:1]:
            ask(piece)
        for step, cycles in layers:
            if step in pieces:
                piece = uses.pop(0)
                ask(piece)
                now = max(now, there[piece.buffer])
                if uses and uses[0].buffer != piece.buffer:
                    ask(uses[0])
            now += cycles
        return now


def first_steps(steps: Sequence[Step]) -> list[int]:
    """Return for each step the index of its layer's first one: layers in bands have several."""
    first: dict[int, int] = {}
    return [first.setdefault(id(step.op), index) for index, step in enumerate(steps)]


def up(size: int) -> int:
    """Return what an array of `size` bytes takes in a piece."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class Choice:
    """The layers of a schedule that may have their constants in L3.

    `sizes`: bytes of their pieces, by the index of their first step.
    """

    def __init__(self, graph: Graph, steps: Sequence[Step], isa: Isa, prefer: Prefer) -> None:
        """Gather them: those with constants of which none learns."""
        self._order = first_steps(steps)
        self._arrays = {
            index: {name: value.nbytes for name, value in arrays.items()}
            for index, arrays in layer_arrays(graph, steps, isa, prefer).items()
        }
        self._users = Counter(name for arrays in self._arrays.values() for name in arrays)
        self.sizes = {
            index: sum(map(up, arrays.values()))
            for index, arrays in self._arrays.items()
            if arrays and not {*steps[index].op.constants} & {*graph.trained}
        }

    def best(self, needed: float, most: float = math.inf) -> External | None:
        """Return what saves `needed` bytes of L2 with `most` bytes of buffers or fewer.

        Where nothing does, what saves most; None if nothing saves anything.
        """
        reads = Counter(self._order)
        order = sorted(self.sizes, key=lambda step: (reads[step], -self.sizes[step]))
        found: list[External] = []
        for buffers in (BUFFERS, 1):
            for limit in sorted(set(self.sizes.values())):
                steps = [step for step in order if self.sizes[step] <= limit]
                found.append(self._least(steps, needed, buffers))
            enough = [each for each in found if each.saved >= needed and sum(each.buffers) <= most]
            if enough:
                return min(enough, key=lambda each: (each.read_bytes(self._order), -each.saved))
        best = max(found, key=lambda each: each.saved, default=None)
        return best if best is not None and best.saved > 0 else None

    def _least(self, steps: Sequence[int], needed: float, buffers: int) -> External:
        """Return the first of `steps` that save `needed` bytes, less what can be done without; or all."""
        chosen: list[int] = []
        for step in steps:
            chosen.append(step)
            if self.external(chosen, buffers).saved >= needed:
                break
        else:
            return self.external(chosen, buffers)
        for step in sorted(chosen, key=lambda step: -self.sizes[step]):
            without = [other for other in chosen if other != step]
            if self.external(without, buffers).saved >= needed:
                chosen = without
        return self.external(chosen, buffers)

    def external(self, steps: Iterable[int], buffers: int) -> External:
        """Return the pieces of these layers, in the order in which they run; `buffers`: that take turns."""
        pieces: list[Piece] = []
        offset = 0
        for number, step in enumerate(sorted(steps)):
            starts = _starts(self._arrays[step])
            pieces.append(Piece(step, offset, self.sizes[step], number % buffers, starts))
            offset += self.sizes[step]
        users = Counter(name for piece in pieces for name in self._arrays[piece.step])
        sizes: Mapping[str, int] = {
            name: size for piece in pieces for name, size in self._arrays[piece.step].items()
        }
        return External(tuple(pieces), sum(sizes[name] for name in users if users[name] == self._users[name]))


def _starts(sizes: Mapping[str, int]) -> dict[str, int]:
    ends = itertools.accumulate(map(up, sizes.values()), initial=0)
    return dict(zip(sizes, ends, strict=False))
