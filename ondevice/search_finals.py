"""The last word in a search: each finalist with its own firmware, on frames that come later."""

from __future__ import annotations

import dataclasses
import itertools
import math
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boards import load_board
from firmware_gen.plan import Plan
from firmware_gen.project import Network, plan_network
from firmware_gen.update import UpdatePlan
from ondevice.device import Device, Hyper
from ondevice.evaluation import spread
from ondevice.losses import sample_losses
from ondevice.search_bench import side_by_side
from ondevice.search_race import Patterns
from ondevice.training_data import Sample, sample
from ondevice.workbench import open_board
from zoo.frames import Frames

FRAMES = 250  # that are looked at
PARTS = 10  # of the frames; all but the last ones are learned from, one after the other
JUDGED_AFTER = (4, 5, 6, 7, 8)  # parts: earlier the network has only begun to adapt
JUDGED = 20  # frames of all that come later, evenly spread
APART = 1.0  # standard errors of the mean difference beyond which two finalists differ


@dataclass(frozen=True)
class Finals:
    """What the finals come to: each finalist's losses of the frames that are judged, after up to `steps`."""

    steps: int
    losses: tuple[NDArray[np.float64], ...]

    def level(self) -> list[int]:
        """Return the indices of those that the best is not clearly better than, frame by frame."""
        best = min(self.losses, key=lambda losses: float(losses.mean()))
        return [index for index, losses in enumerate(self.losses) if not _apart(losses, best)]


# Takes finalists, and returns their losses in this order.
Judge = Callable[[Sequence[Patterns]], Finals]


def finals(network: Network, frames: Frames, update: UpdatePlan, lr: float) -> Judge:
    """Return a judge that lets each finalist learn from `frames` just as it would on the board.

    Its firmware has the types of `update`; it learns by plain gradient descent. Again and again it is judged
    by frames spread over all that it has not come to yet (rolling origin: Tashman 2000): a sensor's stream
    changes, and what adapts fastest to the frames of a moment need not know the others.
    """
    task = network.needed_task()
    chosen = [frames[index] for index in spread(range(len(frames)), FRAMES)]
    plain = UpdatePlan(weights=update.weights, rounding=update.rounding, gradients=update.gradients)

    def losses(patterns: Patterns, stop: threading.Event) -> NDArray[np.float64]:
        plan = plan_network(network, load_board("native"), dataclasses.replace(plain, patterns=patterns))
        ready = [
            known
            for frame in chosen
            if (known := sample(frame, task, plan.graph, frames.geometry)) is not None
        ]
        with (
            tempfile.TemporaryDirectory(prefix="fieldtune-") as folder,
            open_board(plan, Path(folder) / "native") as device,
        ):
            return _later_losses(device, plan, ready, lr, stop)

    def judge(entries: Sequence[Patterns]) -> Finals:
        found = side_by_side(losses, entries, "judging finalists")
        return Finals(len(chosen) * JUDGED_AFTER[-1] // PARTS, tuple(found))

    return judge


def _later_losses(
    device: Device, plan: Plan, samples: Sequence[Sample], lr: float, stop: threading.Event
) -> NDArray[np.float64]:
    """Return the losses of what is judged; infinite where learning diverges."""
    bounds = [len(samples) * part // PARTS for part in range(PARTS + 1)]
    losses: list[float] = []
    for part, (first, end) in enumerate(itertools.pairwise(bounds[: JUDGED_AFTER[-1] + 1]), 1):
        if stop.is_set():
            break
        device.set_hyper(Hyper(lr=lr))
        for step, ready in enumerate(samples[first:end], first):
            device.put_sample(ready)
            device.step(step)
        if part in JUDGED_AFTER:
            judged = [samples[index] for index in spread(range(end, len(samples)), JUDGED)]
            losses += sample_losses(device, plan, end, judged)
    found = np.array(losses)
    return np.where(np.isfinite(found), found, np.inf)


def _apart(losses: NDArray[np.float64], lower: NDArray[np.float64]) -> bool:
    """Tell whether `losses` are clearly above `lower`, of the same frames."""
    if not np.isfinite(losses).all():
        return bool(np.isfinite(lower).all())
    more = losses - lower
    return float(more.mean()) > APART * float(more.std()) / math.sqrt(len(more))
