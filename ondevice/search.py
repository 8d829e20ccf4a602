"""``--update auto``: which layers, and how many of their channels, are worth what they take.

What a layer contributes is measured: by how much the loss falls when it learns alone for a few steps. Of
that, a part of its channels counts for its share of the layer's squared mean gradient, which is what first
order gradient descent predicts. Contributions are added up. What parts take does not quite add up: the
lowest layer that learns decides how far gradients go back. So there are knapsacks for each lowest layer, with
what the planner says that each part adds to it, and the planner itself judges what comes of them.
Nor do contributions add up: too much that learns at once does harm. So for each lowest layer there is a
choice up to the end of every block of layers above it, and among all these a race of runs decides who comes
into the finals. There the frames that come later decide, and among what is level with the best the simplest.
"""

from __future__ import annotations

import dataclasses
import glob
import itertools
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

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
from ondevice.search_bench import learnable, open_bench, thawed
from ondevice.search_contributions import Contribution, contributions
from ondevice.search_costs import Cost, Costs, Limits
from ondevice.search_finals import Judge, finals
from ondevice.search_found import Found, Result, Verdict
from ondevice.search_race import Patterns, Race, Raced, by_success, finalists, race
from zoo.frames import Frames

FRACTIONS = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1))
ATTEMPTS = 4  # at a choice that fits by the planner too
MOST_BLOCKS = 6  # at whose ends choices may end


@dataclass(frozen=True)
class Option:
    """A part of a layer that could learn; `fraction` of its weights (0: only the bias)."""

    layer: str
    pattern: str
    what: str
    fraction: Fraction
    gain: float  # predicted fall of the loss


@dataclass(frozen=True)
class Trials:
    """What decides among choices: a race who comes into the finals, and a judge there."""

    race: Race
    judge: Judge


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
        trials = Trials(race(bench), finals(network, frames, update, lr))
        return choose_update(network, board, contributions(bench), update, limits, prefer, trials=trials)


def choose_update(
    network: Network,
    board: Board,
    measured: Mapping[str, Contribution],
    update: UpdatePlan,
    limits: Limits,
    prefer: Prefer = "flash",
    *,
    trials: Trials | None = None,
) -> Found:
    """Return the best update within `limits`, with the optimizer of `update`.

    `trials` decide among the choices with the highest contributions; without them their sum does.

    Raises:
        DoesNotFitError: not even the smallest part fits; says what is in the way and what would be enough.
        UserError: no layer lowers the loss.
    """
    costs = Costs(network, board, update, limits, prefer)
    return _Search(layer_options(network, measured), costs, limits).run(trials)


def layer_options(network: Network, measured: Mapping[str, Contribution]) -> dict[str, tuple[Option, ...]]:
    """Return what of each layer could learn, in the order of the layers: its bias, fractions, all of it."""
    graph = thawed(network)
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
Tried = tuple[Choice, Result]


class _Search:
    def __init__(self, options: Mapping[str, tuple[Option, ...]], costs: Costs, limits: Limits) -> None:
        self._options, self._costs, self._limits = options, costs, limits

    def run(self, trials: Trials | None) -> Found:
        choices = self._choices()
        if not choices:
            raise self._nothing_fits()
        best, tried = self._best(choices) if trials is None else self._tried(choices, trials)
        verdicts = tuple(self._verdict(layer, best, tried) for layer in self._options)
        cost = self._costs.planned(_patterns(best))
        return Found(
            ",".join(_patterns(best)), cost, self._limits, verdicts, tuple(result for _, result in tried)
        )

    def _best(self, choices: Sequence[Choice]) -> tuple[Choice, list[Tried]]:
        """Return the choice with the highest contributions, for which nothing was tried."""
        return self._filled(max(choices, key=_gain)), []

    def _tried(self, choices: Sequence[Choice], trials: Trials) -> tuple[Choice, list[Tried]]:
        """Return the winner of the finals, and what was tried, those who got furthest first.

        Of those that the best is not clearly better than it is the simplest (the rule of one standard error:
        Breiman et al. 1984): that in which the fewest layers learn, of these what takes the least memory.
        """
        raced = trials.race([_patterns(choice) for choice in choices])
        starters = finalists(raced)
        final = trials.judge([raced[index].patterns for index in starters])
        effort = [(len(choices[k]), self._costs.planned(raced[k].patterns).ram) for k in starters]
        winner = min(final.level(), key=effort.__getitem__)
        losses = [float(each.mean()) for each in final.losses]
        tried = sorted(
            (
                (choices[index], Result(raced[index].patterns, final.steps, loss, losses[winner]))
                for index, loss in zip(starters, losses, strict=True)
            ),
            key=lambda tried: tried[1].loss,
        )
        before = raced[starters[winner]]
        tried += [(choices[index], _result(raced[index], before)) for index in by_success(raced)]
        return choices[starters[winner]], tried

    def _choices(self) -> list[Choice]:
        """Return what fits and differs: for each lowest layer, a choice up to the end of each block."""
        layers = list(self._options)
        found: list[Choice] = []
        # What has one lowest layer needs to know nothing of the others, and planning takes seconds.
        # Ctrl-C ends the workers at once.
        with ProcessPoolExecutor(
            os.cpu_count(), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL)
        ) as pool:
            of_lowest = pool.map(self._choices_above, range(len(layers)))
            for choices in progress(of_lowest, "choosing layers", len(layers)):
                found += [choice for choice in choices if choice not in found]
        return [{layer: choice[layer] for layer in layers if layer in choice} for choice in found]

    def _choices_above(self, index: int) -> list[Choice]:
        """Return the choices whose lowest layer is the one with this index."""
        layers = list(self._options)
        lowest = layers[index]
        found: list[Choice] = []
        if self._costs.bound((self._options[lowest][0].pattern,)).hopeless(self._limits):
            return []
        window = _Window(self._options, self._costs, lowest, layers[index + 1 :])
        for end in (end for end in _block_ends(layers) if end > index):
            choice = self._whole(layers[index:end]) or self._fitting(window, layers[index + 1 : end])
            if _gain(choice) > 0 and choice not in found:
                found.append(choice)
        return found

    def _whole(self, layers: Sequence[str]) -> Choice:
        """Return the choice of all of these layers if it fits, {} if not.

        What is made a second time may bring the best of all choices below what bands alone come to.
        """
        choice = {layer: self._options[layer][-1] for layer in layers if self._options[layer][-1].gain}
        return choice if choice and not self._excess(choice) else {}

    def _fitting(self, window: _Window, others: Sequence[str]) -> Choice:
        """Return the best choice in the window of which `others` may learn too; {} if none fits."""
        for _ in range(ATTEMPTS):
            ram = self._limits.ram - window.margin
            choice = window.best(others, dataclasses.replace(self._limits, ram=ram))
            if not choice:
                return choice
            least = self._costs.bound(_patterns(choice))
            cost = least if least.excess(self._limits) else self._costs.banded(_patterns(choice))
            if not cost.excess(self._limits):
                return choice
            window.margin += max(cost.ram - self._limits.ram, 1)
        return {}

    def _filled(self, choice: Choice) -> Choice:
        """Return `choice` with more of its layers and of those between them, as far as that fits.

        What parts add to a choice depends on the others, so that the knapsack may leave something over; and
        what makes things a second time fits more than what the choice was planned with.
        """
        layers = list(self._options)
        between = layers[layers.index(next(iter(choice))) : layers.index([*choice][-1]) + 1]
        options = [option for layer in between for option in self._options[layer]]
        for option in sorted(options, key=lambda option: option.gain, reverse=True):
            have = choice[option.layer].gain if option.layer in choice else 0.0
            more = {**choice, option.layer: option}
            if option.gain > have and not self._excess(more):
                choice = more
        return {layer: choice[layer] for layer in layers if layer in choice}

    def _excess(self, choice: Choice) -> str:
        """Return by how much `choice` is beyond the limits as the whole planner has it, "" where it fits."""
        least = self._costs.bound(_patterns(choice))
        if least.hopeless(self._limits):
            return least.excess(self._limits)
        return self._costs.planned(_patterns(choice)).excess(self._limits)

    def _verdict(self, layer: str, best: Choice, tried: Sequence[Tried]) -> Verdict:
        whole = sum(options[-1].gain for options in self._options.values())
        options = self._options[layer]
        taken = best.get(layer)
        have = taken.gain if taken else 0.0
        larger = [option for option in options if option.gain > have]
        beside = [result for choice, result in tried if layer in choice and choice[layer].gain > have]
        if not options[-1].gain:
            why = "does not lower the loss"
        elif not larger:
            why = "fits"
        elif beside:
            other = beside[0]
            why = (
                f"the best trial with {'more' if taken else 'it'} came to a loss of {other.loss:.3f} "
                f"in {other.steps} steps, this one to {other.winners_loss:.3f}"
            )
        else:
            excess = self._excess({**best, layer: larger[0]})
            why = f"with {larger[0].what} the update would be {excess}" if excess else "would fit as well"
        return Verdict(layer, taken.what if taken else "nothing", have / whole, options[-1].gain / whole, why)

    def _nothing_fits(self) -> UserError:
        if not any(options[-1].gain for options in self._options.values()):
            return UserError(
                "no layer lowers the loss of the frames that were measured; "
                "try another --lr, or name the layers with --update"
            )
        smallest = [options[0].pattern for options in self._options.values()]
        if self._limits.seconds is not None:
            fastest = min((self._costs.bound((name,)) for name in smallest), key=lambda cost: cost.seconds)
            if fastest.seconds > self._limits.seconds:
                return DoesNotFitError(
                    f"no update takes {1000 * self._limits.seconds:.0f} ms a step or less: the fastest is "
                    f"estimated at {1000 * fastest.seconds:.0f} ms; allow more with --time"
                )
        plans = {name: self._costs.smallest((name,)) for name in smallest}
        pattern = min(plans, key=lambda name: plans[name].ram_bytes)
        plan = plans[pattern]
        return DoesNotFitError(
            f"no update fits into {format_size(self._limits.ram)} of RAM: the smallest, {pattern} alone, "
            f"needs {format_size(plan.ram_bytes)}, in the way are {in_the_way(plan, self._limits.ram)}; "
            f"--ram {plan.ram_bytes} is the smallest budget that works"
        )


class _Window:
    """The updates in which nothing below the layer `lowest` learns, and what parts of `others` add."""

    def __init__(
        self, options: Mapping[str, tuple[Option, ...]], costs: Costs, lowest: str, others: Iterable[str]
    ) -> None:
        self._options, self._costs = options, costs
        self.margin = 0  # by how much plans here take more than their bounds and sums, as far as is known
        smallest = options[lowest][0]
        self._base = costs.bound((smallest.pattern,))
        self._first = [Item(o, costs.bound((o.pattern,)), o.gain) for o in options[lowest]]
        self._rest = {layer: self._items(smallest, layer) for layer in others}

    def best(self, others: Sequence[str], limits: Limits) -> Choice:
        """Return the choice with the highest gain in which `others` may learn too; {} if none fits."""
        picked = best_choice(self._first, [self._rest[layer] for layer in others], limits)
        return {item.what.layer: item.what for item in picked}

    def _items(self, smallest: Option, layer: str) -> list[Item[Option]]:
        """Return what the options of `layer` add to an update that learns `smallest` below.

        Fractions are not planned one by one: they differ in the weights that lie in RAM and in the gradients
        that are computed for them, both in proportion.
        """
        base = self._base
        little, whole = self._options[layer][0], self._options[layer][-1]
        least = self._costs.bound((smallest.pattern, little.pattern))
        most = self._costs.bound((smallest.pattern, whole.pattern))
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


def _result(entry: Raced, winners: Raced) -> Result:
    """Return how far `entry` got beside the entry that the winner was made of."""
    return Result(entry.patterns, entry.steps, entry.losses[-1], winners.losses[len(entry.losses) - 1])


def _block_ends(layers: Sequence[str]) -> list[int]:
    """Return the index behind the last layer of each block: neighbours whose names begin alike.

    Where there are many blocks some are joined.
    """
    sizes = [len(list(block)) for _, block in itertools.groupby(layers, lambda name: name.split(".")[0])]
    ends = list(itertools.accumulate(sizes))
    count = min(len(ends), MOST_BLOCKS)
    return [ends[round((k + 1) * len(ends) / count) - 1] for k in range(count)]


def _patterns(choice: Choice) -> Patterns:
    return tuple(option.pattern for option in choice.values())


def _gain(choice: Choice) -> float:
    return float(np.sum([option.gain for option in choice.values()]))
