"""What each layer could contribute, measured by letting it learn alone."""

from __future__ import annotations

import glob
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firmware_gen.graph import Op
from ondevice.evaluation import spread
from ondevice.search_bench import Arrays, Bench, Trial, learnable, side_by_side
from ondevice.training_data import Sample

ALONE = 16  # of the bench's frames, evenly spread, from which each layer learns alone


@dataclass(frozen=True)
class Contribution:
    """What a layer could contribute.

    `gradients`: of its constants, the mean over the frames. `decrease`: by how much lower the loss of a frame
    is, on average, when the layer has learned alone from the frames before.
    """

    gradients: Arrays
    decrease: float


def contributions(bench: Bench) -> dict[str, Contribution]:
    """Return what every layer that can learn could contribute, in the order of the graph."""
    few = [bench.samples[index] for index in spread(range(len(bench.samples)), ALONE)]
    losses, gradients = _untuned(bench, few)
    untuned = float(np.mean(losses[len(few) // 2 :]))

    def alone(op: Op, stop: threading.Event) -> Trial:
        trial = bench.trial((glob.escape(op.name),), few)
        trial.advance(len(few), stop)
        return trial

    layers = [op for op in learnable(bench.graph) if op.constants[0] in bench.trained]
    return {
        op.name: Contribution(
            {name: gradients[name] for name in op.constants}, max(untuned - trial.loss(len(few)), 0.0)
        )
        for op, trial in zip(layers, side_by_side(alone, layers, "measuring layers"), strict=True)
    }


def _untuned(bench: Bench, samples: Sequence[Sample]) -> tuple[list[float], Arrays]:
    """Return the losses of the untuned network and the mean gradient of every constant."""
    names = list(bench.trained)
    sums = {name: np.zeros(bench.graph.constants[name].value.shape) for name in names}
    losses = []
    with bench.board() as board:
        for sample in samples:
            losses.append(board.step(sample))
            for name, gradient in board.gradients(names).items():
                sums[name] += gradient
        board.write_ranges(bench.ranges)
    return losses, {name: (total / len(samples)).astype(np.float32) for name, total in sums.items()}
