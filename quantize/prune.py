"""Structured pruning for a board: rounds of choosing channels, removing them and fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from boards import Board
from fieldtune.console import say
from fieldtune.errors import UserError
from firmware_gen.graph import Graph
from firmware_gen.update import UpdatePlan
from quantize.fine_tune import Recipe, even_weights, fine_tune
from quantize.float_network import FloatNetwork
from quantize.onnx_writer import float_model
from quantize.prune_costs import CostModel, Costs
from quantize.prune_goals import Drop, Goals, parse_goals
from quantize.prune_methods import Losses, Method, Round, choose
from quantize.reconstruct import second_moments
from quantize.task_scores import Judge, Score
from quantize.training_samples import LabelledSamples
from quantize.training_set import Labelled, hold_out, labelled
from zoo.frames import Frames
from zoo.training.augment import Views

SWEEP = 96
"""Frames that the choice of channels looks at, at most: it evaluates the network hundreds of times."""
LEAST_PATIENCE = 0.1
"""Of the output that may lose most: one that may lose nothing must not be all that counts in training."""


@dataclass(frozen=True)
class Options:
    """What the user can choose.

    Args:
        board: where the network will run.
        keep: the most it may take there: by metric a number, or a share of what it takes now such as "40%".
        drops: how much worse each output may get.
        update: what will learn there.
        method: which channels go.
        rounds: in how many steps, at most.
        epochs: of fine-tuning after each round.
        final_epochs: of fine-tuning at the end.
        rate: its learning rate.
        mirror: show frames mirrored, too.
        colour: show them in other colours, too.
        test: the last frames, which are set apart.
        seed: of the order of frames in fine-tuning.
    """

    board: Board
    keep: Mapping[str, str]
    drops: Mapping[str, Drop]
    update: UpdatePlan = field(default_factory=UpdatePlan)
    method: Method = "pagcp"
    rounds: int = 4
    epochs: int = 5
    final_epochs: int = 0
    rate: float = 1e-3
    mirror: bool = False
    colour: bool = False
    test: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """A network on the way: after which step, scores on the held-out frames, and whether no output is worse
    than it may be.
    """

    step: str
    costs: Costs
    scores: Mapping[str, Score]
    accepted: bool


@dataclass(frozen=True)
class Result:
    """What has come of it.

    Args:
        graph: the smallest network on the way that was accepted.
        model: its ONNX file.
        goals: the limits that were asked for.
        drops: how much worse each output may get.
        candidates: the network as it was given, after each round, and after the training at the end, as
            planned within the limits.
        costs: before, and after as planned within the limits.
        scores: before and after, on the test frames, else on the held-out ones.
        layers: output channels before and after, of layers with weights.
    """

    graph: Graph
    model: bytes
    goals: Goals
    drops: Mapping[str, Drop]
    candidates: tuple[Candidate, ...]
    costs: tuple[Costs, Costs]
    scores: Mapping[str, tuple[Score, Score]]
    layers: Mapping[str, tuple[int, int]]

    @property
    def lost(self) -> dict[str, float]:
        """By how much each output is worse, in the unit of its drop."""
        return {name: self.drops[name].of(*pair) for name, pair in self.scores.items()}

    @property
    def missed(self) -> list[str]:
        """The metrics above their limits and the outputs that are worse than they may be."""
        excess = self.goals.excess(self.costs[1])
        worse = [name for name, lost in self.lost.items() if lost > self.drops[name].value]
        return [name for name, share in excess.items() if share] + worse

    def describe(self) -> dict[str, Any]:
        """Return what --json prints and the report is drawn from; the keys are stable."""
        before, after = self.costs
        return {
            "goals": dict(self.goals.limits),
            "drops": {name: asdict(drop) for name, drop in self.drops.items()},
            "missed": self.missed,
            "costs": {"before": asdict(before), "after": asdict(after)},
            "outputs": {
                name: {"before": asdict(pair[0]), "after": asdict(pair[1]), "lost": self.lost[name]}
                for name, pair in self.scores.items()
            },
            "layers": {name: list(channels) for name, channels in self.layers.items()},
            "rounds": [asdict(candidate) for candidate in self.candidates],
        }


def prune_network(network: FloatNetwork, frames: Frames, options: Options) -> Result:
    """Remove channels until the goals hold, as long as no output gets worse than it may.

    Each round goes an equal part of the way that is left, by factors, and fine-tunes. A round after which an
    output is worse than it may be on the held-out frames is undone, and the next goes half as far. The same
    arguments give the same bytes on the same machine.

    Raises:
        UserError: an option does not suit the network, or training diverges.
        ModelError: an operator cannot be quantized.
        DataError: too few frames, or frames without labels.
    """
    before, model, goals = _priced(network, options)
    search = _Search(network, options, goals, model, _parts(network, frames, options.test))
    candidates: list[Candidate] = []
    for candidate in search.run():
        _tell(candidate, goals, before)
        candidates.append(candidate)
    graph = search.graph
    layers = {
        op.name: (network.graph.shape(op.outputs[0])[2], graph.shape(op.outputs[0])[2])
        for op in graph.ops
        if op.kind == "conv2d"
    }
    return Result(
        graph,
        float_model(graph, network.task),
        goals,
        options.drops,
        tuple(candidates),
        (before, model.planned(graph)),
        search.scores(),
        layers,
    )


def _priced(network: FloatNetwork, options: Options) -> tuple[Costs, CostModel, Goals]:
    """Return what the network takes without limits of RAM but the board's, the model with them, and goals."""
    model = CostModel(network.task, options.board, options.update)
    before = model.planned(network.graph)
    goals = parse_goals(options.keep, before)
    if "ram" in goals.limits:
        model = CostModel(network.task, options.board, options.update, int(goals.limits["ram"]))
    return before, model, goals


@dataclass(frozen=True)
class _Parts:
    """Frames to train on, to choose channels by, to judge rounds by, and to judge the result by."""

    training: LabelledSamples
    sweep: Judge
    held_out: Judge
    test: Judge


def _parts(network: FloatNetwork, frames: Frames, test: int) -> _Parts:
    training, judged = hold_out(frames, test, network, "pruning")

    def judge(of: Sequence[Labelled], what: str) -> Judge:
        return Judge(network.task, LabelledSamples(of, network.graph), what)

    held = judge(judged, "held-out frames")
    return _Parts(
        LabelledSamples(training, network.graph),
        judge(judged[:: -(-len(judged) // SWEEP)], "held-out frames"),
        held,
        judge(labelled(frames[len(frames) - test :], network), "test frames") if test else held,
    )


class _Search:
    def __init__(
        self, network: FloatNetwork, options: Options, goals: Goals, model: CostModel, parts: _Parts
    ) -> None:
        self.graph = network.graph
        self._network, self._options = network, options
        self._goals, self._model, self._parts = goals, model, parts
        self._first = parts.held_out.scores(network.graph)
        shares = np.array([options.drops[name].share(score) for name, score in self._first.items()])
        self._losses = Losses(parts.sweep.losses, shares / max(shares.max(), 1e-9))
        self._recipe = self._balanced()

    def run(self) -> Iterator[Candidate]:
        """Yield the network as it is given and after each round; `graph` is the last that was accepted."""
        yield Candidate("as given", self._model.planned(self.graph), self._first, True)
        pace, rounds = 1.0, self._options.rounds
        for number in range(rounds):
            if self._goals.hold(self._model.planned(self.graph)):
                break
            share = pace / (rounds - number)
            candidate = self._tried(f"round {number + 1}", self._chosen(share), self._options.epochs, number)
            if not candidate.accepted:
                pace /= 2
            yield candidate
        if self._options.final_epochs and self.graph is not self._network.graph:
            yield self._tried("at the end", self.graph, self._options.final_epochs, rounds)

    def scores(self) -> dict[str, tuple[Score, Score]]:
        """Return the scores that count, before and after."""
        before, after = (self._parts.test.scores(graph) for graph in (self._network.graph, self.graph))
        return {name: (before[name], after[name]) for name in before}

    def _chosen(self, share: float) -> Graph:
        options, costs = self._options, self._model
        goals = self._goals.on_the_way(costs.planned(self.graph), costs.whole(self.graph), share)
        moments = second_moments(self.graph, self._parts.training) if options.method == "pagcp" else {}
        given = Round(self.graph, options.board.isa, goals, costs.whole, self._losses, moments)
        return choose(options.method, given)

    def _tried(self, step: str, graph: Graph, epochs: int, number: int) -> Candidate:
        """Fine-tune and judge a graph, which becomes the graph if no output is worse than it may be."""
        options, task = self._options, self._network.task
        seed = options.seed * (options.rounds + 1) + number
        tuned = fine_tune(graph, task, self._parts.training, self._recipe, epochs, seed)
        scores = self._parts.held_out.scores(tuned)
        if not all(math.isfinite(score.loss) for score in scores.values()):
            raise UserError(f"training diverges with --lr {options.rate:g}; give a smaller one")
        accepted = all(
            drop.of(self._first[name], scores[name]) <= drop.value for name, drop in options.drops.items()
        )
        if accepted:
            self.graph = tuned
        return Candidate(step, self._model.planned(tuned), scores, accepted)

    def _balanced(self) -> Recipe:
        """Weigh losses as shares of what they were, so that none rules; what may lose less weighs more."""
        patience = np.maximum(self._losses.patience, LEAST_PATIENCE)
        losses = {name: score.loss for name, score in self._first.items()}
        even = even_weights(self._network.task, losses)
        weights = {name: even[name] / share for name, share in zip(losses, patience, strict=True)}
        views = Views(self._network.task, self._options.mirror, self._options.colour)
        return Recipe(weights, views, self._options.rate)


def _tell(candidate: Candidate, goals: Goals, first: Costs) -> None:
    costs = ", ".join(
        f"{candidate.costs.of(name) / first.of(name):.1%} of the {name.upper() if name == 'ram' else name}"
        for name in goals.limits
    )
    losses = ", ".join(f"{name} {score.loss:.4g}" for name, score in candidate.scores.items())
    undone = "" if candidate.accepted else "; undone, an output is worse than it may be"
    say(f"{candidate.step}: {costs}; losses {losses}{undone}")
