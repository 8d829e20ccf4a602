"""Least squares of relative errors, and how far off a fit is on what it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
T = TypeVar("T")


def fit(features: Sequence[Sequence[float]], targets: Sequence[float]) -> Vector:
    """Return coefficients >= 0 for which features @ coefficients is near the targets, relatively.

    A coefficient that would be negative is left out, one after the other: more work may not cost less time.
    features: (rows, coefficients).
    """
    rows = np.asarray(features, np.float64) / np.asarray(targets, np.float64)[:, None]
    kept = list(range(rows.shape[1]))
    while True:
        found = np.linalg.lstsq(rows[:, kept], np.ones(len(rows)), rcond=None)[0]
        if found.min() >= 0:
            break
        del kept[int(found.argmin())]
    coefficients = np.zeros(rows.shape[1])
    coefficients[kept] = found
    return coefficients


def left_out(
    rows: Sequence[T],
    features: Callable[[T], Sequence[float]],
    target: Callable[[T], float],
    group: Callable[[T], Hashable] | None = None,
) -> list[float]:
    """Return what a fit on the other rows says of each row.

    With `group`, all rows of the same group are left out together.
    """
    key = group or id
    said = []
    for row in rows:
        rest = [other for other in rows if key(other) != key(row)]
        coefficients = fit([features(other) for other in rest], [target(other) for other in rest])
        said.append(float(coefficients @ np.asarray(features(row))))
    return said


def relative_errors(said: Sequence[float], targets: Sequence[float]) -> list[float]:
    """Return said / target - 1 of each."""
    return [value / target - 1 for value, target in zip(said, targets, strict=True)]


def worst(errors: Sequence[float]) -> float:
    """Return the largest error without its sign."""
    return max(abs(error) for error in errors)
