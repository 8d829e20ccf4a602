"""The training loop: every step and checkpoint of a session, whatever becomes of the cable."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import progress, say
from fieldtune.errors import DataError, LinkError, UserError
from firmware_gen.graph import Graph
from ondevice.device import Device, Hyper, StepResult
from ondevice.learning_rate import Schedule
from ondevice.link import RefusedError
from ondevice.replay import Replay, ReplayedSamples
from ondevice.session import Session
from ondevice.training_data import Sample, TrainingSamples, labelled
from zoo.frames import Frames
from zoo.task import Task

T = TypeVar("T")

RECONNECT_SECONDS = 10.0  # a pulled cable may come back
RECONNECTIONS = 5  # for one exchange; a line on which it never succeeds is no line


@dataclass(frozen=True)
class TuneOptions:
    """How a session trains."""

    steps: int
    test: int  # the last frames of each data set, never trained on
    hyper: Hyper
    shuffle_seed: int | None = None
    checkpoint_every: int = 25  # steps
    port: str | None = None  # a board that runs the firmware already
    schedule: Schedule = field(default_factory=Schedule)  # of the learning rate
    replay: Replay | None = None  # of source frames
    keep: bool = False  # in the board's flash, if better on the held-out frames than what is there

    def check(self, frames: Frames, source: Frames | None = None) -> None:
        """Raise UserError or DataError when the options do not go together with the data."""
        if self.steps < 1:
            raise UserError(f"--steps is {self.steps}; give at least 1")
        if self.test < 0:
            raise UserError(f"--test is {self.test}; give 0 or more")
        if self.steps % self.hyper.accumulate:
            raise UserError(
                f"--steps is {self.steps}, no multiple of --accumulate {self.hyper.accumulate}: "
                "the last samples would never reach the weights"
            )
        if self.schedule.warmup >= self._updates:
            raise UserError(
                f"--warmup is {self.schedule.warmup}, but there are only {self._updates} updates; "
                "give fewer, or more --steps"
            )
        if len(frames) <= self.test:
            raise DataError(
                f"the data set has {len(frames)} frames and --test {self.test} holds out all of them; "
                "give fewer held-out frames"
            )
        self._check_source(source)

    def _check_source(self, source: Frames | None) -> None:
        if source is not None and not source:
            raise DataError("the source data set has no frames; give one that has, or leave out --source")
        if self.replay is None:
            if source is not None and not self.test:
                raise UserError(
                    "--source frames are only judged, but --test 0 judges none; "
                    "give --test 1 or more, or replay some with --replay"
                )
        elif source is None:
            raise UserError("--replay needs frames of the source domain; give them with --source")
        elif not self.replay.count(self.steps):
            raise UserError(
                f"--replay {self.replay.share} of --steps {self.steps} is no step; give more of either"
            )
        elif len(source) <= self.test:
            raise DataError(
                f"the source data set has {len(source)} frames and --test {self.test} holds out all of "
                "them, so that none can be replayed; give fewer held-out frames"
            )

    def config(self) -> dict[str, Any]:
        """Return what a resumed session must have been made with."""
        return {
            "steps": self.steps,
            "test": self.test,
            **dataclasses.asdict(self.hyper),
            "schedule": str(self.schedule),
            "warmup": self.schedule.warmup,
            "shuffle_seed": self.shuffle_seed,
            "replay": None if self.replay is None else str(self.replay),
        }

    def hyper_at(self, step: int) -> Hyper:
        """Return the hyperparameters of a step, counted from 0: the same for all samples of an update."""
        scale = self.schedule.scale(step // self.hyper.accumulate, self._updates)
        return dataclasses.replace(self.hyper, lr=self.hyper.lr * scale)

    @property
    def _updates(self) -> int:
        return self.steps // self.hyper.accumulate


class Trainer:
    """Trains on the board from the session's checkpoint, or from the initial weights.

    Attributes:
        seen: index of the target frame of every step so far that had one, from the session's first.
        labelled_steps: of each output that learns, in how many steps its sample had a label for it.
    """

    def __init__(
        self,
        device: Device,
        session: Session,
        task: Task,
        graph: Graph,
        options: TuneOptions,
        latent_part: int = 0,
    ) -> None:
        """Train nothing yet. `latent_part`: of a step, with which it begins on a sample of latents."""
        self.seen: list[int] = []
        self._latent_part, self._latents = latent_part, set(device.names("latent"))
        self._ticks: dict[bool, list[int]] = {False: [], True: []}  # of steps on frames, from latents
        self._device, self._session = device, session
        self._options = options
        self._steps, self._accumulate = options.steps, options.hyper.accumulate
        self._hyper: Hyper | None = None  # what the board has; None: not known
        self._graph = graph
        self._loss_names = [spec.name for spec in task.learned]
        self.labelled_steps = dict.fromkeys(self._loss_names, 0)
        self._checkpoint_every = options.checkpoint_every
        # A firmware that was started from here does not come back by itself.
        self._patience = RECONNECT_SECONDS if options.port else 0.0

    def run(self, samples: TrainingSamples | ReplayedSamples) -> dict[str, NDArray[Any]]:
        """Train from where the session stands to its last step; return what learned: weights and ranges.

        Raises:
            LinkError: the board does not answer any more, or has lost what it learned.
            UserError: training diverges.
        """
        start = self._restore()
        # Right after an update no gradient waits on the board, so that a checkpoint needs none.
        period = math.ceil(self._checkpoint_every / self._accumulate) * self._accumulate
        walk = enumerate(itertools.islice(samples, self._steps))
        for step, (index, sample) in progress(walk, "training", self._steps):
            if index is not None:
                self.seen.append(index)
            for name, counts in zip(self._loss_names, labelled(sample, self._graph), strict=True):
                self.labelled_steps[name] += counts
            if step < start:
                continue  # a resumed session walks the same frames up to its checkpoint
            self._train_on(step, sample)
            done = step + 1
            if done % period == 0 or done == self._steps:
                self._session.save_checkpoint(done, self._read(done, "weight", "state", "range"))
        if samples.skipped:
            say(f"passed over {len(samples.skipped)} frames without a valid label")
        return self._read(self._steps, "weight", "range")

    def step_ms(self, *, from_latents: bool) -> float | None:
        """Return what these steps took on the board on average, None if that is not known."""
        ticks, hertz = self._ticks[from_latents], self._device.hello.ticks_hz
        return round(1e3 * sum(ticks) / len(ticks) / hertz, 3) if ticks and hertz else None

    def _restore(self) -> int:
        """Bring the board to where the session stands; return the steps done."""
        checkpoint = self._session.load_checkpoint()
        self._device.reset_weights()
        if checkpoint is None:
            return 0
        self._device.write_tensors(checkpoint.arrays)
        self._device.set_step(checkpoint.step)
        say(f"continuing after step {checkpoint.step}")
        return checkpoint.step

    def _train_on(self, step: int, sample: Sample) -> None:
        from_latents = not self._latents.isdisjoint(sample)

        def exchange() -> StepResult:
            self._set_hyper(self._options.hyper_at(step))
            self._device.put_sample(sample)
            return self._device.step(step, self._latent_part if from_latents else 0)

        began, resent = time.monotonic(), self._device.link.resent_frames
        if not from_latents:  # the session keeps these already
            self._session.record_sample(step + 1, sample)
        # A step that the board has done already is told again, not done again.
        done = self._across_reconnections(exchange, (step, step + 1))
        for name, loss in zip(self._loss_names, done.losses, strict=True):
            self._check_finite(step + 1, f"the loss of {name}", loss)
        self._ticks[from_latents].append(done.ticks)
        known = zip(done.losses, labelled(sample, self._graph), strict=True)
        losses = [loss if counts else math.nan for loss, counts in known]
        self._session.record_step(
            step + 1,
            dict(zip(self._loss_names, losses, strict=True)),
            time.monotonic() - began,
            self._device.link.resent_frames - resent,
        )

    def _set_hyper(self, hyper: Hyper) -> None:
        if hyper != self._hyper:
            self._device.set_hyper(hyper)
            self._hyper = hyper

    def _read(self, done: int, *roles: Any) -> dict[str, NDArray[Any]]:
        """Read tensors after `done` steps."""
        arrays = self._across_reconnections(lambda: self._device.read_role(*roles), (done,))
        for name, array in arrays.items():
            self._check_finite(done, name, array)
        return arrays

    def _check_finite(self, step: int, what: str, values: Any) -> None:
        if not np.isfinite(values).all():
            raise UserError(
                f"training diverges: {what} is not finite at step {step}; "
                f"begin again with a smaller --lr than {self._options.hyper.lr:g}, or with --clip-norm"
            )

    def _across_reconnections(self, exchange: Callable[[], T], steps: tuple[int, ...]) -> T:
        """Return what `exchange` returns, asked again after the cable was pulled and came back.

        `steps` are the numbers of steps that the board may have done: with another it has started anew.
        """
        for _ in range(RECONNECTIONS):
            try:
                return exchange()
            except RefusedError:
                raise
            except LinkError as error:
                self._session.log(str(error))
                self._reconnect(steps, error)
        return exchange()

    def _reconnect(self, steps: tuple[int, ...], error: LinkError) -> None:
        try:
            hello = self._device.reconnect(self._patience)
        except LinkError:
            raise error from None
        if hello.restored or hello.step not in steps:
            raise LinkError(
                f"the board has started anew at step {steps[0] + 1} and lost what it learned; "
                "run the same command with --resume to continue from the checkpoint"
            ) from error
        self._hyper = None
