"""What was evaluated, in an Optuna study: a file, or a data base that several machines share."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend

from fieldtune.errors import UserError
from quantize.prune_costs import METRICS, Costs
from quantize.search_predictor import Growths, Sensitivities
from quantize.search_space import Candidate, Space

SENSITIVITIES = "sensitivities"
PAUSE = 1.0  # seconds


@dataclass(frozen=True)
class Trial:
    """A candidate that was evaluated.

    Args:
        candidate: it.
        costs: of its file, as planned within the limits.
        losses: by output, on the held-out frames.
        growth: of the output that lost most, as the logarithm of its loss over the given network's.
        predicted: the same as it was predicted, None where it was drawn.
    """

    candidate: Candidate
    costs: Costs
    losses: Mapping[str, float]
    growth: float
    predicted: float | None

    @property
    def objectives(self) -> tuple[float, ...]:
        """What should be small."""
        return (self.growth, *map(self.costs.of, METRICS))


class Store:
    """The trials of one search, which other processes may add to."""

    def __init__(self, storage: str, name: str, space: Space) -> None:
        """Open or begin the search of this `name`.

        Args:
            storage: a file, or the URL of a data base as Optuna takes it.
            name: of the study.
            space: of its candidates.

        Raises:
            UserError: the storage cannot be opened.
        """
        self._space = space
        self._genes = {key: CategoricalDistribution(choices) for key, choices in space.genes().items()}
        self._study = _opened(storage, name)

    def trials(self) -> list[Trial]:
        """Return all that were evaluated, in the order in which they came."""
        done = self._study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        found: dict[Candidate, Trial] = {}
        for each in done:  # two machines may have evaluated the same
            attrs = each.user_attrs
            candidate = self._space.candidate(each.params)
            costs = Costs(**attrs["costs"])
            found.setdefault(
                candidate, Trial(candidate, costs, attrs["losses"], each.values[0], attrs["predicted"])
            )
        return list(found.values())

    def add(self, trial: Trial) -> None:
        """Keep what was evaluated."""
        self._study.add_trial(
            optuna.create_trial(
                params=self._space.values(trial.candidate),
                distributions=dict(self._genes),
                values=trial.objectives,
                user_attrs={
                    "costs": asdict(trial.costs),
                    "losses": dict(trial.losses),
                    "predicted": trial.predicted,
                },
            )
        )

    def sensitivities(self) -> Sensitivities | None:
        """Return what was measured before the first trial, if it was."""
        kept: dict[str, Any] | None = self._study.user_attrs.get(SENSITIVITIES)
        if kept is None:
            return None
        widths = {
            group: {int(count): np.array(growths) for count, growths in each.items()}
            for group, each in kept["widths"].items()
        }
        types = {layer: np.array(each) for layer, each in kept["types"].items()}
        return Sensitivities(kept["outputs"], types, widths)

    def keep_sensitivities(self, found: Sensitivities) -> None:
        """Keep what was measured."""
        self._study.set_user_attr(SENSITIVITIES, described(found))


def described(found: Sensitivities) -> dict[str, Any]:
    """Return sensitivities as JSON knows them."""
    widths = {
        group: {str(count): _listed(growths) for count, growths in each.items()}
        for group, each in found.widths.items()
    }
    types = {layer: _listed(each) for layer, each in found.types.items()}
    return {"outputs": found.outputs, "types": types, "widths": widths}


def not_dominated(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other betters in one objective without being worse in another."""
    if not trials:
        return []
    values = np.array([trial.objectives for trial in trials])
    no_worse = (values[:, None] <= values).all(2)
    better = (values[:, None] < values).any(2)
    dominated: NDArray[np.bool_] = np.any(no_worse & better, 0)
    return [trial for trial, is_dominated in zip(trials, dominated, strict=True) if not is_dominated]


def _shown(storage: str) -> str:
    """Return a storage without the name and password that a URL may have."""
    return re.sub(r"//[^/@]*@", "//", storage)


def _listed(growths: Growths) -> list[float]:
    return [float(each) for each in growths]


def _opened(storage: str, name: str) -> optuna.Study:
    """Open or begin a study.

    Of machines that begin at one moment only one can make the tables; the others find them a second later.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with contextlib.suppress(Exception):  # those of data bases and their drivers have no common base
        return _study(storage, name)
    time.sleep(PAUSE)
    try:
        return _study(storage, name)
    except Exception as error:
        raise UserError(
            f"--storage {_shown(storage)} cannot be used: {' '.join(str(error).split())}; give a file of its "
            "own, or the URL of a data base"
        ) from error


def _study(storage: str, name: str) -> optuna.Study:
    return optuna.create_study(
        storage=_storage(storage),
        study_name=name,
        directions=["minimize"] * (1 + len(METRICS)),
        load_if_exists=True,
    )


def _storage(storage: str) -> BaseStorage:
    if "://" in storage:
        return get_storage(storage)
    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(storage))
