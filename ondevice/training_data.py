"""Samples for the board: what a frame becomes on its way to inputs, labels and masks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError, ModelError
from firmware_gen.graph import Graph
from zoo.frames import Frame, Frames
from zoo.prepare import labels, network_input
from zoo.task import Task
from zoo.tof import TofGeometry

Sample = Mapping[str, NDArray[Any]]

LABEL_DTYPES = {"f32": np.float32, "u8": np.uint8, "i32": np.int32}
"""Of the array that a label tensor takes, by the tensor's dtype."""


def inputs(frame: Frame, task: Task, graph: Graph) -> dict[str, NDArray[Any]]:
    """Return the frame as each image input of the network, uint8 (height, width, 3).

    Raises:
        ModelError: an input is no colour image.
    """
    arrays = {}
    for spec in task.inputs:
        height, width, channels = graph.shape(spec.name)
        if channels != 3:
            raise ModelError(
                f"input '{spec.name}' of {graph.name} has {channels} channels; "
                "frames are colour images with 3"
            )
        arrays[spec.name] = network_input(frame, height, width)
    return arrays


def sample(frame: Frame, task: Task, graph: Graph, geometry: TofGeometry) -> Sample | None:
    """Return inputs, labels and masks of one frame, by the board's names; None when it teaches nothing.

    That is when no loss has a label whose gradient reaches something that learns.

    Raises:
        DataError: the frame lacks what labels are made from, or has a class that its output has not.
    """
    shapes = {spec.name: graph.shape(spec.name) for spec in task.learned}
    found = labels(frame, task.learned, shapes, geometry)
    if not any(
        known and _teaches(name, graph) for known, name in zip(found.values(), graph.labels, strict=True)
    ):
        return None
    arrays: dict[str, NDArray[Any]] = {}
    for known, name, mask_name in zip(found.values(), graph.labels, graph.masks, strict=True):
        described = graph.tensors[name]
        dtype = LABEL_DTYPES[described.dtype]
        if known is None:
            arrays[name] = np.zeros(described.shape, dtype)
            arrays[mask_name] = np.zeros(described.shape, np.uint8)
        else:
            arrays[name] = known[0].astype(dtype).reshape(described.shape)
            arrays[mask_name] = known[1].reshape(described.shape)
    return {**inputs(frame, task, graph), **arrays}


def _teaches(label: str, graph: Graph) -> bool:
    """Tell whether the gradient of the label's loss is used."""
    (loss,) = graph.consumers(label)
    return bool(graph.consumers(loss.outputs[0]))


def labelled(sample: Sample, graph: Graph) -> tuple[bool, ...]:
    """Tell of each loss whether the sample has a label for it."""
    return tuple(bool(sample[mask].any()) for mask in graph.masks)


class TrainingSamples:
    """The samples of a session in the order of its steps: file order or shuffled, wrapping round.

    Frames that teach nothing are passed over and listed in `skipped`.
    """

    def __init__(
        self,
        frames: Frames,
        task: Task,
        graph: Graph,
        shuffle_seed: int | None = None,
        role: str = "training",
    ) -> None:
        """Use `frames` (none of them held out); a seed shuffles each round anew; messages name the role."""
        self._frames, self._task, self._graph = frames, task, graph
        self._seed = shuffle_seed
        self._role = role
        self.skipped: set[str] = set()

    def __iter__(self) -> Iterator[tuple[int, Sample]]:
        """Yield (index of the frame, sample) without end.

        Raises:
            DataError: a whole round brought no valid label.
        """
        for number in itertools.count():
            empty = True
            for index in self._order(number):
                frame = self._frames[index]
                ready = sample(frame, self._task, self._graph, self._frames.geometry)
                if ready is None:
                    self.skipped.add(frame.name)
                else:
                    empty = False
                    yield index, ready
            if empty:
                raise DataError(
                    f"none of the {len(self._frames)} {self._role} frames has a valid label; "
                    "check the sensor's status codes, its range and the geometry (docs/your_data.md)"
                )

    def check(self) -> None:
        """Look for the first sample.

        Raises:
            DataError: no frame has a valid label, or the frames lack what a label is made from.
        """
        next(iter(self))

    def _order(self, number: int) -> list[int]:
        order = list(range(len(self._frames)))
        if self._seed is not None:
            random.Random(f"{self._seed}/{number}").shuffle(order)
        return order
