"""A board that learns on its own: its sample buffer, and what it is asked to do without a host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import UserError
from firmware_gen import protocol
from ondevice.device import Device
from zoo.frames import Frame
from zoo.prepare import network_input
from zoo.tof import TofFrame

PHASES = ("at rest", "collecting", "judging before", "learning", "judging after", "watching")
IMAGE, DISTANCE, STATUS, ROUNDS = "field.image", "field.distance_mm", "field.target_status", "field.rounds"


@dataclass(frozen=True)
class Work:
    """What the board does on its own, round after round.

    Args:
        rounds: how many, 0: on and on.
        frames: samples that a round takes from the sensors before it learns.
        validate_every: each of so many is set aside to judge by, 0: none.
        epochs: how often a round learns from each of the others in the buffer.
        steps: most training steps a round, 0: no limit.
        drift_on: drift of what the camera sees above which a board that watches collects again.
        drift_off: drift below which a round is followed by watching, with the depth sensor off; 0: never.
    """

    rounds: int
    frames: int
    validate_every: int = 5
    epochs: int = 1
    steps: int = 0
    drift_on: float = 0.0
    drift_off: float = 0.0


@dataclass(frozen=True)
class Progress:
    """What has come of it; see FIELD in docs/protocol.md. Losses are means over the samples set aside."""

    phase: str
    capacity: int
    samples: int
    round: int
    improved: int
    undone: int
    learned: int
    skipped: int
    before: float
    after: float
    loss: float
    drift: float
    watched: int

    @property
    def sensor_off(self) -> float:
        """Share of the pictures that were taken with the depth sensor off."""
        return self.watched / max(1, self.watched + self.samples)

    @property
    def at_rest(self) -> bool:
        """Whether all rounds are done, or the work was ended."""
        return self.phase == PHASES[0]


class FieldBoard:
    """The sample buffer of `device`, and its work without a host. Every method may raise LinkError."""

    def __init__(self, device: Device) -> None:
        """Use `device`.

        Raises:
            UserError: its firmware has no sample buffer.
        """
        if IMAGE not in device.tensors:
            raise UserError(
                f"the firmware of {device.hello.model} has no sample buffer; build and flash it with --buffer"
            )
        self._device = device

    def progress(self) -> Progress:
        """Ask what has come of the work."""
        return _progress(self._device.link.command(protocol.FIELD))

    def take(self) -> Progress:
        """Take a sample from the board's own sensors.

        Raises:
            RefusedError: it has none, they have nothing new, or the board is at work.
        """
        return _progress(self._device.link.command(protocol.TAKE))

    def start(self, work: Work) -> Progress:
        """Set the board to work with the hyperparameters that it has; it needs no host from here on.

        Raises:
            RefusedError: it has no sensors but should collect, is at work, or a number is out of range.
        """
        return _progress(self._device.link.command(protocol.WORK, **vars(work)))

    def stop(self) -> Progress:
        """End the work; what the present round has changed but not judged is undone."""
        return _progress(self._device.link.command(protocol.REST))

    def rounds(self) -> list[tuple[float, float]]:
        """Return the losses before and after each of the last rounds, as far as the board remembers them."""
        log = self._device.read_tensor(ROUNDS)[:, 0]
        done = self.progress().round
        return [
            (float(log[k % len(log), 0]), float(log[k % len(log), 1]))
            for k in range(max(0, done - len(log)), done)
        ]

    def put(self, frame: Frame) -> None:
        """Put a frame into the buffer from here, as if the board's sensors had seen it.

        Raises:
            UserError: the frame has no ToF reading.
        """
        if frame.tof is None:
            raise UserError(f"{frame.name} has no ToF reading; the buffer is for frames with one")
        samples = self.progress().samples
        capacity, height, row = self._device.tensors[IMAGE].shape
        place = samples % capacity
        self._device.write_part(IMAGE, place, network_input(frame, height, row // 3).reshape(height, row))
        self._device.write_part(DISTANCE, place, frame.tof.distance_mm)
        self._device.write_part(STATUS, place, frame.tof.status)
        self._device.link.command(protocol.SET_SAMPLES, samples=samples + 1)

    def sample(self, number: int) -> Frame:
        """Read sample `number`, counted from 0: the picture at the network's size and the zones.

        Raises:
            UserError: the buffer does not hold it any more, or not yet.
        """
        now = self.progress()
        if not max(0, now.samples - now.capacity) <= number < now.samples:
            raise UserError(f"the buffer does not hold sample {number}; {now.samples} were taken so far")
        place = number % now.capacity
        image = self._part(IMAGE, place)
        tof = TofFrame(self._part(DISTANCE, place), self._part(STATUS, place))
        return Frame(image.reshape(image.shape[0], -1, 3), tof=tof, name=f"sample {number}")

    def _part(self, name: str, place: int) -> NDArray[Any]:
        return np.array(self._device.read_part(name, place))


def _progress(reply: dict[str, Any]) -> Progress:
    return Progress(**{**reply, "phase": PHASES[reply["phase"]]})
