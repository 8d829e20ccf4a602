"""Tuning the tiny network, with something happening at a given step."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from quick_board import quick_board
from tiny import tiny_frames, write_tiny

import boards
from boards import Running
from firmware_gen.graph import Optimizer, Real
from firmware_gen.plan import Plan
from firmware_gen.project import Network, load_network, plan_network, write_project
from firmware_gen.update import WeightType, parse_update
from ondevice.device import Hyper
from ondevice.session import Session
from ondevice.tune import TuneOptions, tune
from zoo.frames import Frames

STEPS, HELD_OUT, CHECKPOINTS = 30, 4, 10
FRAMES = tiny_frames()
Arrays = dict[str, NDArray[Any]]


class EventfulSession(Session):
    """Does something of the test's before it records a step."""

    events: Mapping[int, Callable[[], None]] = {}

    def record_step(self, step: int, losses: Mapping[str, float], seconds: float, resent: int) -> None:
        self.events.get(step, lambda: None)()
        super().record_step(step, losses, seconds, resent)


@dataclass(frozen=True)
class Case:
    """A network planned for a board, and how it is tuned."""

    network: Network
    plan: Plan
    hyper: Hyper

    @classmethod
    def make(
        cls,
        folder: Path,
        board: str = "native",
        hyper: Hyper | None = None,
        heads: Sequence[str] = ("depth",),
        update: str = "dec*,depth*",
        optimizer: Optimizer = "sgd",
        state: Real = "f32",
        weights: WeightType = "f32",
        latents: str | None = None,
        model: Path | None = None,
    ) -> "Case":
        hyper = hyper or Hyper(lr=0.02)
        network = load_network(model or write_tiny(folder / "tiny.onnx", heads))
        choice = parse_update(
            update,
            momentum=hyper.momentum > 0,
            keep_gradients=hyper.accumulate > 1,
            clip_norm=hyper.clip_norm > 0,
            optimizer=optimizer,
            state=state,
            weights=weights,
        )
        return cls(network, plan_network(network, quick_board(board), choice, latents=latents), hyper)

    def build(self, folder: Path) -> Path:
        """Build the firmware and return its ELF."""
        write_project(self.plan, folder)
        return boards.build(folder, self.plan.board).elf

    def start(self, elf: Path) -> contextlib.AbstractContextManager[Running]:
        return boards.start(elf, self.plan.board)

    def tune(
        self,
        folder: Path,
        port: str | None = None,
        events: Mapping[int, Callable[[], None]] | None = None,
        frames: Frames = FRAMES,
        source: Frames | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        """Begin or resume the session in `folder`."""
        chosen: dict[str, Any] = {
            "steps": STEPS,
            "test": HELD_OUT,
            "checkpoint_every": CHECKPOINTS,
            **changes,
        }
        options = TuneOptions(hyper=self.hyper, port=port, **chosen)
        config = {"plan": self.plan.hash(), **options.config()}
        begun = (folder / "session.json").exists()
        session = (EventfulSession.resume if begun else EventfulSession.create)(folder, config)
        session.events = events or {}
        with session:
            return tune(self.network, self.plan, frames, session, options, source)


def outcome(folder: Path) -> dict[str, Any]:
    """What must not depend on what happened to the link, the board or the host."""
    session = Session.open(folder)
    curve = session.curve()
    results = session.results()
    assert results is not None
    return {
        "weights": _bits(session.weights("after")),
        "losses": [losses.tolist() for losses in curve.losses],
        "steps": curve.step.tolist(),
        "samples": [(step, _bits(sample)) for step, sample in session.samples()],
        "metrics": results["outputs"],
        "source": results.get("source"),
    }


def _bits(arrays: Mapping[str, ArrayLike]) -> dict[str, bytes]:
    return {name: np.asarray(array).tobytes() for name, array in arrays.items()}


def started_boards() -> Iterator[int]:
    """Yield the processes of the firmware that this process has started itself."""
    for path in Path("/proc/self/task").glob("*/children"):
        for child in path.read_text().split():
            if b"firmware.elf" in Path(f"/proc/{child}/cmdline").read_bytes():
                yield int(child)
