"""What an update would take on a board: static RAM from the planner, time by estimate.

To plan in bands of rows takes seconds, and several times as long where things are made a second time. So
there is a bound, quickly known, below which bands alone bring no plan, what they come to, and what the whole
planner comes to, which makes things a second time and may get below that bound.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from boards import Board
from fieldtune.errors import UserError
from firmware_gen.arena import alive_bytes
from firmware_gen.choose_chains import narrow
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.base import Prefer
from firmware_gen.plan import Plan, find_plan, plan_schedule
from firmware_gen.project import Network, plan_network
from firmware_gen.update import UpdatePlan

ENDLESS = 1 << 40  # bytes
REBUILT = (
    1.2  # times what the planner comes to is the bound at most: measured 1.13 where skips are made again
)


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

    def hopeless(self, limits: Limits) -> bool:
        """Tell whether this, a bound, is so far beyond `limits` that the planner need not be asked."""
        return self.ram > REBUILT * limits.ram or bool(dataclasses.replace(self, ram=0).excess(limits))


class Costs:
    """Asks the planner, each question once."""

    def __init__(
        self, network: Network, board: Board, update: UpdatePlan, limits: Limits, prefer: Prefer
    ) -> None:
        """Use the optimizer of `update`."""
        self._network, self._update, self._prefer = network, update, prefer
        self._limits = limits
        regions = tuple(dataclasses.replace(region, bytes=ENDLESS) for region in board.regions)
        self._board = dataclasses.replace(board, regions=regions)
        self._bounds: dict[tuple[str, ...], Cost] = {}
        self._banded: dict[tuple[str, ...], Cost] = {}  # of what fits only if more is made a second time
        self._planned: dict[tuple[str, ...], Cost] = {}

    def bound(self, patterns: tuple[str, ...]) -> Cost:
        """Return what it takes at the least when `patterns` learn and nothing is made a second time."""
        key = tuple(sorted(patterns))
        if key not in self._bounds:
            plan = self._whole(key)
            if plan.ram_bytes <= self._limits.ram:
                self._planned[key] = _cost(plan, plan.ram_bytes)
            self._bounds[key] = _cost(plan, _least_ram(plan))
        return self._bounds[key]

    def banded(self, patterns: tuple[str, ...]) -> Cost:
        """Return what it takes within the limits, or at the least, when nothing is made a second time."""
        key = tuple(sorted(patterns))
        self.bound(key)
        if key not in self._planned and key not in self._banded:
            plan = self._whole(key)
            room = self._limits.ram - (plan.ram_bytes - plan.arena_bytes)
            banded = plan_schedule(plan.board, *narrow(plan.graph, room), plan.prefer)
            known = self._planned if banded.ram_bytes <= self._limits.ram else self._banded
            known[key] = _cost(plan, banded.ram_bytes)
        return self._planned[key] if key in self._planned else self._banded[key]

    def planned(self, patterns: tuple[str, ...]) -> Cost:
        """Return what it takes as planned within the limits, or the least that the planner finds."""
        key = tuple(sorted(patterns))
        self.bound(key)
        if key not in self._planned:
            plan = self._whole(key)
            self._planned[key] = _cost(plan, self._narrowed(plan, self._limits.ram).ram_bytes)
        return self._planned[key]

    def smallest(self, patterns: tuple[str, ...]) -> Plan:
        """Return the plan that takes the least memory."""
        return self._narrowed(self._whole(patterns), 0)

    def _whole(self, patterns: tuple[str, ...]) -> Plan:
        """Return the plan with whole layers."""
        update = dataclasses.replace(self._update, patterns=patterns)
        return plan_network(self._network, self._board, update, None, self._prefer)

    def _narrowed(self, plan: Plan, ram: int) -> Plan:
        return find_plan(plan.graph, plan.board, ram, plan.prefer)


def _cost(plan: Plan, ram: int) -> Cost:
    return Cost(ram, plan.ram["weights"] + plan.ram["state"], plan.seconds or 0.0)


def _least_ram(plan: Plan) -> int:
    """Return the RAM below which no bands bring `plan`, of whole layers.

    Where an operator makes its output as a whole no chain goes on: what is alive there exists whole.
    """
    alive = alive_bytes(plan.buffers, len(plan.steps))
    whole = [
        count
        for count, step in zip(alive, plan.steps, strict=True)
        if step.op.inputs and OPERATORS[step.op.kind].reach(step.op, plan.graph, 0, 0) is None
    ]
    return plan.ram_bytes - max(alive) + max(whole)
