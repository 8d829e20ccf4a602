"""Which layers of a network are int8 or float, and how wide they are: a search for a board.

The loop is that of LINAS in SimQ-NAS (arXiv 2312.13301): some candidates are drawn and evaluated for real; a
predictor is fitted to them; NSGA-II runs many generations on what it predicts and on the planner's costs; the
best of the last are evaluated, and so on. All that was evaluated lies in a storage, from which a search goes
on, and which several machines can share.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from boards import Board
from fieldtune.console import progress, say
from fieldtune.errors import UserError
from fieldtune.files import write_bytes
from firmware_gen.limits import allowed_ram
from firmware_gen.update import UpdatePlan
from quantize.float_network import FloatNetwork
from quantize.prune_costs import CostModel, Costs
from quantize.prune_goals import Drop, Goals, parse_goals
from quantize.scheme import named_layers
from quantize.search_evaluate import Evaluated, Setting, Workers, open_workers
from quantize.search_generations import best_predicted
from quantize.search_predictor import Growths, Predictor, Sensitivities, rank_correlation
from quantize.search_result import Point, Result
from quantize.search_space import TYPES, Candidate, Space, Type
from quantize.search_store import Store, Trial, not_dominated
from quantize.task_scores import Judge, Score
from quantize.training_samples import LabelledSamples
from quantize.training_set import hold_out, labelled
from zoo.frames import Frames
from zoo.task import format_task

BATCH = 10
"""So many candidates are evaluated between two fits of the predictor."""
PLANNED = 4
"""Of so many times as many the planner is asked whether they keep the limit of RAM."""
DRAWS = 3
"""So many times as many candidates are drawn as are wanted, at most: in a small space some come again."""
SEEDS = 1_000_003
"""The factor of --seed, beside which the number of candidates is small."""
LEAST = 1e-12
"""Losses below it are taken for it: their logarithm is wanted."""
TRIED, POINTS = "tried", "point"
"""The folder of all files that were evaluated, and the name of those that no other betters."""


_Chosen = tuple[Candidate, float | None]
"""A candidate, and the growth of its worst loss as it is predicted."""


@dataclass(frozen=True)
class Options:
    """What the user can choose.

    Args:
        board: where the network will run.
        keep: the most it may take there: by metric a number, or a share of what it takes in int8, as "40%".
        drops: how much the loss of each output may grow, in per cent.
        update: what will learn there.
        types: what layers may be.
        keep_float: names or globs of those that are float in any case.
        narrowest: the least share of a group's channels that stays.
        trials: how many candidates are evaluated, with those that the storage has.
        first: how many of them are drawn before the predictor is asked.
        epochs: of fine-tuning a candidate.
        rate: its learning rate.
        samples: how many frames calibrate, at most.
        test: the last frames, which are set apart.
        seed: of the draws.
        jobs: processes.
        storage: a file or URL; None: a file in the folder that is written to.
    """

    board: Board
    keep: Mapping[str, str]
    drops: Mapping[str, Drop]
    update: UpdatePlan = field(default_factory=UpdatePlan)
    types: tuple[Type, ...] = TYPES
    keep_float: str | None = None
    narrowest: float = 0.25
    trials: int = 60
    first: int = 30
    epochs: int = 1
    rate: float = 1e-3
    samples: int = 64
    test: int = 0
    seed: int = 0
    jobs: int = 1
    storage: str | None = None


def search_network(network: FloatNetwork, frames: Frames, options: Options, out: Path) -> Result:
    """Search, and write to the folder `out` what was evaluated and what no other betters.

    With the same storage it goes on where it was. The same arguments give the same bytes on the same machine,
    whatever the number of processes, if nothing else writes to the storage.

    Raises:
        UserError: an option does not suit the network, there is nothing to choose, or training diverges.
        ModelError: an operator cannot be quantized.
        DataError: too few frames, or frames without labels.
    """
    training, judged = hold_out(frames, options.test, network, "the search")
    goals = _goals(network, options)
    setting = Setting(
        network,
        options.board,
        options.update,
        goals,
        options.narrowest,
        options.types,
        frozenset(named_layers(network.graph, options.keep_float)),
        options.epochs,
        options.rate,
        training,
        judged,
        options.samples,
    )
    space = setting.space()
    if space.size < 2:
        raise UserError(
            f"there is nothing to choose in {network.graph.name}: allow two types with --types, or narrower "
            "groups with --narrowest"
        )
    storage = str(out / "search.journal") if options.storage is None else options.storage
    name = _name(setting, options)
    store = Store(storage, name, space)
    with open_workers(setting, options.jobs) as workers:
        search = _Search(setting, space, options, store, workers, out, name)
        seen = len(store.trials())
        if seen:
            say(f"going on from {seen} candidates")
        search.run()
        judge = None
        if options.test:
            test = labelled(frames[len(frames) - options.test :], network)
            judge = Judge(network.task, LabelledSamples(test, network.graph), "test frames")
        return search.result(seen, judge)


def _goals(network: FloatNetwork, options: Options) -> Goals:
    """Return what is asked for, and what the board has."""
    board = options.board
    limits = {"ram": float(allowed_ram(board, None)), "flash": float(board.flash.bytes)}
    if board.unified:
        limits["memory"] = float(board.main_ram.bytes)
    if options.keep:
        costs = CostModel(network.task, board, options.update).planned(network.graph)
        for name, limit in parse_goals(options.keep, costs).limits.items():
            limits[name] = min(limit, limits.get(name, limit))
    return Goals(limits)


def _name(setting: Setting, options: Options) -> str:
    """Return a name that all have in common who can share what they evaluate, and no others."""
    told = hashlib.sha256()
    for part in (
        setting.network.model,
        format_task(setting.network.task),
        setting.board.id,
        setting.update,
        sorted(setting.goals.limits.items()),
        setting.narrowest,
        setting.types,
        sorted(setting.kept),
        setting.epochs,
        setting.rate,
        setting.samples,
        options.test,
    ):
        told.update(part if isinstance(part, bytes) else repr(part).encode())
    for sample in (*setting.training, *setting.judged):
        for values in (sample.inputs, sample.labels, sample.masks):
            for key, value in values.items():
                told.update(key.encode() + np.ascontiguousarray(value).tobytes())
    return f"fieldtune-{told.hexdigest()[:16]}"


class _Search:
    def __init__(
        self,
        setting: Setting,
        space: Space,
        options: Options,
        store: Store,
        workers: Workers,
        out: Path,
        name: str,
    ) -> None:
        self._setting, self._options, self._store, self._workers = setting, options, store, workers
        self._out, self._name = out, name
        self._space, self._goals = space, setting.goals
        self._prices: dict[Candidate, Costs] = {}
        self._given = self._scores(setting.network.model)
        self._most = np.log1p([options.drops[name].value / 100 for name in self._given])
        self._references = {kind: self._space.whole(kind) for kind in options.types}
        self._sensitivities = store.sensitivities() or self._measured()

    def run(self) -> None:
        """Evaluate until there are as many trials as there shall be, or nothing is left."""
        while True:
            done = self._store.trials()
            left = self._options.trials - len(done)
            batch = self._next(done)[:left] if left > 0 else []
            if not batch:
                return
            self._evaluate(batch)
            self._tell()

    def result(self, seen: int, test: Judge | None) -> Result:
        """Return what it came to, after writing the points."""
        trials = self._store.trials()
        allowed = [trial for trial in trials if self._is_allowed(trial)]
        front = sorted(not_dominated(allowed), key=lambda trial: trial.objectives)
        for old in self._out.glob(f"{POINTS}-*.onnx"):
            old.unlink()
        points = []
        for number, trial in enumerate(front, 1):
            tuned, model = (file.read_bytes() for file in self._files(trial.candidate))
            files = f"{POINTS}-{number:02}.onnx", f"{POINTS}-{number:02}.float.onnx"
            for file, data in zip(files, (model, tuned), strict=True):
                write_bytes(self._out / file, data)
            channels = dict(zip(self._space.groups, trial.candidate.channels, strict=True))
            kept = self._space.float_layers(trial.candidate)
            floats = tuple(op.name for op in self._space.graph.ops if op.name in kept and op.constants)
            scores = self._scores(model) if test is None else test.file_scores(model)
            points.append(Point(*files, trial, channels, floats, scores))
        predicted = [(trial.predicted, trial.growth) for trial in trials if trial.predicted is not None]
        by_candidate = {trial.candidate: trial for trial in trials}
        return Result(
            self._goals,
            self._given if test is None else test.file_scores(self._setting.network.model),
            dict(zip(self._space.groups, self._space.levels, strict=True)),
            {kind: by_candidate[each] for kind, each in self._references.items() if each in by_candidate},
            tuple(trials),
            tuple(points),
            self._sensitivities,
            rank_correlation(*zip(*predicted, strict=True)) if predicted else None,
            seen,
        )

    def _next(self, done: Sequence[Trial]) -> list[_Chosen]:
        """Return what to evaluate next: what is drawn, then what is predicted to be good.

        The predictor knows whole batches only. So a search that was stopped in the middle of one goes on as
        if it had not been.
        """
        first, seen = self._options.first, {trial.candidate for trial in done}
        if len(done) < first:
            drawn = [each for each in self._drawn if each not in seen]
            if drawn:
                return [(each, None) for each in drawn[: min(first - len(done), BATCH)]]
        whole = first + max(len(done) - first, 0) // BATCH * BATCH
        for known in sorted({min(whole, len(done)), len(done)}):
            new = [chosen for chosen in self._proposed(done[:known]) if chosen[0] not in seen]
            if new:
                return new
        return []

    @functools.cached_property
    def _drawn(self) -> list[Candidate]:
        """What the search begins with: the whole network in every type, then random candidates."""
        seed, first = self._options.seed, min(self._options.first, self._options.trials)
        found = dict.fromkeys(self._references.values())
        for start in range(0, DRAWS * first, first):
            if len(found) < first:
                numbers = [(seed, number) for number in range(start, start + first)]
                found |= dict.fromkeys(self._workers.map("drawn", numbers))
        return list(found)

    def _proposed(self, known: Sequence[Trial]) -> list[_Chosen]:
        """Return a batch of candidates that are predicted to be good and that keep the limits."""
        if not known:
            return []
        growths = np.stack([self._growths(trial.losses) for trial in known])
        seen = [trial.candidate for trial in known]
        predict = Predictor(self._space, self._sensitivities, seen, growths)
        front = not_dominated([trial for trial in known if self._is_allowed(trial)])
        best = best_predicted(
            self._space,
            predict,
            self._priced,
            self._goals,
            self._most,
            [trial.candidate for trial in front],
            self._options.seed * SEEDS + len(known),
        )
        new = [each for each in best if each not in seen][: PLANNED * BATCH]
        planned = self._workers.map("planned", [(each,) for each in new])
        kept = [each for each, costs in zip(new, planned, strict=True) if self._goals.hold(costs)][:BATCH]
        return [(each, float(predict([each]).max())) for each in kept]

    def _priced(self, candidates: Sequence[Candidate]) -> list[Costs]:
        """Return costs with whole layers, each asked for once."""
        new = [each for each in candidates if each not in self._prices]
        self._prices.update(zip(new, self._workers.map("costs", [(each,) for each in new]), strict=True))
        return [self._prices[each] for each in candidates]

    def _evaluate(self, batch: Sequence[_Chosen]) -> None:
        found = self._workers.map("evaluate", [(candidate,) for candidate, _ in batch])
        for (candidate, predicted), each in zip(
            batch, progress(found, "candidates", len(batch)), strict=True
        ):
            self._write(candidate, each)
            growth = float(self._growths(each.losses).max())
            self._store.add(Trial(candidate, each.costs, each.losses, growth, predicted))

    def _measured(self) -> Sensitivities:
        """Measure what single changes do, and keep it."""
        space = self._space
        layers = space.layers if len(space.types) > 1 else ()
        widths = [(group, count) for group, counts in enumerate(space.levels) for count in counts[1:]]
        say(f"measuring {len(layers)} layers in int8 and {len(widths)} widths of groups, each alone")
        by_layer = self._workers.map("type_losses", [(layer,) for layer in layers])
        types = dict(zip(layers, map(self._grown, by_layer), strict=True))
        by_width = self._workers.map("width_losses", widths)
        found: dict[str, dict[int, Growths]] = {name: {} for name in space.groups}
        for (group, count), losses in zip(widths, progress(by_width, "widths", len(widths)), strict=True):
            found[space.groups[group]][count] = self._grown(losses)
        sensitivities = Sensitivities(len(self._given), types, found)
        self._store.keep_sensitivities(sensitivities)
        return sensitivities

    def _files(self, candidate: Candidate) -> tuple[Path, Path]:
        """Return a candidate's files, in float and quantized, made again where it was evaluated elsewhere."""
        files = self._paths(candidate)
        if not all(file.is_file() for file in files):
            (found,) = self._workers.map("evaluate", [(candidate,)])
            self._write(candidate, found)
        return files

    def _write(self, candidate: Candidate, found: Evaluated) -> None:
        for file, data in zip(self._paths(candidate), (found.tuned, found.model), strict=True):
            write_bytes(file, data)

    def _paths(self, candidate: Candidate) -> tuple[Path, Path]:
        told = hashlib.sha256(f"{self._name} {candidate}".encode()).hexdigest()[:12]
        return self._out / TRIED / f"{told}.float.onnx", self._out / TRIED / f"{told}.onnx"

    def _scores(self, model: bytes) -> dict[str, Score]:
        (found,) = self._workers.map("scores", [(model,)])
        return dict(found)

    def _growths(self, losses: Mapping[str, float]) -> Growths:
        return self._grown([losses[name] for name in self._given])

    def _grown(self, losses: Sequence[float]) -> Growths:
        """Return logarithms relative to the network's as given."""
        given = [score.loss for score in self._given.values()]
        return np.log(np.maximum(losses, LEAST)) - np.log(np.maximum(given, LEAST))

    def _is_allowed(self, trial: Trial) -> bool:
        return self._goals.hold(trial.costs) and bool((self._growths(trial.losses) <= self._most).all())

    def _tell(self) -> None:
        trials = self._store.trials()
        allowed = [trial for trial in trials if self._is_allowed(trial)]
        say(
            f"{len(trials)} of {self._options.trials} candidates, {len(allowed)} within the limits, "
            f"{len(not_dominated(allowed))} of them not bettered by others"
        )
