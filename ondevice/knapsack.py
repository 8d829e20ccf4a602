"""The multiple-choice knapsack in two dimensions, memory and time, by dynamic programming."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ondevice.search_costs import Cost, Limits

T = TypeVar("T")

# Both budgets are counted in so many cells, costs are rounded up to whole ones.
RAM_CELLS = 1024
TIME_CELLS = 64


@dataclass(frozen=True)
class Item(Generic[T]):
    """Something that can be taken."""

    what: T
    cost: Cost
    gain: float


def best_choice(
    first: Sequence[Item[T]], groups: Sequence[Sequence[Item[T]]], limits: Limits
) -> list[Item[T]]:
    """Return one item of `first` and one or none of each group, of the highest total gain within `limits`.

    The costs of items add up. Returns nothing when no item of `first` fits.
    """
    times = 1 if limits.seconds is None else TIME_CELLS
    best = np.full((RAM_CELLS + 1, times + 1), -math.inf)
    best[0, 0] = 0.0
    taken = []
    for number, group in enumerate((first, *groups)):
        fresh = np.full_like(best, -math.inf) if number == 0 else best.copy()
        choice = np.full(best.shape, -1)
        for index, item in enumerate(group):
            ram, time = _cells(item.cost, limits, times)
            if ram > RAM_CELLS or time > times:
                continue
            value = best[: RAM_CELLS + 1 - ram, : times + 1 - time] + item.gain
            target = fresh[ram:, time:]
            better = value > target
            target[better] = value[better]
            choice[ram:, time:][better] = index
        taken.append(choice)
        best = fresh
    if not np.isfinite(best).any():
        return []
    return _followed_back(
        np.unravel_index(np.argmax(best), best.shape), taken, (first, *groups), limits, times
    )


def _followed_back(
    end: tuple[np.intp, ...],
    taken: Sequence[np.ndarray],
    groups: Sequence[Sequence[Item[T]]],
    limits: Limits,
    times: int,
) -> list[Item[T]]:
    at_ram, at_time = int(end[0]), int(end[1])
    found = []
    for choice, group in zip(reversed(taken), reversed(groups), strict=True):
        index = int(choice[at_ram, at_time])
        if index >= 0:
            ram, time = _cells(group[index].cost, limits, times)
            at_ram, at_time = at_ram - ram, at_time - time
            found.append(group[index])
    return found[::-1]


def _cells(cost: Cost, limits: Limits, times: int) -> tuple[int, int]:
    ram = math.ceil(max(cost.ram, 0) * RAM_CELLS / max(limits.ram, 1))
    if limits.seconds is None:
        return ram, 0
    return ram, math.ceil(max(cost.seconds, 0.0) * times / limits.seconds)
