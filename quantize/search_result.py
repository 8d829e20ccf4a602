"""What a search came to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from quantize.prune_goals import Goals
from quantize.search_predictor import Sensitivities
from quantize.search_store import Trial, described
from quantize.task_scores import Score


@dataclass(frozen=True)
class Point:
    """A network that no other betters: its trial, and its scores on the test frames, if any.

    `float_file` is the network before quantization, `file` after it.
    """

    file: str
    float_file: str
    trial: Trial
    channels: Mapping[str, int]
    float_layers: tuple[str, ...]
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Result:
    """What a search came to.

    Args:
        goals: the limits.
        given: the scores of the network as given, in float, on the frames that the points are judged by.
        widths: by group the channels that may stay, all of them first.
        references: the network as given all in int8, all in float, as far as they were allowed.
        trials: all that was evaluated, in order.
        points: what keeps the limits and the drops and is not bettered, from the least loss on.
        sensitivities: of single changes.
        correlation: of predicted and measured losses over the candidates that were predicted, by rank.
        seen: how many candidates the storage had at the beginning.
    """

    goals: Goals
    given: Mapping[str, Score]
    widths: Mapping[str, tuple[int, ...]]
    references: Mapping[str, Trial]
    trials: tuple[Trial, ...]
    points: tuple[Point, ...]
    sensitivities: Sensitivities
    correlation: float | None
    seen: int

    def describe(self) -> dict[str, Any]:
        """Return what --json prints and the report is drawn from; the keys are stable."""
        ends = {id(point.trial) for point in self.points}
        return {
            "goals": dict(self.goals.limits),
            "given": {name: asdict(score) for name, score in self.given.items()},
            "widths": {name: list(counts) for name, counts in self.widths.items()},
            "references": {name: _described(trial) for name, trial in self.references.items()},
            "points": [
                {
                    "file": point.file,
                    "float_file": point.float_file,
                    **_described(point.trial),
                    "scores": {name: asdict(score) for name, score in point.scores.items()},
                    "channels": dict(point.channels),
                    "float_layers": list(point.float_layers),
                }
                for point in self.points
            ],
            "trials": [{**_described(trial), "point": id(trial) in ends} for trial in self.trials],
            "seen": self.seen,
            "predicted": sum(trial.predicted is not None for trial in self.trials),
            "rank_correlation": self.correlation,
            "sensitivities": described(self.sensitivities),
        }


def _described(trial: Trial) -> dict[str, Any]:
    return {
        "worst": math.exp(trial.growth),
        "losses": dict(trial.losses),
        "costs": asdict(trial.costs),
        "predicted": None if trial.predicted is None else math.exp(trial.predicted),
    }
