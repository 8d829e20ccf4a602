"""The best choice within two budgets."""

import itertools

import numpy as np
import pytest

from ondevice.knapsack import RAM_CELLS, TIME_CELLS, Item, best_choice
from ondevice.search_costs import Cost, Limits


def _groups(seed: int) -> list[list[Item[str]]]:
    random = np.random.default_rng(seed)
    return [
        [
            Item(
                f"{group}.{index}",
                Cost(int(random.integers(1, 400)), 0, int(random.integers(0, 30)) / TIME_CELLS),
                float(random.random()),
            )
            for index in range(int(random.integers(1, 4)))
        ]
        for group in range(5)
    ]


@pytest.mark.parametrize("seconds", [None, 1.0])
@pytest.mark.parametrize("seed", range(10))
def test_no_other_choice_is_better(seed: int, seconds: float | None) -> None:
    first, *rest = groups = _groups(seed)
    limits = Limits(RAM_CELLS, seconds)

    def fits(items: tuple[Item[str], ...]) -> bool:
        ram = sum(item.cost.ram for item in items)
        return ram <= limits.ram and (seconds is None or sum(item.cost.seconds for item in items) <= seconds)

    every = itertools.product(first, *[[*group, None] for group in rest])
    chosen = (tuple(item for item in items if item is not None) for items in every)
    best = max((sum(item.gain for item in items) for items in chosen if fits(items)), default=0.0)
    found = best_choice(first, rest, limits)
    assert fits(tuple(found))
    assert sum(item.gain for item in found) == pytest.approx(best)
    assert found[0] in first
    assert all(sum(item in group for item in found) <= 1 for group in groups)


def test_without_room_for_any_of_the_first_group_nothing_is_chosen() -> None:
    large, small = Item("large", Cost(11, 0, 0.0), 1.0), Item("small", Cost(1, 0, 0.0), 1.0)
    assert best_choice([large], [[small]], Limits(10)) == []
