"""Frames in memory as the network sees them, with all labels of a task."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldtune.console import progress
from zoo import scenes
from zoo.frames import Frames
from zoo.prepare import NEAREST_M, label, network_input
from zoo.task import OutputSpec, Task

FRAMES_PER_SCENE = 10
STRIDE = 7  # frames along the path from one pool frame to the next: neighbours teach the same

_CHANNELS = {"segmentation": len(scenes.CLASSES), "class": len(scenes.STEERING)}


@dataclass(frozen=True, eq=False)
class Batch:
    """What torch gets of n frames.

    Args:
        inputs: by name, in the order in which the network takes them, (n, c, h, w).
        labels: for each output that learns, (n, c, h, w); class indices are (n, 1, h, w).
        masks: in the labels' shapes, 0 = unknown.
    """

    inputs: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]


class Samples(Protocol):
    """Frames to train on."""

    def __len__(self) -> int:
        """Return how many there are."""

    def batch(self, numbers: NDArray[np.intp]) -> Batch:
        """Return those with these numbers."""


@dataclass(frozen=True, eq=False)
class Pool:
    """:class:`Samples` with one image each, in 8 bits: so many frames with the labels of a task's outputs.

    Args:
        images: uint8 (n, side, side, 3).
        labels: for each output, (n, 1, side, side), or (n, 1, 1, 1) for what is said of a whole frame.
        masks: in the labels' shapes, 0 = unknown.
    """

    images: NDArray[np.uint8]
    labels: Mapping[str, NDArray[Any]]
    masks: Mapping[str, NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, numbers: NDArray[np.intp]) -> Batch:
        """Return the frames with these numbers, images (n, 3, side, side) in [0, 1]."""
        return Batch(
            {"image": torch.from_numpy(self.images[numbers]).permute(0, 3, 1, 2).float() / 255},
            {name: torch.from_numpy(values[numbers]) for name, values in self.labels.items()},
            {name: torch.from_numpy(mask[numbers]) for name, mask in self.masks.items()},
        )


def pool(frames: Frames, task: Task, side: int) -> Pool:
    """Return frames at `side` x `side` pixels, labelled from their truth, also where the task says "tof".

    What a frame does not tell is masked.

    Raises:
        DataError: a frame lacks what a label is made from.
    """
    known = {spec.name: _labels(frames, replace(spec, labels="truth"), side) for spec in task.outputs}
    return Pool(
        images=np.stack([network_input(frame, side, side) for frame in frames]),
        labels={name: values for name, (values, _) in known.items()},
        masks={name: mask for name, (_, mask) in known.items()},
    )


def _labels(frames: Frames, spec: OutputSpec, side: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    if spec.fb is not None:
        # In single precision, by reciprocals: so the weights that we ship were trained.
        metres, known = _labels(frames, replace(spec, kind="depth", fb=None), side)
        return np.float32(spec.fb) * np.reciprocal(np.maximum(metres, np.float32(NEAREST_M))) * known, known
    height = width = 1 if spec.kind == "class" else side
    shape = (height, width, _CHANNELS.get(spec.kind, 1))
    nothing = (np.zeros((height, width, 1), np.float32), np.zeros((height, width, 1), np.uint8))
    found = [label(frame, spec, shape, frames.geometry) or nothing for frame in frames]
    values, masks = zip(*found, strict=True)
    return np.stack(values).transpose(0, 3, 1, 2), np.stack(masks).transpose(0, 3, 1, 2)


def render_pool(jobs: Sequence[tuple[str, int]], task: Task, side: int, workers: int) -> Pool:
    """Render :data:`FRAMES_PER_SCENE` frames of each scene (domain, seed) in so many processes."""
    with ProcessPoolExecutor(workers, get_context("spawn")) as executor:
        parts = executor.map(_scene, ((domain, seed, task, side) for domain, seed in jobs), chunksize=4)
        return _joined(list(progress(parts, "rendering", len(jobs))))


def _scene(job: tuple[str, int, Task, int]) -> Pool:
    domain, seed, task, side = job
    return pool(scenes.render(domain, seed, FRAMES_PER_SCENE * STRIDE)[::STRIDE], task, side)


def _joined(parts: Iterable[Pool]) -> Pool:
    parts = list(parts)
    return Pool(
        images=np.concatenate([part.images for part in parts]),
        labels={name: np.concatenate([part.labels[name] for part in parts]) for name in parts[0].labels},
        masks={name: np.concatenate([part.masks[name] for part in parts]) for name in parts[0].masks},
    )
