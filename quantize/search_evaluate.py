"""What a search asks of its candidates: their costs, the networks themselves, and their losses.

All of it is in an `Evaluator`, of which every process has its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from boards import Board
from fieldtune.errors import UserError
from firmware_gen.graph import Array, Graph
from firmware_gen.update import UpdatePlan, trained_constants
from quantize.fine_tune import Recipe, even_weights, fine_tune
from quantize.float_network import FloatNetwork, Values
from quantize.onnx_writer import float_model, quantized_model
from quantize.onnxruntime_backend import calibrate
from quantize.parameters import QuantizedGraph, input_types
from quantize.pipeline import ROUNDING_FRAMES, equalized, layers_alone, thinned
from quantize.prune_costs import BANDED, CostModel, Costs
from quantize.prune_goals import Goals
from quantize.reconstruct import Moments, second_moments
from quantize.round_weights import round_weights
from quantize.scheme import Scheme, division
from quantize.search_space import Candidate, Space, Type
from quantize.task_scores import Judge, Score
from quantize.training_samples import LabelledSamples
from quantize.training_set import Labelled
from zoo.training.augment import Views

JUDGED = 128
"""Frames that candidates are judged by, at most."""
DRAWS = 20
"""Attempts at a random candidate that keeps the limits."""


@dataclass(frozen=True)
class Setting:
    """Of what a search is.

    Args:
        network: as it is given.
        board: where it will run.
        update: what will learn there.
        goals: the most that it may take there; RAM is among them.
        narrowest: the least share of a group's channels that stays.
        types: what layers may be.
        kept: names of operators that are float whatever is chosen.
        epochs: of fine-tuning a candidate, before its layers become int8.
        rate: its learning rate.
        training: frames to train on, and to calibrate with.
        judged: frames that are held out from both.
        samples: how many calibrate, at most.
    """

    network: FloatNetwork
    board: Board
    update: UpdatePlan
    goals: Goals
    narrowest: float
    types: tuple[Type, ...]
    kept: frozenset[str]
    epochs: int
    rate: float
    training: Sequence[Labelled]
    judged: Sequence[Labelled]
    samples: int

    def space(self, moments: Moments = MappingProxyType({})) -> Space:
        """Return what can be chosen; `moments` are for who makes the networks."""
        graph, isa = self.network.graph, self.board.isa
        return Space(graph, isa, self.narrowest, self.types, self.kept, moments)


@dataclass(frozen=True)
class Evaluated:
    """A candidate as a file, before and after quantization.

    `costs` are what the quantized file takes, as planned within the limits, `losses` its losses by output.
    """

    tuned: bytes
    model: bytes
    costs: Costs
    losses: dict[str, float]


class Evaluator:
    """Makes candidates and measures them."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        graph, self._task = setting.network.graph, setting.network.task
        self._training = LabelledSamples(setting.training, graph)
        self._space = setting.space(second_moments(graph, self._training))
        ram = int(setting.goals.limits["ram"])
        self._costs = CostModel(self._task, setting.board, setting.update, ram)
        judged = setting.judged[:: -(-len(setting.judged) // JUDGED)]
        self._judge = Judge(self._task, LabelledSamples(judged, graph), "held-out frames")
        self._inputs: Sequence[Values] = thinned([each.inputs for each in setting.training], setting.samples)
        given = zip((spec.name for spec in self._task.learned), self._judge.losses(graph), strict=True)
        weights = even_weights(self._task, {name: float(loss) for name, loss in given})
        self._recipe = Recipe(weights, Views(self._task, mirror=False, colour=False), setting.rate)
        self._tuned: tuple[tuple[int, ...], Graph] | None = None
        self._int8: tuple[Scheme, QuantizedGraph] | None = None

    def scores(self, model: bytes) -> dict[str, Score]:
        """Return the scores of a file on the held-out frames."""
        return self._judge.file_scores(model)

    def drawn(self, seed: int, number: int) -> Candidate:
        """Return a random candidate that keeps the limits, or the last of `DRAWS` that do not."""
        rng, goals = np.random.default_rng((seed, number)), self._setting.goals
        for _ in range(DRAWS):
            candidate = self._space.random(rng)
            excess = goals.excess(self.costs(candidate))
            # Bands of rows may still bring the RAM within its limit, nothing else the rest.
            banded = [excess.pop(metric, 0.0) for metric in BANDED]
            if not any(excess.values()) and (not any(banded) or goals.hold(self.planned(candidate))):
                break
        return candidate

    def costs(self, candidate: Candidate) -> Costs:
        """Return what a candidate takes with all layers made whole; see `CostModel.whole`."""
        return self._costs.whole(*self._described(candidate))

    def planned(self, candidate: Candidate) -> Costs:
        """Return what it takes within the limits, or the least that the planner finds."""
        return self._costs.planned(*self._described(candidate))

    def evaluate(self, candidate: Candidate) -> Evaluated:
        """Fine-tune, quantize and judge a candidate; it has the same bytes each time on the same machine."""
        graph = self._fine_tuned(candidate)
        tuned = model = float_model(graph, self._task)
        scheme = self._scheme(graph, self._space.float_layers(candidate))
        if scheme.tensors:
            model = quantized_model(self._quantized(scheme)[1], self._task)
        scores = self._judge.file_scores(model)
        losses = {name: score.loss for name, score in scores.items()}
        return Evaluated(tuned, model, self._costs.of_file(model), losses)

    def type_losses(self, layer: str) -> Array:
        """Return the losses when only this layer of the network as given is int8."""
        if self._int8 is None:
            scheme = self._scheme(self._setting.network.graph, frozenset())
            self._int8 = self._quantized(scheme)
        alone = dict(layers_alone(self._int8[0].graph, self._int8[1]))[layer]
        return self._losses(self._judge.file_scores(quantized_model(alone, self._task)))

    def width_losses(self, group: int, channels: int) -> Array:
        """Return the losses when only this group of the network as given is narrowed, without training."""
        whole = self._space.whole("float")
        counts = (*whole.channels[:group], channels, *whole.channels[group + 1 :])
        return self._judge.losses(self._space.graph_of(Candidate(counts, whole.floats)))

    def _losses(self, scores: dict[str, Score]) -> Array:
        return np.array([score.loss for score in scores.values()], np.float32)

    def _described(self, candidate: Candidate) -> tuple[Graph, frozenset[str]]:
        return self._space.cut(candidate), self._space.float_layers(candidate)

    def _fine_tuned(self, candidate: Candidate) -> Graph:
        """Return the graph of the candidate's widths, trained; where only types are searched, just once."""
        if self._tuned is None or self._tuned[0] != candidate.channels:
            graph, setting = self._space.graph_of(candidate), self._setting
            if setting.epochs:
                graph = fine_tune(graph, self._task, self._training, self._recipe, setting.epochs, seed=0)
                if not np.isfinite(self._judge.losses(graph)).all():
                    raise UserError(f"training diverges with --lr {setting.rate:g}; give a smaller one")
            self._tuned = candidate.channels, graph
        return self._tuned[1]

    def _scheme(self, graph: Graph, float_layers: frozenset[str]) -> Scheme:
        trained = trained_constants(graph, self._setting.update)
        learning = {op.name for op in graph.ops if any(name in trained for name in op.constants)}
        return division(graph, float_layers, learning)

    def _quantized(self, scheme: Scheme) -> tuple[Scheme, QuantizedGraph]:
        scheme = equalized(scheme, self._inputs)
        ranges = calibrate(scheme, self._inputs, input_types(self._task))
        return scheme, round_weights(ranges, thinned(self._inputs, ROUNDING_FRAMES))


class Workers:
    """Evaluators in processes of their own, or in this one. Results do not depend on their number."""

    def __init__(self, setting: Setting, pool: ProcessPoolExecutor | None) -> None:
        self._pool = pool
        self._own = Evaluator(setting) if pool is None else None

    def map(self, method: str, items: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield what a method of the evaluators returns for each of the argument lists, in their order."""
        if self._own is not None:
            call = getattr(self._own, method)
            return (call(*item) for item in items)
        assert self._pool is not None
        return self._pool.map(_call, [method] * len(items), items)


@contextlib.contextmanager
def open_workers(setting: Setting, jobs: int) -> Iterator[Workers]:
    """Start `jobs` processes, each on one thread; one job is done in this process, on one thread as well."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order are other sums
    try:
        if jobs == 1:
            yield Workers(setting, None)
            return
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        pool = ProcessPoolExecutor(jobs, context, _open, (setting,))
        try:
            yield Workers(setting, pool)
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(threads)


_evaluator: Evaluator


def _open(setting: Setting) -> None:
    global _evaluator
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    torch.set_num_threads(1)
    _evaluator = Evaluator(setting)


def _call(method: str, item: tuple[Any, ...]) -> Any:
    return getattr(_evaluator, method)(*item)
