"""What the functions of a chain read at run time: one row of numbers a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from firmware_gen.graph import Op
from firmware_gen.schedule import Chain, Step
from firmware_gen.storage import Roll


@dataclass(frozen=True)
class BandTable:
    """The table of one chain, `index` counts them.

    Columns: of each operator the end of its rows, which begin where the band before ended; of each rolling
    buffer its first row. The C functions get a pointer to the row of their band, and find the band before it
    one row up; before the first band there is a row of zeros.
    """

    index: int
    chain: Chain
    rolls: Mapping[str, Roll]

    @cached_property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """The numbers, with the row of zeros."""
        found = [(0,) * self.columns]
        for band, ends in enumerate(self.chain.ends):
            found.append((*ends, *(roll.firsts[band] for roll in self.rolls.values())))
        return tuple(found)

    @property
    def columns(self) -> int:
        """Numbers in a row."""
        return len(self.chain.ops) + len(self.rolls)

    @property
    def name(self) -> str:
        """Name of the C array."""
        return f"t_bands{self.index}"

    @property
    def c_type(self) -> str:
        """Type of the C array."""
        return "uint8_t" if max(map(max, self.rows)) <= 0xFF else "uint16_t"

    @property
    def bytes(self) -> int:
        """Size of the C array."""
        return len(self.rows) * self.columns * (1 if self.c_type == "uint8_t" else 2)

    def position(self, op: Op) -> int:
        """Return the column of the rows of `op`."""
        return next(index for index, other in enumerate(self.chain.ops) if other is op)

    def end(self, op: int) -> str:
        """Return the C expression of the end of the rows of the operator in column `op`."""
        return f"band[{op}]"

    def begin(self, op: int) -> str:
        """Return the C expression of their first one."""
        return f"band[{op - self.columns}]"

    def first(self, buffer: str) -> str:
        """Return the C expression of the row that lies at the start of a rolling buffer."""
        return f"band[{self._column(buffer)}]"

    def first_before(self, buffer: str) -> str:
        """Return the C expression of the row that lay there in the band before."""
        return f"band[{self._column(buffer) - self.columns}]"

    def _column(self, buffer: str) -> int:
        return len(self.chain.ops) + list(self.rolls).index(buffer)


def band_tables(steps: Sequence[Step], rolls: Mapping[str, Roll]) -> tuple[BandTable, ...]:
    """Return the tables of all chains, in their order."""
    chains = {id(step.chain): step.chain for step in steps if step.chain is not None}
    return tuple(
        BandTable(index, chain, {name: roll for name, roll in rolls.items() if roll.chain is chain})
        for index, chain in enumerate(chains.values())
    )
