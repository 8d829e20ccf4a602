"""``fieldtune demo``: the main job, end to end, on an emulated board with rendered frames."""

from __future__ import annotations

import argparse
import shutil
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands.options import add_json
from fieldtune.commands.tune import print_results, tune_in_session
from fieldtune.console import say

if TYPE_CHECKING:
    from boards import Board

NAME = "demo"
HELP = "fine-tune our depth network on an emulated Cortex-M7, from boot to report"

BOARD = "mps2_an500"
UPDATE = "decoder0*,ups0*"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune demo``."""
    parser.add_argument("--board", default=BOARD, help=f"another board (default {BOARD})")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("fieldtune-demo"),
        metavar="DIR",
        help="session folder, made anew",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Render, build, boot, train, judge, report."""
    from firmware_gen.project import load_network, plan_network
    from firmware_gen.update import parse_update
    from ondevice.device import Hyper
    from ondevice.session import remove_session
    from ondevice.tune import TuneOptions
    from zoo.scenes import DEMO_SCENE, render

    board = _available(args.board)
    scene = DEMO_SCENE
    with resources.as_file(resources.files("zoo") / "weights" / "upydnet_rendered.onnx") as model:
        network = load_network(model)
        plan = plan_network(network, board, parse_update(UPDATE))
        say(
            f"rendering {scene.train + scene.test} frames of a {scene.domain} that the network has never seen"
        )
        frames = render(scene.domain, scene.seed, scene.train + scene.test)
        remove_session(args.out)
        options = TuneOptions(scene.steps, scene.test, Hyper(scene.lr))
        origin = {"data": f"rendered {scene.domain}, seed {scene.seed}"}
        results = tune_in_session(network, plan, frames, options, args.out, origin)
    print_results(results, as_json=args.json)
    return 0


def _available(name: str) -> Board:
    """Return the board, or `native` when the tools of the default board are not installed."""
    from boards import load_board

    board = load_board(name)
    tools = {f"{board.compiler.prefix}gcc": board.compiler.package}
    if board.emulator:
        tools[board.emulator.program] = board.emulator.package
    missing = [package or program for program, package in tools.items() if not shutil.which(program)]
    if name != BOARD or not missing:
        return board
    say(f"{' and '.join(missing)} not installed: the demo runs the same C as a process on this computer")
    return load_board("native")
