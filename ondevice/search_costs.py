"""What an update would take on a board: static RAM from the planner, time by estimate."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from boards import Board
from fieldtune.errors import UserError
from firmware_gen.operators.base import Prefer
from firmware_gen.plan import Plan
from firmware_gen.project import Network, plan_network
from firmware_gen.update import UpdatePlan

ENDLESS = 1 << 40  # bytes


@dataclass(frozen=True)
class Limits:
    """What an update may take: static RAM in bytes, estimated seconds a step (None: any)."""

    ram: int
    seconds: float | None = None

    @classmethod
    def of(cls, board: Board, ram: int | None, seconds: float | None) -> Limits:
        """Return what `board` has, or less where the user allows less.

        Raises:
            UserError: a time is asked for, but the board's clock is unknown.
        """
        if seconds is not None and board.clock_hz is None:
            raise UserError(
                f"--time needs a board whose clock is known, but {board.id} has none; leave --time out"
            )
        have = board.main_ram.bytes - board.stack_bytes
        return cls(have if ram is None else min(ram, have), seconds)


@dataclass(frozen=True)
class Cost:
    """What an update takes; `weights` of the `ram` bytes hold what learns and its optimizer's state."""

    ram: int
    weights: int
    seconds: float

    def excess(self, limits: Limits) -> str:
        """Return by how much it is beyond `limits`, "" where it is not."""
        if self.ram > limits.ram:
            return f"{self.ram - limits.ram:,} B too many"
        if limits.seconds is not None and self.seconds > limits.seconds:
            return f"{1000 * (self.seconds - limits.seconds):.0f} ms too long"
        return ""


class Costs:
    """Asks the planner, each question once."""

    def __init__(self, network: Network, board: Board, update: UpdatePlan, prefer: Prefer) -> None:
        """Use the optimizer of `update`."""
        self._network, self._update, self._prefer = network, update, prefer
        regions = tuple(dataclasses.replace(region, bytes=ENDLESS) for region in board.regions)
        self._board = dataclasses.replace(board, regions=regions)
        self._known: dict[tuple[str, ...], Cost] = {}

    def of(self, patterns: tuple[str, ...]) -> Cost:
        """Return what it takes when `patterns` learn, whatever the board has."""
        key = tuple(sorted(patterns))
        if key not in self._known:
            plan = self.plan(key)
            weights = plan.ram["weights"] + plan.ram["state"]
            self._known[key] = Cost(plan.ram_bytes, weights, plan.seconds or 0.0)
        return self._known[key]

    def plan(self, patterns: tuple[str, ...]) -> Plan:
        """Return the plan in which `patterns` learn, for a board with endless memory."""
        update = dataclasses.replace(self._update, patterns=patterns)
        return plan_network(self._network, self._board, update, None, self._prefer)
