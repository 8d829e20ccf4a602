"""NSGA-II over predicted losses and the planner's costs: which candidates are worth an evaluation.

Costs are exact but for one thing: RAM is that of whole layers, where the planner may do with less in bands of
rows. So the limit of RAM is no constraint here; whether it is kept is asked of the few that go on from here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from quantize.prune_costs import BANDED, METRICS, Costs
from quantize.prune_goals import Goals
from quantize.search_predictor import Growths
from quantize.search_space import Candidate, Space

POPULATION = 48
GENERATIONS = 20

Predict = Callable[[Sequence[Candidate]], Growths]
Price = Callable[[Sequence[Candidate]], Sequence[Costs]]


def best_predicted(
    space: Space,
    predict: Predict,
    price: Price,
    goals: Goals,
    most: NDArray[np.float64],
    start: Sequence[Candidate],
    seed: int,
) -> list[Candidate]:
    """Return candidates of which none is predicted to be dominated, those first that differ most.

    Args:
        space: of the candidates.
        predict: gives the growths of their losses.
        price: gives what they take with whole layers.
        goals: limits, which hold for all that is returned, but for that of RAM.
        most: how much each output's loss may grow, as a logarithm.
        start: of the first generation.
        seed: of the draws.
    """
    sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    study = optuna.create_study(directions=["minimize"] * (1 + len(METRICS)), sampler=sampler)
    genes = {name: CategoricalDistribution(choices) for name, choices in space.genes().items()}
    for candidate in start[:POPULATION]:
        study.enqueue_trial(space.values(candidate))
    found: dict[Candidate, tuple[tuple[float, ...], float]] = {}
    for _ in range(GENERATIONS):
        trials = [study.ask(dict(genes)) for _ in range(POPULATION)]
        candidates = [space.candidate(trial.params) for trial in trials]
        new = [each for each in dict.fromkeys(candidates) if each not in found]
        if new:
            for each, growths, costs in zip(new, predict(new), price(new), strict=True):
                objectives = (float(growths.max()), *map(costs.of, METRICS))
                found[each] = objectives, _excess(growths, costs, goals, most)
        for trial, candidate in zip(trials, candidates, strict=True):
            objectives, excess = found[candidate]
            trial.set_constraint("limits", excess)
            study.tell(trial, objectives)
    front = dict.fromkeys(space.candidate(trial.params) for trial in study.best_trials)
    within = [each for each in front if found[each][1] <= 0]
    return _spread(within, np.array([found[each][0] for each in within]))


def _excess(growths: Growths, costs: Costs, goals: Goals, most: NDArray[np.float64]) -> float:
    """Return by how much a candidate is above limits, the sum of shares."""
    beyond = goals.excess(costs)
    rest = [share for metric, share in beyond.items() if metric not in BANDED]
    return sum(rest) + float(np.maximum(growths - most, 0).sum())


def _spread(candidates: Sequence[Candidate], objectives: NDArray[np.float64]) -> list[Candidate]:
    """Return candidates from the one that loses least on, each the farthest from all before it."""
    if not candidates:
        return []
    places = np.concatenate([objectives[:, :1], np.log(np.maximum(objectives[:, 1:], 1.0))], 1)
    places /= np.maximum(np.ptp(places, axis=0), 1e-9)
    order = [int(places[:, 0].argmin())]
    distances = np.full(len(candidates), np.inf)
    for _ in range(len(candidates) - 1):
        distances = np.minimum(distances, np.square(places - places[order[-1]]).sum(1))
        distances[order] = -1.0
        order.append(int(distances.argmax()))
    return [candidates[k] for k in order]
