"""A race of choices: all learn a little, the better half goes on, until few have learned from all samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fieldtune.console import progress
from ondevice.search_contributions import Bench

STEPS = (16, 32, 64, 128)  # of each round
FINALISTS = 3
APART = 2.0  # standard errors of the mean difference beyond which two trials differ


@dataclass(frozen=True)
class Entry:
    """Something to try, and what it is expected to gain."""

    patterns: tuple[str, ...]
    gain: float


@dataclass(frozen=True)
class Result:
    """How far an entry got: its mean loss in the second half of `steps`, and the winner's there."""

    patterns: tuple[str, ...]
    steps: int
    loss: float
    winners_loss: float


# Returns the index of the winner, and all results in the order of the entries.
Judge = Callable[[Sequence[Entry]], tuple[int, tuple[Result, ...]]]


def race(bench: Bench) -> Judge:
    """Return a judge that lets the entries learn on `bench`.

    Successive halving (Jamieson and Talwalkar 2016). Of the finalists that the lowest loss is not clearly
    below, sample by sample, the one with the highest gain wins: one run says no more.
    """

    def judge(entries: Sequence[Entry]) -> tuple[int, tuple[Result, ...]]:
        trials = [bench.trial(entry.patterns) for entry in entries]
        running, done = list(range(len(trials))), [0] * len(trials)
        for steps in STEPS:
            for index in progress(running, f"trying {steps} steps", len(running)):
                trials[index].advance(steps)
                done[index] = steps
            running.sort(key=lambda index, steps=steps: trials[index].loss(steps))  # type: ignore[misc]
            if steps < STEPS[-1]:
                running = running[: max(FINALISTS, math.ceil(len(running) / 2))]
        best = trials[running[0]].later_losses(STEPS[-1])
        close = [index for index in running if not _apart(trials[index].later_losses(STEPS[-1]), best)]
        winner = max(close, key=lambda index: entries[index].gain)
        results = tuple(
            Result(entry.patterns, steps, trial.loss(steps), trials[winner].loss(steps))
            for entry, trial, steps in zip(entries, trials, done, strict=True)
        )
        return winner, results

    return judge


def _apart(losses: np.ndarray, lower: np.ndarray) -> bool:
    """Tell whether `losses` are clearly above `lower`, of the same samples."""
    more = losses - lower if np.isfinite(losses).all() else np.full(len(losses), np.inf)
    if not np.isfinite(more).all():
        return True
    return float(more.mean()) > APART * float(more.std()) / math.sqrt(len(more))
