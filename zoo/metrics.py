"""How good predictions are, pooled over all known pixels of all frames, and baselines that need no network.

Pooled means that a frame counts by what is known of it. Averaging over images instead, or dropping pixels
without a prediction, flatters a network that predicts nothing where it is hard.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError
from zoo.task import OutputSpec

Maps = NDArray[np.floating] | Sequence[NDArray[np.floating]]

_DELTA1 = 1.25
# Keeps truth / prediction finite where a depth network predicts 0 or less; no sensor measures so near.
_SMALLEST_DEPTH_M = 1e-3


@dataclass(frozen=True)
class DepthMetrics:
    """Errors over `pixels` known pixels: RMSE [m], mean of abs(p - t) / t, share of max(p/t, t/p) < 1.25."""

    rmse: float
    abs_rel: float
    delta1: float
    pixels: int


@dataclass(frozen=True)
class ClassMetrics:
    """Share of pixels (or frames) that are right; intersection over union, mean over classes that occur."""

    accuracy: float
    miou: float
    pixels: int


def to_depth(prediction: NDArray[np.floating], spec: OutputSpec) -> NDArray[np.float32]:
    """Return an output of kind depth or disparity as depth in metres, same shape, at most `spec.max_depth`.

    Disparity 0 or less, "nothing seen", becomes `max_depth`; NaN stays NaN, so that a network that has
    diverged shows in every metric.

    Raises:
        DataError: the output is of another kind.
    """
    if spec.max_depth is None:
        raise DataError(f'output {spec.name} is of kind "{spec.kind}", which has no depth')
    values = np.asarray(prediction, np.float64)
    if spec.fb is not None:
        return (spec.fb / np.maximum(values, spec.fb / spec.max_depth)).astype(np.float32)
    return np.clip(values, _SMALLEST_DEPTH_M, spec.max_depth).astype(np.float32)


def depth_metrics(predicted: Maps, truth: Maps) -> DepthMetrics:
    """Compare predicted with true depth, both in metres and of one shape, over all pixels with truth > 0.

    Raises:
        DataError: the shapes differ, or no pixel of `truth` is known.
    """
    p, t = _known(predicted, truth)
    ratio = np.maximum(p / t, t / p)
    return DepthMetrics(
        rmse=float(np.sqrt(np.mean((p - t) ** 2))),
        abs_rel=float(np.mean(np.abs(p - t) / t)),
        delta1=float(np.mean(ratio < _DELTA1)),
        pixels=t.size,
    )


def mean_map(truths: Maps) -> NDArray[np.float32]:
    """Return the baseline that looks at no image: each pixel's mean depth [m] over the frames that know it.

    A pixel that no frame knows gets the mean over all known pixels.

    Raises:
        DataError: no pixel of any frame is known.
    """
    stack = np.asarray(truths, np.float64)
    known = stack > 0
    if not known.any():
        raise DataError("no frame has a known depth; a mean map needs some")
    count = known.sum(0)
    total = np.where(known, stack, 0).sum(0)
    mean: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), stack[known].mean())
    return mean.astype(np.float32)


def scale_factor(predicted: Maps, truth: Maps) -> float:
    """Return the baseline that learns one number: the median of truth / prediction over known pixels.

    Found on the training frames; ``predicted * scale_factor`` on the test frames shows how much of an
    improvement is a mere change of scale.

    Raises:
        DataError: the shapes differ, or no pixel of `truth` is known.
    """
    p, t = _known(predicted, truth)
    return float(np.median(t / p))


def class_metrics(
    predicted: NDArray[np.integer], truth: NDArray[np.integer], mask: NDArray[np.uint8]
) -> ClassMetrics:
    """Compare class indices of the same shape where `mask` is not 0.

    Raises:
        DataError: the shapes differ, or the mask is 0 everywhere.
    """
    if not predicted.shape == truth.shape == mask.shape:
        raise DataError(
            f"predicted {predicted.shape}, truth {truth.shape} and mask {mask.shape} must agree in shape"
        )
    p, t = predicted[mask != 0], truth[mask != 0]
    if t.size == 0:
        raise DataError("no pixel has a known class; there is nothing to compare with")
    ious = [
        np.count_nonzero((p == index) & (t == index)) / np.count_nonzero((p == index) | (t == index))
        for index in np.union1d(p, t)
    ]
    return ClassMetrics(accuracy=float(np.mean(p == t)), miou=float(np.mean(ious)), pixels=t.size)


def _known(predicted: Maps, truth: Maps) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p, t = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if p.shape != t.shape:
        raise DataError(f"predicted depth has the shape {p.shape}, true depth {t.shape}; they must agree")
    if not (t > 0).any():
        raise DataError("no frame has a known depth; there is nothing to compare with")
    return p[t > 0], t[t > 0]
