"""Labels without a sensor: what a network says of several views of an image, where these agree.

A view is the image mirrored, darker or brighter. What is predicted of it is turned back; the mean over the
views is the label, and how little they differ is its confidence. It is the consensus of paths that end in one
quantity (Leordeanu et al. 2021, arXiv 2010.01086), with views in the place of networks: what all of them get
wrong in the same way, such as the scale of depth, goes unnoticed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError, ModelError
from zoo.task import OutputSpec

Predict = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.floating]]]
"""From an image of the network's size, uint8 (height, width, 3), to outputs (height, width, channels)."""


@dataclass(frozen=True)
class View:
    """A way to look at an image: left and right exchanged, and each pixel times `gain`."""

    mirrored: bool = False
    gain: float = 1.0

    def of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the image as this view shows it, uint8 (height, width, 3)."""
        shown = np.clip(np.rint(image * np.float64(self.gain)), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(shown[:, ::-1]) if self.mirrored else shown

    def back(self, prediction: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return what is predicted of the view, (height, width, channels), as the image lies."""
        return prediction[:, ::-1] if self.mirrored else prediction


VIEWS = (View(), View(mirrored=True), View(gain=0.8), View(mirrored=True, gain=1.25))


def predictions(
    predict: Predict, image: NDArray[np.uint8], views: Sequence[View] = VIEWS
) -> dict[str, NDArray[np.float64]]:
    """Return each output for all views, turned back to lie as the image: (views, height, width, channels)."""
    seen = [(view, predict(view.of(image))) for view in views]
    return {
        name: np.stack([view.back(outputs[name]) for view, outputs in seen]).astype(np.float64)
        for name in seen[0][1]
    }


def consensus(
    views: NDArray[np.floating], spec: OutputSpec, most_spread: float = 0.1
) -> tuple[NDArray[np.float32] | NDArray[np.int32], NDArray[np.uint8]]:
    """Return label and mask of one output, as :func:`zoo.prepare.label` does, from what the views say of it.

    Depth and disparity are known where the largest and the smallest value differ by at most `most_spread` of
    the mean; segmentation and class where all views have the same class first.

    Args:
        views: the output for each view, (views, height, width, channels), turned back. None of a mirrored one
            where a class means left or right.
        spec: what the output means.
        most_spread: above 0; of depth and disparity.

    Raises:
        DataError: there are fewer than two views, which always agree.
        ModelError: the output is of kind "value": what becomes of it in a mirror is not known.
    """
    if len(views) < 2:
        raise DataError(f"agreement takes two views or more, not {len(views)}")
    if spec.kind == "value":
        raise ModelError(f'output {spec.name} is of kind "value"; what a mirror does to it is not known')
    if spec.kind in ("segmentation", "class"):
        found = views.argmax(-1)[..., None]
        agreed = (found == found[0]).all(0)
        return np.where(agreed, found[0], 0).astype(np.int32), agreed.astype(np.uint8)
    mean = views.mean(0)
    # A comparison with NaN is false: a network that has diverged labels nothing.
    agreed = (mean > 0) & (np.ptp(views, 0) <= most_spread * mean)
    return np.where(agreed, mean, 0).astype(np.float32), agreed.astype(np.uint8)
