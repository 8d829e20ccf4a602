"""``fieldtune alone MODEL --board B --buffer N --update LAYERS``: the board learns without a host."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.commands import options
from fieldtune.commands.tune import print_outputs
from fieldtune.console import say
from fieldtune.errors import UserError

if TYPE_CHECKING:
    from firmware_gen.plan import Plan
    from firmware_gen.project import Network
    from ondevice.alone import DepthPower
    from ondevice.device import Device
    from ondevice.field import Progress, Work
    from zoo.frames import Frames

NAME = "alone"
HELP = "let the board collect frames and learn from them on its own, without a host"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune alone``."""
    options.add_model(parser)
    options.add_plan(parser)
    parser.add_argument(
        "--port", help="serial port of a board that runs the firmware (default: the emulator)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FRAMES",
        help="the last --test judge what was learned; an emulated board's sensors show the others",
    )
    parser.add_argument("--test", type=int, default=50, help="last frames, held out to judge by (default 50)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds, 0: on and on (default 1)")
    parser.add_argument(
        "--frames", type=options.positive, help="that a round takes before it learns (default: the buffer)"
    )
    parser.add_argument("--epochs", type=options.positive, default=1, help="of a round (default 1)")
    parser.add_argument(
        "--validate-every",
        type=int,
        default=5,
        metavar="M",
        help="set each M-th frame aside: a round that they do not approve of is undone; 0: none (default 5)",
    )
    parser.add_argument(
        "--watch",
        metavar="OFF:ON",
        help="switch the depth sensor off when the drift falls below OFF, and on when it rises above ON",
    )
    parser.add_argument(
        "--depth-power",
        metavar="MW@FPS",
        help="what the depth sensor takes, and pictures a second: estimates the energy that --watch saves",
    )
    parser.add_argument("--lr", type=options.not_negative, help="learning rate (default 0.01; adam 0.001)")
    parser.add_argument("--weight-decay", type=options.not_negative, default=0.0, help="weight decay")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--start", action="store_true", help="with --port: set the board to work and leave")
    what.add_argument("--ask", action="store_true", help="with --port: tell how far the board is, and leave")
    what.add_argument("--stop", action="store_true", help="with --port: end the work, fetch what was learned")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="folder for weights and results"
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Check everything that can be checked, then do what was asked for."""
    from ondevice.alone import DepthPower, check_work
    from ondevice.field import Work
    from zoo.frames import open_frames

    if args.buffer is None:
        raise UserError("without a host the board needs room for samples; give --buffer N")
    if (args.start or args.ask or args.stop) and args.port is None:
        raise UserError("--start, --ask and --stop are for a board that stays on; name its --port")
    if min(args.rounds, args.validate_every, args.test) < 0:
        raise UserError("--rounds, --validate-every and --test take numbers from 0 up")
    frames = None if args.data is None else open_frames(args.data)
    if frames is None and args.port is None:
        raise UserError("an emulated board has no sensors of its own; give it frames to see with --data")
    power = _pair(args.depth_power, "@", "--depth-power")
    depth = None if power is None else DepthPower(*power)
    network = options.load_model(args)
    plan = options.make_plan(args, network)
    off, on = _pair(args.watch, ":", "--watch") or (0.0, 0.0)
    work = Work(
        args.rounds, args.frames or args.buffer, args.validate_every, args.epochs, drift_on=on, drift_off=off
    )
    shown = None if args.port or frames is None else frames[: max(0, len(frames) - args.test)]
    check_work(work, plan, shown)
    found = _done(args, network, plan, work, frames, shown, depth)
    _print(found, as_json=args.json)
    return 0


def _pair(text: str | None, between: str, option: str) -> tuple[float, float] | None:
    """Return the two numbers in `text`, which are separated by `between`."""
    if text is None:
        return None
    first, _, second = text.partition(between)
    try:
        return options.not_negative(first), options.above_zero(second)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise UserError(f"{option} is {text}; give two numbers, such as 2{between}4") from error


def _done(
    args: argparse.Namespace,
    network: Network,
    plan: Plan,
    work: Work,
    frames: Frames | None,
    shown: Frames | None,
    depth: DepthPower | None,
) -> dict[str, Any]:
    from ondevice.alone import bring_home, send_off, wait_for
    from ondevice.evaluation import Evaluation
    from ondevice.field import FieldBoard

    evaluation, seen = None, 0
    if frames is not None and 0 < args.test < len(frames) and not (args.start or args.ask):
        cut = len(frames) - args.test
        seen = cut if work.drift_off else min(cut, work.rounds * work.frames or cut)
        evaluation = Evaluation(network.needed_task(), plan.graph, frames[:cut], frames[cut:])
    with _opened(args, plan, shown) as device:
        board = FieldBoard(device)
        if args.ask:
            return _plain(board.progress())
        if args.stop:
            board.stop()
        else:
            if args.port is None:
                device.reset_weights()  # an emulated board's flash may hold what an earlier run has learned
            send_off(device, options.hyper(args), work)
            say("the board is on its own")
            if args.start:
                return {"phase": "started"}
            wait_for(device, None if shown is None else len(shown))
        return bring_home(network, plan, device, args.out, evaluation, seen, depth)


@contextlib.contextmanager
def _opened(args: argparse.Namespace, plan: Plan, shown: Frames | None) -> Iterator[Device]:
    from boards.running import recording_address
    from ondevice.recording import write_recording
    from ondevice.workbench import open_board

    recording = None
    if shown is not None:
        recording_address(plan.board)  # before anything is built
        recording = args.out / "recording.bin"
        write_recording(recording, shown)
    try:
        with open_board(plan, args.out / "firmware", args.port, say, recording) as device:
            yield device
    finally:
        if recording is not None:
            recording.unlink(missing_ok=True)


def _plain(progress: Progress) -> dict[str, Any]:
    return dict(vars(progress))


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=1))
        return
    if "round" not in found:
        return
    print(
        f"{found['phase']}; {found['round']} rounds, {found['learned']} steps on {found['samples']} samples"
    )
    print(f"  {found['improved']} rounds made it better, {found['undone']} were undone")
    if found["watched"]:
        print(f"  depth sensor off in {found['watched']} pictures, {100 * found.get('sensor_off', 0):.0f} %")
    if "saved_j_estimate" in found:
        print(f"  which saved {found['saved_j_estimate']:g} J (estimate)")
    for number, pair in enumerate(found.get("rounds", []), 1):
        print(f"  round {number}: validation loss {pair['before']:.4f} before, {pair['after']:.4f} after")
    print_outputs(found.get("judged", {}).get("outputs", {}))
