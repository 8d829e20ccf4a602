"""Frames for calibration, training and test, and their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError
from firmware_gen.graph import Array
from quantize.float_network import FloatNetwork, Values, pixels
from zoo.frames import Frames
from zoo.prepare import labels


@dataclass(frozen=True)
class Split:
    """A data set divided: `test` is never used for calibration or training."""

    calibration: Frames
    training: Frames
    test: Frames


@dataclass(frozen=True, eq=False)
class Labelled:
    """A frame as the network's inputs, with labels and masks of its outputs, (1, c, h, w)."""

    inputs: Values
    labels: Mapping[str, Array]
    masks: Mapping[str, Array]


HELD_OUT = 8
"""Of the frames that are not for the test, every so many-th block is held out from training."""
BLOCKS = 8
"""So many blocks are held out: as whole blocks they are unlike those to train on, and several differ."""


def split(frames: Frames, test: int, samples: int) -> Split:
    """Set the last `test` frames apart and thin the others evenly to at most `samples` for calibration.

    Raises:
        DataError: no frame is left for calibration.
    """
    count = len(frames) - test
    if count < 1:
        raise DataError(
            f"there are {len(frames)} frames, of which --test sets {test} apart: "
            "none is left to calibrate with"
        )
    stride = -(-count // samples)
    training = frames[:count]
    return Split(training[::stride], training, frames[count:])


def labelled(frames: Frames, network: FloatNetwork) -> list[Labelled]:
    """Return the frames that have a label for at least one output; outputs without one are masked.

    Raises:
        DataError: none has, or the frames lack what a label is made from.
    """
    shapes = {spec.name: network.graph.shape(spec.name) for spec in network.task.learned}
    found = []
    for frame in frames:
        known = labels(frame, network.task.learned, shapes, frames.geometry)
        if any(known.values()):
            pairs = {name: pair or _nothing(network, name) for name, pair in known.items()}
            targets = {name: _channels_first(pair[0]) for name, pair in pairs.items()}
            masks = {name: _channels_first(pair[1]) for name, pair in pairs.items()}
            found.append(Labelled(pixels(frame, network), targets, masks))
    if not found:
        raise DataError(
            f"none of the {len(frames)} frames has a valid label to train on; "
            "check the sensor's status codes, its range and the geometry (docs/your_data.md)"
        )
    return found


def hold_out(
    frames: Frames, test: int, network: FloatNetwork, what: str
) -> tuple[list[Labelled], list[Labelled]]:
    """Divide all but the last `test` frames into those to train on and those to judge by.

    Raises:
        DataError: there are too few for `what`, or none of a part has a label.
    """
    count = len(frames) - test
    if count < HELD_OUT:
        raise DataError(
            f"there are {len(frames)} frames, of which --test sets {test} apart; {what} needs {HELD_OUT} "
            "others or more, to train on and to judge by"
        )
    blocks = HELD_OUT * min(BLOCKS, count // HELD_OUT)
    judges = np.arange(count) * blocks // count % HELD_OUT == HELD_OUT - 1
    training, judged = (
        labelled(Frames.of([frames[int(k)] for k in np.flatnonzero(which)], frames.geometry), network)
        for which in (~judges, judges)
    )
    return training, judged


def _nothing(network: FloatNetwork, output: str) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    (spec,) = (spec for spec in network.task.outputs if spec.name == output)
    height, width, channels = network.graph.shape(output)
    shape = (height, width, 1 if spec.loss == "cross_entropy" else channels)
    return np.zeros(shape, np.float32), np.zeros(shape, np.uint8)


def _channels_first(value: NDArray[Any]) -> Array:
    return np.ascontiguousarray(value.transpose(2, 0, 1)[None], np.float32)
