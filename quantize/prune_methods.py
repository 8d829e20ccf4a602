"""Which channels a round of pruning removes: the methods.

``pagcp`` is performance-aware global channel pruning (Ye et al. 2023, arXiv 2303.11923) for a network of
several tasks, with the board's costs in the place of operations. The others are what it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from boards import Isa
from firmware_gen.graph import Array, Graph
from firmware_gen.operators.conv2d_i8_dsp import GROUP
from firmware_gen.operators.conv2d_i8_mve import LANES
from firmware_gen.operators.depthwise_i8_mve import CHANNELS
from quantize.channel_groups import ChannelGroup, channel_groups, filter_sizes, removed_channels, without
from quantize.prune_costs import Costs
from quantize.prune_goals import Goals
from quantize.reconstruct import Moments, importance_order, reconstructed
from quantize.torch_module import is_depthwise

Method = Literal["pagcp", "l1", "uniform"]

TRIAL = 0.3  # of a group's channels: what ranks the groups
MOST = 0.75  # of a group's channels go in a round at most
LEVELS = 8  # how many shares are tried in a group
BEST = 0.8  # of the groups that a sweep has pruned stay pruned
BUDGETS = (*(0.5 * 2**k for k in range(7)), 1e6)
"""By which share the losses may grow in a sweep, before fine-tuning; the last is no limit."""
FIRST_SHARE = 0.06  # of the budget goes to the first group
UNIFORM_STEPS = 200
GOLDEN = 0.618034  # its multiples, modulo 1, are spread evenly
LITTLE = 0.05  # weight of a cost that is no goal: it decides between groups that do the same for the goals


Kept = Mapping[ChannelGroup, Sequence[int]]
"""Of groups that are pruned: the channels that stay."""


@dataclass(frozen=True)
class Losses:
    """The loss of every output on the frames that pruning looks at, and how much each may grow.

    `patience` is 1 for the output that may lose most, and less for the others.
    """

    of: Callable[[Graph], Array]
    patience: Array


class Widths:
    """The groups of a graph, and how many channels of each may stay.

    `moments` are of what layers read: with them layers make up for channels that go, and channels go that
    others make up for best. Without them layers just lose weights, and the channels of small filters go.
    """

    def __init__(self, graph: Graph, isa: Isa, moments: Moments) -> None:
        self.graph = graph
        self._moments = moments
        self.groups = channel_groups(graph)
        self._multiples = {group: _multiple(group, graph, isa) for group in self.groups}

    def pruned(self, kept: Kept) -> Graph:
        """Return the graph with only the channels that are kept; groups that are not named stay whole."""
        return reconstructed(self.graph, self._dropped(kept), self._moments)

    def cut(self, kept: Kept) -> Graph:
        """Return a graph of the same shapes, which takes the same on a board; nothing is made up for."""
        return without(self.graph, self._dropped(kept))

    def ranking(self, group: ChannelGroup, kept: Kept) -> list[int]:
        """Return the channels of a group from the first that should stay to the first that may go.

        Of the pruned graph: other groups have only the channels that are kept.
        """
        removed = removed_channels(self._dropped(kept))
        if self._moments:
            return importance_order(self.graph, group, removed, self._moments)
        sizes = filter_sizes(self.graph, group, removed)
        return [int(k) for k in np.argsort(-sizes, kind="stable")]

    def rounded(self, group: ChannelGroup, count: float, dither: float = 0.0) -> int:
        """Return how many channels a group keeps if it is to keep `count`, as the kernels like it.

        `dither`, from -1/2 to 1/2, moves what lies between two multiples towards one of them.
        """
        multiple = self._multiples[group]
        return min(group.channels, max(round(count / multiple + dither), 1) * multiple)

    def levels(self, group: ChannelGroup, most: float = MOST) -> list[int]:
        """Return the numbers of channels to try, the largest first, if a share of `most` may go."""
        shares = np.linspace(most / LEVELS, most, LEVELS)
        found = {self.rounded(group, group.channels * (1 - share)) for share in shares}
        return sorted(found - {group.channels}, reverse=True)

    def _dropped(self, kept: Kept) -> dict[ChannelGroup, Iterable[int]]:
        return {group: set(range(group.channels)) - set(channels) for group, channels in kept.items()}


class Round(Widths):
    """What a method knows: a graph, its groups, and where it is to get."""

    def __init__(
        self,
        graph: Graph,
        isa: Isa,
        goals: Goals,
        costs: Callable[[Graph], Costs],
        losses: Losses,
        moments: Moments,
    ) -> None:
        super().__init__(graph, isa, moments)
        self.goals, self.losses = goals, losses
        self._costs = costs

    def costs(self, kept: Kept) -> Costs:
        """Return what the pruned graph takes."""
        return self._costs(self.cut(kept))


def choose(method: Method, given: Round) -> Graph:
    """Return the graph of a round without the channels that the method chooses.

    It keeps the round's goals, or is the least that the method comes to.
    """
    return given.pruned({"pagcp": _pagcp, "l1": _l1, "uniform": _uniform}[method](given))


# --- performance-aware global channel pruning


@dataclass(frozen=True)
class _Pruned:
    """What a sweep did to a group: channels in the order of their filters, of which `count` stay.

    `slope`: by how much the worst task's loss grew, for what was saved.
    """

    group: ChannelGroup
    ranking: Sequence[int]
    count: int
    slope: float


def _pagcp(given: Round) -> Kept:
    """Sweep with a budget that grows until what a sweep finds is enough."""
    order = _by_contribution(given)
    for budget in BUDGETS:
        every = _sweep(given, order, budget)
        for found in (every[: round(BEST * len(every))], every if budget == BUDGETS[-1] else []):
            kept = {each.group: each.ranking[: each.count] for each in found}
            if given.goals.hold(given.costs(kept)):
                return _just_enough(given, found)
    return kept


def _by_contribution(given: Round) -> list[ChannelGroup]:
    """Return the groups from the one that saves most, if a part of it goes, to the one that saves least."""
    before = given.costs({})
    saved = {}
    for group in given.groups:
        count = given.rounded(group, group.channels * (1 - TRIAL))
        if count < group.channels:
            saved[group] = _saved(before, given.costs({group: range(count)}), given.goals)
    return sorted(saved, key=lambda group: -saved[group])


def _saved(before: Costs, after: Costs, goals: Goals) -> float:
    """Return the shares of the costs that are saved, weighted by how far each is from its goal."""
    excess = goals.excess(before)
    metrics = {"ram": LITTLE, "flash": LITTLE, "instructions": LITTLE, **excess}
    return sum(
        weight * (before.of(name) - after.of(name)) / before.of(name)
        for name, weight in metrics.items()
        if before.of(name) > 0
    )


def _sweep(given: Round, order: Sequence[ChannelGroup], budget: float) -> list[_Pruned]:
    """Prune group after group as far as every task's loss allows it; return those that lose least first."""
    kept: dict[ChannelGroup, Sequence[int]] = {}
    bases = last = given.losses.of(given.graph)
    thresholds = _thresholds(len(order), budget)
    whole = given.costs({})
    found = []
    for group, threshold in zip(order, thresholds, strict=True):
        ranking = given.ranking(group, kept)
        allowed = bases * (1 + threshold * given.losses.patience)
        count, before = group.channels, last
        for level in given.levels(group):
            losses = given.losses.of(given.pruned({**kept, group: ranking[:level]}))
            if not (losses <= allowed).all():
                break
            count, last = level, losses
        if count < group.channels:
            kept[group] = ranking[:count]
            bases = np.maximum(bases, last)
            saved = _saved(whole, given.costs({group: kept[group]}), given.goals)
            lost = float(((last - before) / before).max())
            found.append(_Pruned(group, ranking, count, lost / max(saved, 1e-9)))
    return sorted(found, key=lambda each: each.slope)


def _thresholds(count: int, budget: float) -> list[float]:
    """Return by which share the losses may grow at each group, less and less, `budget` in all."""
    first = max(FIRST_SHARE * budget, (1 + budget) ** (1 / max(count, 1)) - 1)
    powers = np.arange(count)
    low, high = 0.0, 1.0
    for _ in range(50):
        factor = (low + high) / 2
        grown = float(np.prod(1 + first * factor**powers))
        low, high = (factor, high) if grown < 1 + budget else (low, factor)
    return [float(first * high**k) for k in range(count)]


def _just_enough(given: Round, found: Sequence[_Pruned]) -> Kept:
    """Return what keeps the goals with the groups that lose least, and of the last no more than it takes."""
    kept: dict[ChannelGroup, Sequence[int]] = {}
    for each in found:
        for level in given.levels(each.group):
            if level < each.count:
                break
            kept[each.group] = each.ranking[:level]
            if given.goals.hold(given.costs(kept)):
                return kept
    return kept


# --- what it is compared with


def _uniform(given: Round) -> Kept:
    """Return the smallest share, the same of every group, that keeps the goals; the smallest filters go.

    Rounding is dithered over the groups: else all of one size would jump to the next multiple at once.
    """
    rankings = {group: given.ranking(group, {}) for group in given.groups}
    dither = {group: (k * GOLDEN) % 1 - 0.5 for k, group in enumerate(given.groups)}

    def kept(share: float) -> Kept:
        return {
            group: ranking[: given.rounded(group, len(ranking) * (1 - share), dither[group])]
            for group, ranking in rankings.items()
        }

    return _least(given, [{}, *(kept(share) for share in np.linspace(0, 1, UNIFORM_STEPS))])


def _l1(given: Round) -> Kept:
    """Return the fewest of the smallest filters of all groups that keep the goals."""
    sizes = {group: filter_sizes(given.graph, group, {}) for group in given.groups}
    every = np.sort(np.concatenate([*sizes.values()])) if sizes else np.zeros(0)

    def kept(limit: float) -> Kept:
        return {
            group: given.ranking(group, {})[: given.rounded(group, int((size > limit).sum()))]
            for group, size in sizes.items()
        }

    return _least(given, [{}, *(kept(limit) for limit in every)])


def _least(given: Round, choices: Sequence[Kept]) -> Kept:
    """Return the first of the choices, the largest networks first, that keeps the goals; else the last."""
    low, high = 0, len(choices) - 1
    while low < high:
        middle = (low + high) // 2
        if given.goals.hold(given.costs(choices[middle])):
            high = middle
        else:
            low = middle + 1
    return choices[high]


def _multiple(group: ChannelGroup, graph: Graph, isa: Isa) -> int:
    """Return of what the number of channels should be a multiple: what the inner loops take at once."""
    ops = {op.name: op for op in graph.ops}
    if isa == "mve":
        makers = (ops[member.layer] for member in group.members if member.side == "out")
        wide = group.channels > CHANNELS and any(is_depthwise(op, graph) for op in makers)
        return CHANNELS if wide else LANES
    return GROUP if isa in ("dsp", "xpulp") else 1
