"""What a search found, and what it says about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from fieldtune.sizes import format_size
from ondevice.search_costs import Cost, Limits
from ondevice.search_race import Patterns


@dataclass(frozen=True)
class Verdict:
    """What became of a layer, and why; gains as shares of what the whole network could contribute."""

    layer: str
    learns: str
    gain: float
    possible: float
    why: str


@dataclass(frozen=True)
class Result:
    """How far something got that was tried: its loss of what was new after `steps`, and the winner's then."""

    patterns: Patterns
    steps: int
    loss: float
    winners_loss: float


@dataclass(frozen=True)
class Found:
    """The outcome of a search: what ``--update`` would have to say, and what it takes."""

    update: str
    cost: Cost
    limits: Limits
    layers: tuple[Verdict, ...]
    tried: tuple[Result, ...] = ()

    def table(self) -> str:
        """Return what was taken or left, and why, as lines of text."""
        width = max(len(verdict.layer) for verdict in self.layers)
        learns = max(len(verdict.learns) for verdict in self.layers)
        time = f", about {1000 * self.cost.seconds:.0f} ms a step" if self.cost.seconds else ""
        lines = [f"--update '{self.update}': {format_size(self.cost.ram)}{time}"]
        for verdict in self.layers:
            share = f"{100 * verdict.gain:5.1f} of {100 * verdict.possible:5.1f} %"
            lines.append(f"  {verdict.layer:<{width}}  {verdict.learns:<{learns}}  {share}  {verdict.why}")
        if self.tried:
            lines.append("tried, best first, with the loss of samples that they have not seen:")
        for result in self.tried:
            lines.append(f"  {result.steps:4d} steps  {result.loss:.4f}  {','.join(result.patterns)}")
        return "\n".join(lines)

    def describe(self) -> dict[str, Any]:
        """Return what ``--json`` shows."""
        return {
            "update": self.update,
            "ram_limit": self.limits.ram,
            "seconds_limit": self.limits.seconds,
            "ram_bytes": self.cost.ram,
            "seconds_estimate": self.cost.seconds or None,
            "layers": [dataclasses.asdict(verdict) for verdict in self.layers],
            "tried": [dataclasses.asdict(result) for result in self.tried],
        }
