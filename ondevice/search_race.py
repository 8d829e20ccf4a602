"""A race of choices: all learn a little, the better half goes on, until few are left."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ondevice.search_bench import Bench, side_by_side

STEPS = (16, 32, 64)  # of each round
FINALISTS = 8

Patterns = tuple[str, ...]


@dataclass(frozen=True)
class Raced:
    """How far `patterns` got: after each of their rounds the mean loss of what was new to them."""

    patterns: Patterns
    losses: tuple[float, ...]
    steps: int


# Returns how far each entry got, in their order.
Race = Callable[[Sequence[Patterns]], tuple[Raced, ...]]


def race(bench: Bench) -> Race:
    """Return a race on `bench`: successive halving (Jamieson and Talwalkar 2016).

    Its losses are those of the second half of the steps.
    """

    def run(entries: Sequence[Patterns]) -> tuple[Raced, ...]:
        trials = [bench.trial(patterns) for patterns in entries]
        losses: list[list[float]] = [[] for _ in entries]
        running = list(range(len(entries)))
        for steps in STEPS:

            def advance(index: int, stop: threading.Event, steps: int = steps) -> None:
                trials[index].advance(steps, stop)
                losses[index].append(trials[index].loss(steps))

            side_by_side(advance, running, f"trying {steps} steps")
            running.sort(key=lambda index: losses[index][-1])
            running = running[: max(FINALISTS, math.ceil(len(running) / 2))]
        return tuple(
            Raced(entry, tuple(each), min(STEPS[len(each) - 1], len(bench.samples)))
            for entry, each in zip(entries, losses, strict=True)
        )

    return run


def finalists(raced: Sequence[Raced]) -> list[int]:
    """Return the indices of those that come into the finals."""
    return by_success(raced)[:FINALISTS]


def by_success(raced: Sequence[Raced]) -> list[int]:
    """Return the indices of all, those that took part in most rounds first, of these the lowest loss."""
    return sorted(range(len(raced)), key=lambda index: (-len(raced[index].losses), raced[index].losses[-1]))
