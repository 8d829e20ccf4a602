"""Replay: some steps train on frames of the source domain, so that the network does not forget it."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from fieldtune.errors import UserError
from firmware_gen.graph import Graph
from ondevice.training_data import Sample, TrainingSamples
from zoo.frames import Frames
from zoo.task import Task


@dataclass(frozen=True)
class Replay:
    """Which steps train on a source frame: a share of them, evenly spread; with 1/4 the 2nd, 6th, 10th ..."""

    share: Fraction  # above 0 and below 1
    seed: int = 0  # of the order in which source frames come

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Self:
        """Return the replay of the share that `text` names, such as 1/4 or 0.25.

        Raises:
            UserError: it is no number between 0 and 1.
        """
        # No exponents: the exact value of 1e-999999999 has a billion digits.
        if re.fullmatch(r"\d{1,9}/0*[1-9]\d{0,8}|\d?\.\d{1,9}", text):
            share = Fraction(text)
            if 0 < share < 1:
                return cls(share, seed)
        raise UserError(
            f"--replay is '{text}'; give the share of steps that train on source frames, "
            "between 0 and 1, such as 1/4 or 0.25"
        )

    def __str__(self) -> str:
        """Return what a session is recorded with."""
        return f"{self.share} of the steps, seed {self.seed}"

    def count(self, steps: int) -> int:
        """Return how many of the first `steps` steps train on a source frame.

        Half a period is ahead of the first, so that a session ends with frames of the target.
        """
        return int(steps * self.share + Fraction(1, 2))

    def replays(self, step: int) -> bool:
        """Tell whether the step of this index trains on a source frame."""
        return self.count(step + 1) > self.count(step)


class ReplayedSamples:
    """The samples of a session that replays: those of the target, and in some steps one of the source."""

    def __init__(self, target: TrainingSamples, source: TrainingSamples, replay: Replay) -> None:
        """Take the samples of both domains as they come, each in its own order."""
        self._target, self._source, self._replay = target, source, replay
        self._latents: Iterable[Sample] | None = None

    def __iter__(self) -> Iterator[tuple[int | None, Sample]]:
        """Yield (index of the target frame, or None for a source frame; sample) without end.

        Raises:
            DataError: a whole round of one of them brought no valid label.
        """
        target = iter(self._target)
        source = (sample for _, sample in self._source) if self._latents is None else iter(self._latents)
        for step in itertools.count():
            if self._replay.replays(step):
                yield None, next(source)
            else:
                yield next(target)

    def of_source(self, steps: int) -> Iterator[tuple[int, Sample]]:
        """Yield those of the first `steps` steps, counted from 1, that train on a source frame, and that."""
        replayed = (step + 1 for step in range(steps) if self._replay.replays(step))
        for step, (_, sample) in zip(replayed, self._source, strict=False):
            yield step, sample

    def start_from(self, latents: Iterable[Sample]) -> None:
        """Yield `latents` in the place of the samples of `of_source`."""
        self._latents = latents

    @property
    def skipped(self) -> list[str]:
        """The frames that were passed over, for want of a valid label."""
        return [*self._target.skipped, *self._source.skipped]

    def check(self) -> None:
        """Look for the first sample of each.

        Raises:
            DataError: no frame has a valid label, or the frames lack what a label is made from.
        """
        self._target.check()
        self._source.check()


def source_samples(frames: Frames, task: Task, graph: Graph, seed: int) -> TrainingSamples:
    """Return samples of source frames, shuffled each round: few steps must see all of a long data set.

    Labels are the true depth where the frames have it, as when the network was trained, whatever the task
    says: a ToF sensor does not see far, and what it alone teaches of a wide domain is another one.
    """
    if frames[0].depth is not None:
        outputs = (
            dataclasses.replace(spec, labels="truth") if spec.labels == "tof" else spec
            for spec in task.outputs
        )
        task = Task(task.inputs, tuple(outputs))
    return TrainingSamples(frames, task, graph, seed, "source")
