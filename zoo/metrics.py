"""How good predictions are, and baselines that need no network.

Metrics are pooled over all known pixels of all frames, unless a function says otherwise: a frame counts by
what is known of it. Most published figures of depth are means over images (:func:`depth_metrics_per_image`).
A pixel counts wherever its truth is known, whatever was predicted there: leaving out pixels without a
prediction flatters a network that predicts nothing where it is hard.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError
from zoo.task import OutputSpec

Maps = NDArray[np.floating] | Sequence[NDArray[np.floating]]

_DELTA = 1.25
# Keeps truth / prediction finite where a depth network predicts 0 or less; no sensor measures so near.
_SMALLEST_DEPTH_M = 1e-3


@dataclass(frozen=True)
class DepthMetrics:
    """Errors of predicted depth p over `pixels` pixels of known depth t, as defined by Eigen et al. 2014.

    Args:
        rmse: root of the mean of (p - t)^2, in metres.
        abs_rel: mean of abs(p - t) / t.
        delta1: share of the pixels with max(p / t, t / p) < 1.25.
        sq_rel: mean of (p - t)^2 / t, in metres.
        rmse_log: root of the mean of (ln p - ln t)^2.
        delta2: as `delta1`, below 1.25^2.
        delta3: as `delta1`, below 1.25^3.
        pixels: how many pixels are known.
    """

    rmse: float
    abs_rel: float
    delta1: float
    sq_rel: float
    rmse_log: float
    delta2: float
    delta3: float
    pixels: int


@dataclass(frozen=True)
class ClassMetrics:
    """Share of pixels (or frames) that are right, and the mean over classes of intersection over union.

    Classes that neither the truth nor a prediction has in any of the frames are left out of that mean.
    """

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

    Predictions must be above 0, as :func:`to_depth` makes them.

    Raises:
        DataError: the shapes differ, or no pixel of `truth` is known.
    """
    p, t = _known(predicted, truth)
    ratio = np.maximum(p / t, t / p)
    return DepthMetrics(
        rmse=float(np.sqrt(np.mean((p - t) ** 2))),
        abs_rel=float(np.mean(np.abs(p - t) / t)),
        delta1=float(np.mean(ratio < _DELTA)),
        sq_rel=float(np.mean((p - t) ** 2 / t)),
        rmse_log=float(np.sqrt(np.mean(np.log(p / t) ** 2))),
        delta2=float(np.mean(ratio < _DELTA**2)),
        delta3=float(np.mean(ratio < _DELTA**3)),
        pixels=t.size,
    )


def depth_metrics_per_image(predicted: Maps, truth: Maps) -> DepthMetrics:
    """Return the means over images of what :func:`depth_metrics` says of each; `pixels` is that of all.

    This is how monodepth2 and most publications average. Images without a known pixel are left out;
    predictions are taken as they are, not scaled by the ratio of the medians.

    Raises:
        DataError: the shapes differ, or no pixel of `truth` is known.
    """
    _known(predicted, truth)
    pairs = zip(np.asarray(predicted), np.asarray(truth), strict=True)
    images = [asdict(depth_metrics(p, t)) for p, t in pairs if (t > 0).any()]
    pixels = sum(image.pop("pixels") for image in images)
    means = {name: float(np.mean([image[name] for image in images])) for name in images[0]}
    return DepthMetrics(**means, pixels=pixels)


def delta_mtl(multi: Sequence[float], single: Sequence[float], lower_is_better: Sequence[bool]) -> float:
    """Return by how many per cent a multi-task network is better than its single-task twins, mean over tasks.

    Vandenhende et al. 2021 (arXiv 2004.13379): the relative difference of one metric a task, with its sign
    turned where lower is better; below 0 the twins are better.

    Args:
        multi: the multi-task network's metric in each task.
        single: that of the single-task network with the same backbone.
        lower_is_better: whether a metric is an error.

    Raises:
        DataError: the numbers of tasks differ, there is none, or a twin's metric is 0 or not finite.
    """
    if not len(multi) == len(single) == len(lower_is_better) > 0:
        raise DataError(
            f"a metric of each task is needed: {len(multi)} of the multi-task network, {len(single)} of the "
            f"single-task ones and {len(lower_is_better)} directions do not agree"
        )
    m, s = np.asarray(multi, np.float64), np.asarray(single, np.float64)
    if not np.isfinite(s).all() or (s == 0).any():
        raise DataError(
            f"single-task metrics must be finite and not 0 to compare with, but are {list(single)}"
        )
    return float(100 * np.mean(np.where(lower_is_better, s - m, m - s) / s))


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
