"""Work repeated in windows, with the times at which they began and ended: what `energy --stamps` gates by."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from energy.measure import LEAST_REPETITIONS, LEAST_SECONDS, WINDOWS
from energy.provenance import STAMPS_PREFIX, Provenance
from fieldtune.console import progress
from firmware_gen.plan import Plan
from ondevice.device import Device, Hyper
from ondevice.profile import Training, random_work
from ondevice.workbench import open_board

# Rounding of the trace to samples, and of its clock, must not make a window too short.
_MARGIN = 1.05
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Repeated:
    """A window: Unix times in seconds, and how often the work was done."""

    start: float
    stop: float
    repetitions: int


def repeat(
    plan: Plan,
    port: str | None = None,
    *,
    hyper: Hyper | None = None,
    seed: int = 0,
    log: Callable[[str], None] | None = None,
    seconds: float = LEAST_SECONDS * _MARGIN,
    pause: float = _PAUSE_SECONDS,
) -> list[Repeated]:
    """Repeat an inference, or a training step if the plan learns, in five windows with pauses between them.

    A sample is sent before each window, and not again within it. The link's questions and answers are in the
    windows.

    Args:
        plan: what the firmware is made from.
        port: of a real board that runs it; else the board is started here.
        hyper: of the training steps.
        seed: of the random sample.
        log: takes each line that the board prints.
        seconds: that a window lasts at least; it has ten repetitions at least.
        pause: seconds before and after each window.

    Raises:
        BoardError: the board cannot be built or started.
        LinkError: the port cannot be opened or does not answer.
    """
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="fieldtune-") as folder,
        open_board(plan, Path(folder) / "project", port, log) as device,
    ):
        work = random_work(plan, device, seed, hyper)
        time.sleep(pause)
        for _ in progress(range(WINDOWS), "repeating", WINDOWS):
            work.begin()
            time.sleep(pause)
            found.append(run_window(device, isinstance(work, Training), seconds))
        time.sleep(pause)
    return found


def run_window(device: Device, trains: bool, seconds: float) -> Repeated:
    """Repeat the work on a board that has its sample, and has not trained if it trains."""
    start, begun, done = time.time(), time.monotonic(), 0
    while done < LEAST_REPETITIONS or time.monotonic() - begun < seconds:
        if trains:
            device.step(done)
        else:
            device.run_inference()
        done += 1
    return Repeated(start, start + time.monotonic() - begun, done)


def stamps(windows: list[Repeated], firmware: Provenance) -> str:
    """Return the table that `energy --stamps` reads."""
    rows = [f"{window.start:.6f},{window.stop:.6f},{window.repetitions}" for window in windows]
    of = STAMPS_PREFIX + json.dumps(firmware.describe())
    return "\n".join([of, "start,stop,repetitions", *rows]) + "\n"
