"""A board at work: firmware built from a plan, started where that can be done, and opened as a Device."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import boards
from boards import Running, load_board
from boards.flashing import Job, Shell, flash, runner_of
from fieldtune.console import detail, say
from fieldtune.errors import BoardError, LinkError, OtherFirmwareError, SilentError
from firmware_gen.plan import Plan, keeps_gradients, make_plan
from firmware_gen.project import write_project
from ondevice.device import Array, Device

ANY_BAUD = 115200  # where the port is no real line
END_SECONDS = 0.5  # a process that is gone is known to be


@contextlib.contextmanager
def open_board(
    plan: Plan,
    project: Path,
    port: str | None = None,
    log: Callable[[str], None] | None = None,
    recording: Path | None = None,
) -> Iterator[Device]:
    """Write the C project for `plan`, build it, start it and yield the open Device.

    With `port` the board is taken as it is; nothing is built. Where a board cannot be started here, the one
    that is connected is taken, and flashed if it does not run this plan's firmware. A board that is started
    shows the frames of `recording` to its firmware (`ondevice.recording`).

    Raises:
        BoardError: a tool is missing, the build fails, no board (or several) is there, it cannot be flashed,
            or the one at `port` runs another firmware.
        LinkError: the port cannot be opened or does not answer.
    """
    if port is not None or not plan.board.runs_in:
        with connect(plan, project, port, log) as device:
            yield device
        return
    with _started(plan, _built(plan, project), log, recording) as device:
        yield device


def connect(plan: Plan, project: Path, port: str | None, log: Callable[[str], None] | None = None) -> Device:
    """Open a board that is not started here: the one at `port` as it is, or the one that is connected.

    The latter is flashed where it does not run the firmware of `plan`, which is built in `project` then.

    Raises:
        BoardError: no board (or several) is connected, it cannot be flashed, or the one at `port` runs
            another firmware.
        LinkError: the port cannot be opened or does not answer.
    """
    board = plan.board
    if port is not None:
        return _opened(plan, port, log)
    found = boards.find_port(board)
    try:
        return _opened(plan, found, log)
    except (OtherFirmwareError, SilentError) as error:
        if not board.port or not board.flash_runners:  # the user's own firmware around our component
            raise
        detail(str(error))
    say(f"the board at {found} has not this plan's firmware yet")
    elf = _built(plan, project)
    came_back = flash(runner_of(board, None), Job(board, elf, Shell()))
    return _opened(plan, came_back or found, log)


def _opened(plan: Plan, port: str, log: Callable[[str], None] | None) -> Device:
    serial = plan.board.serial
    return Device.open(
        port,
        baud=serial.baud if serial else ANY_BAUD,
        plan_hash=plan.hash(),
        log=log,
        initial=first_values(plan),
    )


def first_values(plan: Plan) -> dict[str, Array] | None:
    """Return what learns, its state and its ranges as they are at first; None if the firmware has them."""
    if plan.keeps_initial:
        return None
    graph = plan.graph
    values: dict[str, Array] = {
        name: graph.constants[name].value.reshape(graph.learned(name).shape) for name in graph.trained
    }
    for name, tensor in graph.state.items():
        if not name.startswith("gradient."):  # which are cleared when nothing has been accumulated
            values[name] = np.zeros(tensor.shape, np.int32 if tensor.dtype == "i32" else np.float32)
    if keeps_gradients(graph):
        values["accumulated"] = np.zeros((1, 1, 1), np.int32)
    for name, moving in graph.ranges.items():
        values[f"range.{name}"] = np.array([[[moving.low, moving.high]]], np.float32)
    return values


@contextlib.contextmanager
def open_boards(plan: Plan, project: Path, count: int) -> Iterator[list[Device]]:
    """Yield `count` boards that were started with the same firmware; see `open_board`."""
    elf = _built(plan, project)
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(_started(plan, elf)) for _ in range(count)]


def _built(plan: Plan, project: Path) -> Path:
    """Write and build the project; return the firmware's file."""
    write_project(plan, project)
    say(f"building firmware for {plan.board.id}")
    firmware = boards.build(project, plan.board)
    detail(f"{firmware.elf}: {firmware.flash_bytes:,} B flash, {firmware.ram_bytes:,} B static RAM")
    return firmware.elf


@contextlib.contextmanager
def _started(
    plan: Plan,
    elf: Path,
    log: Callable[[str], None] | None = None,
    recording: Path | None = None,
) -> Iterator[Device]:
    with boards.start(elf, plan.board, recording=recording) as running:
        try:
            initial = first_values(plan)
            with Device.open(running.url, plan_hash=plan.hash(), log=log, initial=initial) as device:
                yield device
        except LinkError as error:
            if not _has_ended(running):
                raise
            raise BoardError(
                f"the firmware that was started for {plan.board.id} has ended{_last_words(running)}; "
                "start it again, with --resume if training had begun"
            ) from error


@contextlib.contextmanager
def open_twin(
    plan: Plan, device: Device, log: Callable[[str], None] | None = None
) -> Iterator[tuple[Device, Plan]]:
    """Yield board `native` with the same network, and its plan: it gives the bits of `device`, and faster.

    Without a compiler for it, `device` itself is yielded, and `plan`.
    """
    native = load_board("native")
    if plan.board.id == native.id or not boards.has_compiler(native):
        yield device, plan
        return
    twin = make_plan(plan.graph, native)
    with (
        tempfile.TemporaryDirectory(prefix="fieldtune-") as folder,
        open_board(twin, Path(folder) / "native", log=log) as opened,
    ):
        yield opened, twin


def _has_ended(running: Running) -> bool:
    """Tell whether the process has ended, which the system knows a moment after its terminal is gone."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.process.wait(END_SECONDS)
    return not running.alive()


def _last_words(running: Running) -> str:
    *_, line = running.last_words().strip().split("\n")
    return f" ({line})" if line else ""
