"""``fieldtune collect --board B --frames N -o FOLDER``: record what the board's own sensors see."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.console import progress, say
from fieldtune.errors import LinkError, UserError

if TYPE_CHECKING:
    from boards import Board
    from ondevice.device import Device
    from ondevice.field import FieldBoard
    from zoo.frames import Frame, Frames
    from zoo.loaders.parts import Parts
    from zoo.tof import TofGeometry

NAME = "collect"
HELP = "record camera and depth sensor of a board, in a folder that tune --data reads"
PART = 25  # frames a file: what is lost at most when this process is killed
ASK_AGAIN_S = 0.02
GIVE_UP_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune collect``."""
    parser.add_argument(
        "--board", required=True, help="a name that 'fieldtune boards' lists, or a board file"
    )
    parser.add_argument("--port", help="serial port of a board with a firmware that was built with --buffer")
    parser.add_argument(
        "--recording", type=Path, metavar="FRAMES", help="without --port: what the emulated sensors see"
    )
    parser.add_argument(
        "--frames", type=options.positive, required=True, help="frames in the folder at the end"
    )
    parser.add_argument(
        "--size",
        type=options.positive,
        default=48,
        help="rows and columns of emulated frames; a real board has its network's (default 48)",
    )
    parser.add_argument(
        "--geometry", type=Path, metavar="FRAMES", help="of the depth sensor, as these frames state it"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder of the frames")
    parser.add_argument("--resume", action="store_true", help="go on behind the frames that are in -o")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Open the board, take frame after frame; Ctrl-C leaves a folder that can be read."""
    from zoo.frames import open_frames
    from zoo.loaders.parts import Parts

    if (args.port is None) == (args.recording is None):
        raise UserError("name the board's --port, or give --recording FRAMES for emulated sensors")
    seen = None if args.recording is None else open_frames(args.recording)
    geometry = _geometry(args.geometry, seen)
    parts = Parts(args.out, geometry, PART)
    if parts.count and not args.resume:
        raise UserError(
            f"{args.out} has {parts.count} frames already; go on with --resume or choose another -o"
        )
    if parts.count >= args.frames:
        say(f"{args.out} has {parts.count} frames")
        return 0
    try:
        with _opened(args, None if seen is None else seen[parts.count :]) as board:
            for _ in progress(range(args.frames - parts.count), "collecting"):
                parts.add(_next_frame(board))
    except KeyboardInterrupt:
        raise UserError(f"stopped by Ctrl-C after {parts.count} frames; go on with --resume") from None
    finally:
        parts.flush()
    _print(args, parts)
    return 0


def _print(args: argparse.Namespace, parts: Parts) -> None:
    if args.json:
        print(json.dumps({"frames": parts.count, "out": str(args.out)}))
    else:
        print(f"{parts.count} frames in {args.out}; learn from them with: fieldtune tune --data {args.out}")


def _geometry(stated: Path | None, seen: Frames | None) -> TofGeometry:
    from zoo.frames import open_frames
    from zoo.tof import TofGeometry

    if stated is not None:
        return open_frames(stated).geometry
    return TofGeometry() if seen is None else seen.geometry


def _next_frame(board: FieldBoard) -> Frame:
    """Wait until the sensors have something new, and read it."""
    from firmware_gen import protocol
    from ondevice.link import RefusedError

    end = time.monotonic() + GIVE_UP_S
    while True:
        try:
            return board.sample(board.take().samples - 1)
        except RefusedError as error:
            if error.refusal is not protocol.NOTHING_NEW:
                raise
            if time.monotonic() > end:
                raise LinkError(
                    f"the board's sensors have shown nothing new for {GIVE_UP_S:g} s; check that they are "
                    "connected, then continue with --resume"
                ) from error
            time.sleep(ASK_AGAIN_S)


@contextlib.contextmanager
def _opened(args: argparse.Namespace, seen: Frames | None) -> Iterator[FieldBoard]:
    from boards import load_board
    from ondevice.device import Device
    from ondevice.field import FieldBoard
    from ondevice.workbench import ANY_BAUD

    board = load_board(args.board)
    if args.port is not None:
        baud = board.serial.baud if board.serial else ANY_BAUD
        with Device.open(args.port, baud=baud, log=say) as device:
            yield FieldBoard(device)
        return
    assert seen is not None
    with (
        tempfile.TemporaryDirectory(prefix="fieldtune-") as folder,
        _emulated(board, seen, Path(folder), args.size) as device,
    ):
        yield FieldBoard(device)


@contextlib.contextmanager
def _emulated(board: Board, seen: Frames, folder: Path, size: int) -> Iterator[Device]:
    """Start a firmware that is there to record: a buffer for one sample, and a network that does not run."""
    from firmware_gen.field import Buffer
    from firmware_gen.project import load_network, plan_network
    from firmware_gen.update import parse_update
    from ondevice.recording import write_camera_model, write_recording
    from ondevice.workbench import open_board

    write_camera_model(folder / "camera.onnx", size, size)
    network = load_network(folder / "camera.onnx")
    plan = plan_network(network, board, parse_update("depth"), buffer=Buffer(1))
    write_recording(folder / "recording.bin", seen)
    with open_board(plan, folder / "firmware", log=say, recording=folder / "recording.bin") as device:
        yield device
