"""What an update would take on a board: static RAM from the planner, time by estimate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from boards import Board
from fieldtune.errors import UserError
from firmware_gen.operators.base import Prefer
from firmware_gen.plan import Plan
from firmware_gen.project import Network, plan_network
from firmware_gen.update import UpdatePlan

# Instructions a multiply-accumulate of a whole training step, from `fieldtune profile --train` (float32
# µPyD-Net, docs/benchmarks.md), by what the core has. Cycles differ: some instructions take several of them.
INSTRUCTIONS_PER_MAC: Mapping[str, float] = {"mve": 0.71, "dsp": 1.39, "fpu": 1.68, "soft": 100.0}
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
            self._known[key] = Cost(plan.ram_bytes, weights, step_seconds(plan))
        return self._known[key]

    def plan(self, patterns: tuple[str, ...]) -> Plan:
        """Return the plan in which `patterns` learn, for a board with endless memory."""
        update = dataclasses.replace(self._update, patterns=patterns)
        return plan_network(self._network, self._board, update, None, self._prefer)


def step_seconds(plan: Plan) -> float:
    """Return a rough estimate of the seconds of a training step, 0 where the board's clock is unknown."""
    board = plan.board
    if board.clock_hz is None:
        return 0.0
    macs = plan.macs("forward", "loss", "backward", "update")
    core = board.isa if board.isa != "c" else "fpu"
    return macs * INSTRUCTIONS_PER_MAC[core if board.fpu else "soft"] / board.clock_hz
