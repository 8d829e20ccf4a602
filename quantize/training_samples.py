"""Labelled frames as torch takes them, to train on and to judge by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from firmware_gen.graph import Graph
from quantize.training_set import Labelled
from zoo.training.pool import Batch


class LabelledSamples:
    """What zoo.training trains on: frames with labels and masks of all outputs that learn."""

    def __init__(self, frames: Sequence[Labelled], graph: Graph) -> None:
        """Take frames, one at least; `graph` says in which order it takes its inputs."""
        self._count = len(frames)
        self._inputs, self._labels, self._masks = (
            {name: torch.from_numpy(np.concatenate([known[name] for known in each])) for name in names}
            for names, each in (
                (graph.inputs, [frame.inputs for frame in frames]),
                (tuple(frames[0].labels), [frame.labels for frame in frames]),
                (tuple(frames[0].masks), [frame.masks for frame in frames]),
            )
        )

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    def batch(self, numbers: NDArray[np.intp]) -> Batch:
        """Return those with these numbers."""
        index = torch.from_numpy(numbers)
        return Batch(
            *(
                {name: x[index] for name, x in each.items()}
                for each in (self._inputs, self._labels, self._masks)
            )
        )

    def whole(self) -> Batch:
        """Return all of them."""
        return Batch(self._inputs, self._labels, self._masks)
