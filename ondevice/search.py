"""``--update auto``: which layers, and how many of their channels, are worth what they take.

What a layer contributes is measured: by how much the loss falls when it learns alone for a few steps. Of
that, a part of its channels counts for its share of the layer's squared mean gradient, which is what first
order gradient descent predicts. Contributions are added up. What parts take does not quite add up: the
lowest layer that learns decides how far gradients go back. So there is one knapsack for each lowest layer,
with what the planner says that each part adds to it; the planner itself judges the choice, and improves it.
Among these choices a run decides in which all of a choice learns together: too much at once does harm.
"""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from boards import Board
from fieldtune.console import progress
from fieldtune.errors import DoesNotFitError, UserError
from fieldtune.sizes import format_size
from firmware_gen.limits import in_the_way
from firmware_gen.operators.base import Prefer
from firmware_gen.passes.split_channels import Divisible
from firmware_gen.project import Network
from firmware_gen.update import UpdatePlan
from ondevice.knapsack import Item, best_choice
from ondevice.search_contributions import Contribution, learnable, open_bench
from ondevice.search_costs import Cost, Costs, Limits
from zoo.frames import Frames

FRACTIONS = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1))
ATTEMPTS = 4  # at a choice that fits by the planner too, for each lowest layer


@dataclass(frozen=True)
class Option:
    """A part of a layer that could learn; `fraction` of its weights (0: only the bias)."""

    layer: str
    pattern: str
    what: str
    fraction: Fraction
    gain: float  # predicted fall of the loss


@dataclass(frozen=True)
class Verdict:
    """What became of a layer, and why; gains as shares of what the whole network could contribute."""

    layer: str
    learns: str
    gain: float
    possible: float
    why: str


@dataclass(frozen=True)
class Found:
    """The outcome of a search: what ``--update`` would have to say, and what it takes."""

    update: str
    cost: Cost
    limits: Limits
    layers: tuple[Verdict, ...]

    def table(self) -> str:
        """Return what was taken or left, and why, as lines of text."""
        width = max(len(verdict.layer) for verdict in self.layers)
        learns = max(len(verdict.learns) for verdict in self.layers)
        time = f", about {1000 * self.cost.seconds:.0f} ms a step" if self.cost.seconds else ""
        lines = [f"--update '{self.update}': {format_size(self.cost.ram)}{time}"]
        for verdict in self.layers:
            share = f"{100 * verdict.gain:5.1f} of {100 * verdict.possible:5.1f} %"
            lines.append(f"  {verdict.layer:<{width}}  {verdict.learns:<{learns}}  {share}  {verdict.why}")
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
        }


def search_update(
    network: Network,
    board: Board,
    frames: Frames,
    update: UpdatePlan,
    limits: Limits,
    *,
    lr: float,
    prefer: Prefer = "flash",
) -> Found:
    """Measure on `frames` and choose; see `choose_update`.

    Raises:
        ModelError: nothing of the network can learn. DataError: no frame has a label.
    """
    with open_bench(network, frames, lr) as bench:
        measured = bench.contributions()
        return choose_update(network, board, measured, update, limits, prefer, judge=bench.learned)


def choose_update(
    network: Network,
    board: Board,
    measured: Mapping[str, Contribution],
    update: UpdatePlan,
    limits: Limits,
    prefer: Prefer = "flash",
    *,
    judge: Callable[[tuple[str, ...]], float] | None = None,
) -> Found:
    """Return the update with the highest contribution within `limits`, with the optimizer of `update`.

    Of the best choices for each lowest learning layer `judge` takes the one with the lowest loss, measured
    with all of it learning together; without it the one with the highest sum of contributions.

    Raises:
        DoesNotFitError: not even the smallest part fits; says what is in the way and what would be enough.
        UserError: no layer lowers the loss.
    """
    search = _Search(layer_options(network, measured), Costs(network, board, update, prefer), limits)
    return search.run(judge)


def layer_options(network: Network, measured: Mapping[str, Contribution]) -> dict[str, tuple[Option, ...]]:
    """Return what of each layer could learn, in the order of the layers: its bias, fractions, all of it."""
    graph = network.graph
    found = {}
    for op in learnable(graph):
        if op.name not in measured:
            continue
        layer, name = Divisible.of(op, graph), glob.escape(op.name)
        decrease, gradients = measured[op.name].decrease, measured[op.name].gradients
        squares = [layer.squares(gradients[constant]) for constant in op.constants]
        total = float(np.sum(squares))
        worth = np.sum(squares, 0) * (decrease / total if total else 0.0)
        options = []
        if len(squares) > 1:
            gain = decrease * float(squares[1].sum()) / total if total else 0.0
            options.append(Option(op.name, glob.escape(op.constants[1]), "bias", Fraction(0), gain))
        for fraction in FRACTIONS:
            units = layer.neighbours(fraction, worth)
            gain = float(worth[units.first : units.end].sum())
            share = Fraction(units.count, layer.units)
            if share == 1:
                options.append(Option(op.name, name, "all", share, gain))
                break
            first, last = units.first * layer.width, units.end * layer.width - 1
            what = f"{fraction}: channels {first}-{last}"
            options.append(Option(op.name, f"{name}:{first}-{last}", what, share, gain))
        found[op.name] = tuple(options)
    return found


Choice = dict[str, Option]


class _Search:
    def __init__(self, options: Mapping[str, tuple[Option, ...]], costs: Costs, limits: Limits) -> None:
        self._options, self._costs, self._limits = options, costs, limits

    def run(self, judge: Callable[[tuple[str, ...]], float] | None) -> Found:
        layers = list(self._options)
        choices: list[Choice] = []
        for index, lowest in progress(enumerate(layers), "choosing layers", len(layers)):
            found = self._improved(self._above(lowest, layers[index + 1 :]), layers[index:])
            if _gain(found) > 0 and found not in choices:
                choices.append(found)
        if not choices:
            raise self._nothing_fits()
        if judge is None:
            best = max(choices, key=_gain)
        else:
            best = min(choices, key=lambda choice: judge(_patterns(choice)))
        verdicts = tuple(self._verdict(layer, best) for layer in layers)
        chosen = [best[layer].pattern for layer in layers if layer in best]
        return Found(",".join(chosen), self._cost(best), self._limits, verdicts)

    def _cost(self, choice: Choice) -> Cost:
        return self._costs.of(_patterns(choice))

    def _fits(self, choice: Choice) -> bool:
        return not self._cost(choice).excess(self._limits)

    def _above(self, lowest: str, others: list[str]) -> Choice:
        """Return the best choice in which nothing below the layer `lowest` learns; {} if none fits."""
        smallest = self._options[lowest][0]
        if not self._fits({lowest: smallest}):
            return {}
        base = self._costs.of((smallest.pattern,))
        first = [Item(o, self._costs.of((o.pattern,)), o.gain) for o in self._options[lowest]]
        rest = [self._items(smallest, base, layer) for layer in others]
        ram = self._limits.ram
        for _ in range(ATTEMPTS):
            picked = best_choice(first, rest, dataclasses.replace(self._limits, ram=ram))
            choice = {item.what.layer: item.what for item in picked}
            if not choice or self._fits(choice):
                return choice
            ram -= max(self._cost(choice).ram - self._limits.ram, 1)
        return {lowest: smallest}

    def _items(self, smallest: Option, base: Cost, layer: str) -> list[Item[Option]]:
        """Return what the options of `layer` add to an update that learns `smallest` below.

        Fractions are not planned one by one: they differ in the weights that lie in RAM and in the gradients
        that are computed for them, both in proportion.
        """
        little, whole = self._options[layer][0], self._options[layer][-1]
        least = self._costs.of((smallest.pattern, little.pattern))
        most = self._costs.of((smallest.pattern, whole.pattern))
        items = []
        for option in self._options[layer]:
            if option is little:
                cost = least
            else:
                part = float(option.fraction)
                cost = Cost(
                    most.ram - round((1 - part) * (most.weights - base.weights)),
                    base.weights + round(part * (most.weights - base.weights)),
                    least.seconds + part * (most.seconds - least.seconds),
                )
            added = Cost(cost.ram - base.ram, cost.weights - base.weights, cost.seconds - base.seconds)
            items.append(Item(option, added, option.gain))
        return items

    def _improved(self, choice: Choice, layers: list[str]) -> Choice:
        """Return `choice` with more of `layers` where the planner finds that it fits."""
        while choice:
            better = [
                {**choice, layer: option}
                for layer in layers
                for option in self._options[layer]
                if option.gain > (choice[layer].gain if layer in choice else 0.0)
            ]
            better.sort(key=_gain, reverse=True)
            more = next((other for other in better if self._fits(other)), None)
            if more is None:
                return choice
            choice = more
        return choice

    def _verdict(self, layer: str, choice: Choice) -> Verdict:
        whole = sum(options[-1].gain for options in self._options.values())
        options = self._options[layer]
        taken = choice.get(layer)
        have = taken.gain if taken else 0.0
        larger = [option for option in options if option.gain > have]
        if not options[-1].gain:
            why = "does not lower the loss"
        elif not larger:
            why = "fits"
        else:
            excess = self._cost({**choice, layer: larger[0]}).excess(self._limits)
            lowest = next(name for name in self._options if name in choice)
            why = (
                f"with {larger[0].what} the update would be {excess}"
                if excess
                else f"would fit, but learning from {lowest} up alone did better"
            )
        return Verdict(layer, taken.what if taken else "nothing", have / whole, options[-1].gain / whole, why)

    def _nothing_fits(self) -> UserError:
        if not any(options[-1].gain for options in self._options.values()):
            return UserError(
                "no layer lowers the loss of the frames that were measured; "
                "try another --lr, or name the layers with --update"
            )
        smallest = [options[0].pattern for options in self._options.values()]
        if self._limits.seconds is not None:
            fastest = min((self._costs.of((pattern,)) for pattern in smallest), key=lambda cost: cost.seconds)
            if fastest.seconds > self._limits.seconds:
                return DoesNotFitError(
                    f"no update takes {1000 * self._limits.seconds:.0f} ms a step or less: the fastest is "
                    f"estimated at {1000 * fastest.seconds:.0f} ms; allow more with --time"
                )
        pattern = min(smallest, key=lambda name: self._costs.of((name,)).ram)
        plan = self._costs.plan((pattern,))
        return DoesNotFitError(
            f"no update fits into {format_size(self._limits.ram)} of RAM: the smallest, {pattern} alone, "
            f"needs {format_size(plan.ram_bytes)}, in the way are {in_the_way(plan, self._limits.ram)}; "
            f"--ram {plan.ram_bytes} is the smallest budget that works"
        )


def _patterns(choice: Choice) -> tuple[str, ...]:
    return tuple(option.pattern for option in choice.values())


def _gain(choice: Choice) -> float:
    return float(np.sum([option.gain for option in choice.values()]))
