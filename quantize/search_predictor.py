"""Predicts how much the losses of a candidate grow, from those that were evaluated.

Ridge regression of the logarithm of each output's loss, relative to the network as given, as in the LINAS
loop of SimQ-NAS (arXiv 2312.13301). Besides one number for each gene there are two sums for each output: what
its loss grew by when each of these layers alone was int8, and each of these groups alone was narrowed. They
are penalized less, so that few evaluations do: at first the prediction is their weighted sum. All numbers are
0 for the network as given in float, and its prediction is what was measured of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.search_space import Candidate, Space

Growths = NDArray[np.float64]
"""Logarithms of losses relative to the network's as given, by output."""

TRUST = 4.0  # the two sums count as if they varied so much more than the genes
PENALTIES = np.logspace(-3, 4, 29)


@dataclass(frozen=True)
class Sensitivities:
    """What single changes do to the losses, without training.

    Args:
        outputs: how many outputs have losses.
        types: by layer, when it alone is int8.
        widths: by group and number of channels, when that alone is left of it.
    """

    outputs: int
    types: Mapping[str, Growths]
    widths: Mapping[str, Mapping[int, Growths]]

    def sums(self, space: Space, candidate: Candidate) -> NDArray[np.float64]:
        """Return what a candidate's int8 layers, and its narrowed groups, come to: (2, outputs)."""
        types, widths = np.zeros(self.outputs), np.zeros(self.outputs)
        for layer, is_float in zip(space.layers, candidate.floats, strict=True):
            if not is_float and layer in self.types:
                types = types + self.types[layer]
        for group, count in zip(space.groups, candidate.channels, strict=True):
            if count in self.widths[group]:
                widths = widths + self.widths[group][count]
        return np.stack([types, widths])


class Predictor:
    """Fitted to what was evaluated."""

    def __init__(
        self, space: Space, sensitivities: Sensitivities, seen: Sequence[Candidate], growths: Growths
    ) -> None:
        """Fit.

        Args:
            space: of the candidates.
            sensitivities: of what they are made of.
            seen: candidates that were evaluated, one or more.
            growths: theirs, (candidates, outputs).
        """
        self._space, self._sensitivities = space, sensitivities
        bases = dict(zip(seen, growths, strict=True))
        self._base = bases.get(space.reference, np.zeros(growths.shape[1]))
        self._models = [
            _Ridge(
                np.stack([self._features(each, output) for each in seen]),
                growths[:, output] - self._base[output],
            )
            for output in range(growths.shape[1])
        ]

    def __call__(self, candidates: Sequence[Candidate]) -> Growths:
        """Return the growths of candidates, (candidates, outputs)."""
        added = [
            model.predict(np.stack([self._features(each, output) for each in candidates]))
            for output, model in enumerate(self._models)
        ]
        found: Growths = self._base + np.stack(added, 1)
        return found

    def _features(self, candidate: Candidate, output: int) -> NDArray[np.float64]:
        sums = self._sensitivities.sums(self._space, candidate)[:, output]
        return np.concatenate([self._space.features(candidate), sums])


class _Ridge:
    """Ridge regression through 0 on scaled features; leaving one out chooses the penalty.

    The last two features are the sums.
    """

    def __init__(self, features: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        size = np.sqrt(np.square(features).mean(0))
        weight = np.ones(features.shape[1])
        weight[-2:] = TRUST
        self._scale = np.where(size > 1e-9, weight / np.maximum(size, 1e-9), 0.0)
        u, s, vt = np.linalg.svd(features * self._scale, full_matrices=False)
        projected = u.T @ targets
        best = np.inf
        for penalty in PENALTIES:
            shrunk = s**2 / (s**2 + penalty)
            leverage = (u**2) @ shrunk
            residuals = (targets - u @ (shrunk * projected)) / np.maximum(1 - leverage, 1e-9)
            error = float(np.square(residuals).mean())
            if error < best:
                best = error
                self._weights = vt.T @ (s / (s**2 + penalty) * projected)

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = features * self._scale @ self._weights
        return found


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; None of fewer than 3 pairs, or where one never varies.

    Values that are equal share the mean of their ranks.
    """
    ranks = [_ranks(np.asarray(each, np.float64)) for each in (a, b)]
    if len(a) < 3 or any(each.std() == 0 for each in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    below = (values[:, None] > values).sum(1)
    level = (values[:, None] == values).sum(1)
    found: NDArray[np.float64] = below + (level - 1) / 2
    return found
