"""Structured pruning for a board: rounds of choosing channels, removing them and fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from boards import Board
from fieldtune.console import say
from firmware_gen.graph import Graph
from firmware_gen.update import UpdatePlan
from quantize.fine_tune import fine_tune
from quantize.float_network import FloatNetwork
from quantize.onnx_writer import float_model
from quantize.prune_costs import CostModel, Costs
from quantize.prune_goals import Drop, Goals, parse_goals
from quantize.prune_methods import Losses, Method, Round, choose
from quantize.task_scores import Judge, Score
from quantize.training_set import Labelled, hold_out, labelled
from zoo.frames import Frames

SWEEP = 96
"""Frames that the choice of channels looks at, at most: it evaluates the network hundreds of times."""


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
        rate: its learning rate.
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
    rate: float = 1e-3
    test: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """A network on the way: scores on the held-out frames, and whether no output is worse than it may be."""

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
        candidates: the network as it was given, and after each round, as planned within the limits.
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
        _tell(candidate, len(candidates), goals, before)
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

    training: Sequence[Labelled]
    sweep: Judge
    held_out: Judge
    test: Judge


def _parts(network: FloatNetwork, frames: Frames, test: int) -> _Parts:
    training, judged = hold_out(frames, test, network, "pruning")
    judge = Judge(network.task, judged, "held-out frames")
    last = frames[len(frames) - test :]
    return _Parts(
        training,
        Judge(network.task, judged[:: -(-len(judged) // SWEEP)], "held-out frames"),
        judge,
        Judge(network.task, labelled(last, network), "test frames") if test else judge,
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

    def run(self) -> Iterator[Candidate]:
        """Yield the network as it is given and after each round; `graph` is the last that was accepted."""
        yield Candidate(self._model.planned(self.graph), self._first, True)
        pace, rounds = 1.0, self._options.rounds
        for number in range(rounds):
            planned = self._model.planned(self.graph)
            if self._goals.hold(planned):
                return
            share = pace / (rounds - number)
            tuned = self._tuned(self._chosen(share), number)
            scores = self._parts.held_out.scores(tuned)
            accepted = all(
                drop.of(self._first[name], scores[name]) <= drop.value
                for name, drop in self._options.drops.items()
            )
            if accepted:
                self.graph = tuned
            else:
                pace /= 2
            yield Candidate(self._model.planned(tuned), scores, accepted)

    def scores(self) -> dict[str, tuple[Score, Score]]:
        """Return the scores that count, before and after."""
        before, after = (self._parts.test.scores(graph) for graph in (self._network.graph, self.graph))
        return {name: (before[name], after[name]) for name in before}

    def _chosen(self, share: float) -> Graph:
        costs = self._model
        goals = self._goals.on_the_way(costs.planned(self.graph), costs.whole(self.graph), share)
        given = Round(self.graph, self._options.board.isa, goals, costs.whole, self._losses)
        return choose(self._options.method, given)

    def _tuned(self, graph: Graph, number: int) -> Graph:
        options = self._options
        seed = options.seed * options.rounds + number
        samples = self._parts.training
        return fine_tune(graph, self._network.task, samples, options.epochs, options.rate, seed)


def _tell(candidate: Candidate, number: int, goals: Goals, first: Costs) -> None:
    costs = ", ".join(
        f"{candidate.costs.of(name) / first.of(name):.1%} of the {name.upper() if name == 'ram' else name}"
        for name in goals.limits
    )
    losses = ", ".join(f"{name} {score.loss:.4g}" for name, score in candidate.scores.items())
    what = f"round {number}" if number else "as given"
    undone = "" if candidate.accepted else "; undone, an output is worse than it may be"
    say(f"{what}: {costs}; losses {losses}{undone}")
