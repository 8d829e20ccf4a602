"""The pieces of a training step that the firmware can be asked for one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from firmware_gen.plan import Plan, keeps_gradients, updates_late
from firmware_gen.update import CORRECTIONS

PartPhase = Literal["forward", "backward", "update"]


@dataclass(frozen=True)
class Part:
    """A piece of a training step: a step of the plan, or what gradients and optimizer need besides."""

    name: str
    step: int | None  # index in `Plan.steps`


def step_parts(plan: Plan) -> tuple[Part, ...]:
    """Return what ``step`` in the firmware counts from `first` to `end`; () when nothing learns."""
    if not plan.graph.trained:
        return ()
    parts = [Part(step.op.name, index) for index, step in enumerate(plan.steps)]
    # Before all that is not inference: that the loss comes first is not promised by the order.
    first = next(index for index, step in enumerate(plan.steps) if step.op.phase != "forward")
    while (
        first
        and plan.steps[first].chain is not None
        and plan.steps[first - 1].chain == plan.steps[first].chain
    ):
        first -= 1  # the bands of a chain stay together
    if keeps_gradients(plan.graph):
        parts.insert(first, Part("clear", None))
    if updates_late(plan.graph):
        parts.append(Part("apply", None))
    elif CORRECTIONS in plan.graph.state:
        parts.insert(first, Part("advance", None))
    if plan.graph.ranges:
        parts.append(Part("move_ranges", None))
    return tuple(parts)


def part_phase(plan: Plan, part: Part) -> PartPhase:
    """Return the phase that a part counts to, where work is measured."""
    if part.step is None:
        return "update"
    phase = plan.steps[part.step].op.phase
    return "backward" if phase == "loss" else phase
