"""From a frame to what the board gets: the network's input, its label and the mask of what counts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError, ModelError
from zoo.frames import UNKNOWN_CLASS, Frame
from zoo.task import CROPS, OutputSpec
from zoo.tof import TofFrame, TofGeometry, project_zones, valid_zones

NEAREST_M = 0.05
"""Disparity labels take nothing as nearer than this: fb / depth must not explode on a few millimetres."""

_KNOWN_SHARE = 0.5

Target = NDArray[np.float32] | NDArray[np.int32]


def network_input(frame: Frame, height: int, width: int) -> NDArray[np.uint8]:
    """Return the frame at the network's size, uint8 (height, width, 3).

    Each output pixel is the exact mean over its area of the frame, whatever the ratio of the sizes (the whole
    frame is taken, stretched where the aspect ratios differ), rounded to nearest, halves to even.
    """
    total = _area_sums(frame.rgb.astype(np.float64), height, width)
    return np.rint(total / _area(frame.rgb)).astype(np.uint8)


def true_depth(frame: Frame, height: int, width: int) -> NDArray[np.float32]:
    """Return the true depth in metres at the network's size, float32 (height, width), 0 = unknown.

    A pixel is the mean over the known part of its area, and known where that is at least half of it or, of
    sparse depth, where there is any.

    Raises:
        DataError: the frame brings no depth.
    """
    if frame.depth is None:
        raise DataError(
            f'{frame.name} has no true depth; use frames with depth, or labels = "tof" in the task'
        )
    known = _area_sums((frame.depth > 0).astype(np.float64), height, width)
    total = _area_sums(np.maximum(frame.depth, 0).astype(np.float64), height, width)
    enough = known > 0 if frame.sparse_depth else known >= _KNOWN_SHARE * _area(frame.depth)
    return np.where(enough, total / np.maximum(known, 1), 0).astype(np.float32)


def measured_depth(
    frame: Frame, height: int, width: int, geometry: TofGeometry, crop: str | None = None
) -> NDArray[np.float32]:
    """Return what predictions of a frame are judged by: its true depth, else what its ToF zones saw.

    float32 (height, width) in metres, 0 = unknown, as is true depth outside of `crop` (`zoo.task.CROPS`).

    Raises:
        DataError: the frame has neither.
    """
    if frame.depth is not None:
        inside = frame if crop is None else replace(frame, depth=_cropped(frame.depth, crop))
        return true_depth(inside, height, width)
    tof = _tof(frame)
    depth, _ = project_zones(tof.distance_mm / 1000, valid_zones(tof, geometry), geometry, height, width)
    return depth


def _cropped(depth: NDArray[np.float32], crop: str) -> NDArray[np.float32]:
    top, bottom, left, right = CROPS[crop]
    (height, width), kept = depth.shape, np.zeros_like(depth)
    inside = slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))
    kept[inside] = depth[inside]
    return kept


def label(
    frame: Frame, spec: OutputSpec, shape: tuple[int, ...], geometry: TofGeometry
) -> tuple[Target, NDArray[np.uint8]] | None:
    """Return an output's label and mask for one frame, or None where nothing is known.

    Args:
        frame: gives the ToF reading or the truth.
        spec: what the output means.
        shape: the output's (height, width, channels).
        geometry: how the ToF zones lie in the frame.

    Returns:
        Label and mask uint8 (1 = counts, 0 = ignored), both HWC. Depth, disparity and value: float32 in the
        network's own unit with the output's shape. Segmentation and class: int32 index (height, width, 1).
        Labels are 0 where the mask is 0.

    Raises:
        DataError: the frame lacks what the label is made from, or has a class that the output has not.
        ModelError: the output's shape does not suit its kind.
    """
    if spec.kind in ("depth", "disparity"):
        target, known = _depth_label(frame, spec, shape, geometry)
    elif spec.kind == "segmentation":
        target, known = _class_map(frame, shape)
    elif spec.kind == "class":
        target, known = _class_index(frame, shape)
    else:
        target, known = _values(frame, shape)
    if not known.any():
        return None
    return np.where(known, target, 0), known.astype(np.uint8)


def brings(frame: Frame, spec: OutputSpec) -> bool:
    """Tell whether the frame has what an output's label is made from, be it known or not."""
    if spec.kind in ("depth", "disparity"):
        return (frame.tof if spec.labels == "tof" else frame.depth) is not None
    return (frame.classes if spec.kind == "segmentation" else frame.target) is not None


def labels(
    frame: Frame,
    outputs: Sequence[OutputSpec],
    shapes: Mapping[str, tuple[int, ...]],
    geometry: TofGeometry,
) -> dict[str, tuple[Target, NDArray[np.uint8]] | None]:
    """Return what :func:`label` does for each of several outputs; None also for one that a frame lacks.

    Data sets differ in what they bring: an output without labels learns nothing from such a frame, and the
    others do.

    Args:
        frame: gives the ToF reading or the truth.
        outputs: what each means.
        shapes: of the outputs, (height, width, channels), by name.
        geometry: how the ToF zones lie in the frame.

    Raises:
        DataError: the frame lacks what every one of the labels is made from.
    """
    # With none, `label` says what is missing.
    made = [spec for spec in outputs if brings(frame, spec)] or outputs[:1]
    return {
        spec.name: label(frame, spec, shapes[spec.name], geometry) if spec in made else None
        for spec in outputs
    }


def from_depth(depth: NDArray[np.floating], spec: OutputSpec) -> NDArray[np.float64]:
    """Return depth [m] in the output's unit: itself, or fb / depth with depth taken as at least 5 cm."""
    metres = depth.astype(np.float64)
    return metres if spec.fb is None else spec.fb / np.maximum(metres, NEAREST_M)


def _depth_label(
    frame: Frame, spec: OutputSpec, shape: tuple[int, ...], geometry: TofGeometry
) -> tuple[Target, NDArray[np.bool_]]:
    height, width, channels = shape
    if channels != 1:
        raise ModelError(f'output {spec.name} has {channels} channels; kind = "{spec.kind}" means one')
    if spec.labels == "tof":
        tof = _tof(frame)
        # Converted before it is interpolated: a network that learns disparity is linear in disparity.
        zones = from_depth(tof.distance_mm / 1000, spec)
        target, known = project_zones(zones, valid_zones(tof, geometry), geometry, height, width)
    else:
        depth = true_depth(frame, height, width)
        known = depth > 0
        target = from_depth(depth, spec).astype(np.float32)
    return target[..., None], known[..., None]


def _class_map(frame: Frame, shape: tuple[int, ...]) -> tuple[Target, NDArray[np.bool_]]:
    """Return the class with the largest area in each pixel; known where half of the area is."""
    height, width, channels = shape
    if frame.classes is None:
        raise DataError(f"{frame.name} has no classes; segmentation needs frames with a class for each pixel")
    present = [int(index) for index in np.unique(frame.classes) if index != UNKNOWN_CLASS]
    if not present:
        return np.zeros((height, width, 1), np.int32), np.zeros((height, width, 1), np.bool_)
    if present[-1] >= channels:
        raise DataError(
            f"{frame.name} has class {present[-1]}, but the network tells only {channels} classes apart"
        )
    areas = np.stack([_area_sums((frame.classes == c).astype(np.float64), height, width) for c in present])
    known = areas.sum(0) >= _KNOWN_SHARE * _area(frame.classes)
    target = np.array(present, np.int32)[areas.argmax(0)]
    return target[..., None], known[..., None]


def _class_index(frame: Frame, shape: tuple[int, ...]) -> tuple[Target, NDArray[np.bool_]]:
    target = _target(frame, 1)
    if np.isnan(target[0]):
        return np.zeros((1, 1, 1), np.int32), np.zeros((1, 1, 1), np.bool_)
    if target[0] not in range(shape[-1]):
        raise DataError(
            f"{frame.name} has class {target[0]:g}, but the network tells only {shape[-1]} classes apart"
        )
    return target.astype(np.int32).reshape(1, 1, 1), np.ones((1, 1, 1), np.bool_)


def _values(frame: Frame, shape: tuple[int, ...]) -> tuple[Target, NDArray[np.bool_]]:
    target = _target(frame, int(np.prod(shape))).reshape(shape)
    return target, ~np.isnan(target)


def _target(frame: Frame, size: int) -> NDArray[np.float32]:
    """Return the frame's `target`; NaN in it means unknown."""
    if frame.target is None:
        raise DataError(f"{frame.name} has no target; give the array 'target' with {size} number(s) a frame")
    if frame.target.size != size:
        raise DataError(
            f"{frame.name} has a target of {frame.target.size} numbers, but the network has {size}"
        )
    return frame.target


def _tof(frame: Frame) -> TofFrame:
    if frame.tof is None:
        raise DataError(
            f'{frame.name} has no ToF reading; use frames with one, or labels = "truth" in the task'
        )
    return frame.tof


def _area(image: NDArray[np.generic]) -> int:
    """Return what the weights of :func:`_area_sums` add up to at each output pixel."""
    height, width = image.shape[:2]
    return int(height * width)


def _area_sums(image: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Return sums over each output pixel's area of an image (H, W) or (H, W, C), in integer area units.

    With whole numbers in `image` every sum is exact in float64, so a mean that is a tie is seen as one.
    """
    rows, columns = _overlaps(image.shape[0], height), _overlaps(image.shape[1], width)
    narrow = np.tensordot(rows, image, axes=(1, 0))
    sums: NDArray[np.float64] = np.moveaxis(np.tensordot(narrow, columns, axes=(1, 1)), -1, 1)
    return sums


@lru_cache(maxsize=32)
def _overlaps(source: int, target: int) -> NDArray[np.float64]:
    """Return how much of each source cell lies in each target cell: (target, source), rows add to `source`.

    The unit is 1 / (source * target) of the image's side, in which all overlaps are whole numbers.
    """
    upper = np.minimum((np.arange(target)[:, None] + 1) * source, (np.arange(source) + 1) * target)
    lower = np.maximum(np.arange(target)[:, None] * source, np.arange(source) * target)
    overlaps: NDArray[np.float64] = np.maximum(upper - lower, 0).astype(np.float64)
    overlaps.setflags(write=False)
    return overlaps
