"""Firmware at work on this computer: as a process, or on an emulated board."""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from boards.board import Board, Emulator
from fieldtune.errors import BoardError

RECORDING = "FIELDTUNE_RECORDING"  # where the port `native` finds the file
START_SECONDS = 20.0  # a loaded computer takes its time; an answer normally comes within 0.1 s


@dataclass(frozen=True)
class Running:
    """A started firmware; `url` is what pyserial opens."""

    url: str
    process: "subprocess.Popen[bytes]"

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """Return what the process has printed since it started: a sanitizer's or the emulator's complaint."""
        assert self.process.stdout is not None
        printed = b""
        while select.select([self.process.stdout], [], [], 0)[0]:
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                break
            printed += chunk
        return printed.decode(errors="replace")

    def kill(self) -> None:
        """End it at once, as pulling the plug would."""
        _kill(self.process)
        self.process.wait()


@contextlib.contextmanager
def start(
    firmware_elf: Path, board: Board, *, icount: int | None = None, recording: Path | None = None
) -> Iterator[Running]:
    """Start `firmware_elf` and yield it; it is gone when the block ends, however it ends.

    With ``icount=N`` an emulated board takes 2^N ns of its own time for every instruction, so that its ticks
    count instructions: ``ticks * 1e9 / (ticks_hz * 2**N)``. `recording` is what the board's camera and depth
    sensor show (`ondevice.recording`). Call it from a thread that outlives the firmware:
    the system ends the firmware together with the thread that started it. What a host sends before the
    firmware has set up its UART is lost, as on any board.

    Raises:
        BoardError: the board cannot be started here, its emulator is missing, or nothing starts.
    """
    with contextlib.ExitStack() as cleanup:
        scratch = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="fieldtune-"))
        command = [*_command(firmware_elf, board, icount, scratch), *_loads(board, recording)]
        line = _open_line(cleanup) if "gvsoc" in board.runs_in else None
        process = subprocess.Popen(
            [*_die_with_parent(), *command],
            stdin=subprocess.DEVNULL if line is None else line.board_end,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | ({} if recording is None else {RECORDING: str(recording.resolve())}),
            start_new_session=True,  # Ctrl-C is the host's, which may still want to talk to the board
        )
        cleanup.enter_context(process)
        cleanup.callback(_kill, process)
        if line is not None:
            os.close(line.board_end)  # the simulator's own: without it the line is dead, as a host shall see
            _await_program(process, line.host_end, board)
            device = line.device
        else:
            device = _device(process, board)
            # Held open, so that the terminal never hangs up when a host closes it: QEMU would take up to a
            # second to notice the next host.
            held = _opened(device, process, board)
            cleanup.callback(os.close, held)
            tty.setraw(held)
        yield Running(url=device, process=process)


@dataclass(frozen=True)
class _Line:
    """A terminal whose other end is the board's standard input: it both reads and writes there."""

    board_end: int
    host_end: int
    device: str


def _open_line(cleanup: contextlib.ExitStack) -> _Line:
    """Return a terminal that is there as long as `cleanup`; whoever takes the board's end closes it.

    Its board's end never blocks: a simulator that waits for a byte in a system call simulates nothing.
    """
    board_end, host_end = os.openpty()
    cleanup.callback(os.close, host_end)
    tty.setraw(host_end)
    os.set_blocking(board_end, False)
    return _Line(board_end, host_end, os.ttyname(host_end))


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process and those that it has started; GVSOC's program is a script that starts the simulator."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _command(elf: Path, board: Board, icount: int | None, scratch: str) -> list[str]:
    """Return what starts `elf`; `scratch` is a folder for what a simulator writes."""
    if not elf.is_file():
        raise BoardError(f"there is no firmware {elf}; build it first")
    if not board.runs_in:
        raise BoardError(f"board {board.id} is not emulated; connect it and name its port with --port")
    if icount is not None and "qemu" not in board.runs_in:
        raise BoardError(
            f"board {board.id} counts no instructions; take an emulated board such as mps2_an500"
        )
    if "process" in board.runs_in:
        return [str(elf.resolve())]
    assert board.emulator is not None
    command = [_program(board, board.emulator), *board.emulator.arguments]
    if "gvsoc" in board.runs_in:
        return [*command, "--binary", str(elf.resolve()), "--work-dir", scratch, "image", "flash", "run"]
    command += ["-kernel", str(elf), "-serial", "pty"]
    command += ["-display", "none", "-monitor", "none"]
    return command if icount is None else [*command, "-icount", f"shift={icount}"]


def _program(board: Board, emulator: Emulator) -> str:
    program = shutil.which(emulator.program)
    if program is None:
        raise BoardError(
            f"the emulator {emulator.program} for board {board.id} is not installed; {emulator.install}"
        )
    return program


def recording_address(board: Board) -> int:
    """Return where the emulator loads what the board's sensors show; 0: a process opens the file itself.

    Raises:
        BoardError: its sensors show no recordings.
    """
    if board.sensors is None or board.sensors.recording is None:
        raise BoardError(f"board {board.id} shows no recorded frames; take native or mps2_an500")
    return board.sensors.recording


def _loads(board: Board, recording: Path | None) -> list[str]:
    """Return the emulator's arguments for a recording."""
    if recording is None:
        return []
    address = recording_address(board)
    if not address:
        return []
    at = f"addr={address:#x},force-raw=on"
    return ["-device", f"loader,file={recording.resolve()},{at}"]


def _die_with_parent() -> list[str]:
    """Return the words before a command that end it when this process is killed (util-linux)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def _device(process: "subprocess.Popen[bytes]", board: Board) -> str:
    """Return the terminal's path, which both the native port and QEMU print when they have it."""
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    printed = b""
    while chunk := _read_until(process.stdout.fileno(), deadline):
        printed += chunk
        found = re.search(rb"(/dev/pts/\d+)\s", printed)
        if found:
            return found[1].decode()
    raise _does_not_start(printed, board)


def _await_program(process: "subprocess.Popen[bytes]", line: int, board: Board) -> None:
    """Wait for the byte with which port pulp_open says that it runs; it means nothing to the link."""
    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    printed = b""
    streams = [line, process.stdout.fileno()]
    while ready := select.select(streams, [], [], max(0.0, deadline - time.monotonic()))[0]:
        if process.stdout.fileno() in ready:
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:  # it has ended, and the line's other end with it
                break
            printed += chunk
        elif os.read(line, 1):
            return
    raise _does_not_start(printed, board)


def _read_until(stream: int, deadline: float) -> bytes:
    """Return what has come by then; nothing at the stream's end, or if nothing has."""
    ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
    return os.read(stream, 4096) if ready else b""


def _opened(device: str, process: "subprocess.Popen[bytes]", board: Board) -> int:
    """Open the terminal, which is gone if the firmware has ended right after it named it."""
    try:
        return os.open(device, os.O_RDWR | os.O_NOCTTY)
    except FileNotFoundError as error:
        raise _does_not_start(process.communicate()[0], board) from error


def _does_not_start(printed: bytes, board: Board) -> BoardError:
    reason = printed.decode(errors="replace").strip() or "it printed nothing"
    return BoardError(f"the firmware for board {board.id} does not start: {reason}")
