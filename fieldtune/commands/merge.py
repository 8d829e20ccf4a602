"""``fieldtune merge BASE A B --data D -o OUT``: one network from several that were tuned from the same."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.console import say
from fieldtune.errors import UserError

if TYPE_CHECKING:
    from quantize.merge import Result

NAME = "merge"
HELP = "make one float network of several that were tuned from the same, layer by layer, by labelled frames"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune merge``."""
    parser.add_argument(
        "base", type=Path, metavar="BASE", help="the float ONNX file that the others were tuned from"
    )
    parser.add_argument(
        "networks",
        type=Path,
        nargs="+",
        metavar="TUNED",
        help="float ONNX files, such as a session's tuned.onnx",
    )
    parser.add_argument(
        "--task",
        type=Path,
        metavar="FILE",
        help="what the inputs and outputs of all mean (default: NAME.task.toml or the files' own)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        nargs="+",
        metavar="FRAMES",
        help="labelled frames (docs/your_data.md) of the places where the network shall work",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument(
        "--granularity",
        choices=("layer", "task"),
        default="layer",
        help="a coefficient for each network in each layer, or one for each network (default layer)",
    )
    parser.add_argument("--steps", type=options.positive, default=200, help="of 16 frames (default 200)")
    parser.add_argument("--lr", type=options.not_negative, default=0.01, help="Adam's learning rate (0.01)")
    parser.add_argument(
        "--test", type=int, default=0, metavar="N", help="the last N frames of each FRAMES only judge (0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of the frames (0)")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Merge, write, report."""
    _require()
    from fieldtune.files import replacing
    from quantize.float_network import read_network
    from quantize.merge import Options, merge_networks
    from zoo.frames import open_frames

    for name in ("test", "seed"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name} {getattr(args, name)} is no number from 0 up")
    for paths in ([args.base, *args.networks], args.data):
        if twice := [path for k, path in enumerate(paths) if path in paths[:k]]:
            raise UserError(f"{twice[0]} is given twice; name every file once")
    # Opened first: that nothing can be written there must not be found after minutes of work.
    with replacing(args.out) as stream:
        result = merge_networks(
            read_network(args.base, args.task),
            {str(path): read_network(path, args.task) for path in args.networks},
            {str(path): open_frames(path) for path in args.data},
            Options(args.granularity, args.steps, args.lr, args.test, args.seed),
        )
        stream.write(result.model)
    if args.json:
        print(json.dumps({**result.describe(), "out": str(args.out)}, indent=1))
    _say(result, args)
    return 0


def _require() -> None:
    try:
        importlib.import_module("torch")
    except ImportError as error:
        raise UserError("merge needs torch: pip install 'fieldtune[torch]'") from error


def _say(result: Result, args: argparse.Namespace) -> None:
    width = max(len(name) for name in result.coefficients)
    say("coefficients of " + ", ".join(map(str, args.networks)))
    for layer, row in result.coefficients.items():
        say(f"  {layer:<{width}}  " + "  ".join(f"{value:.2f}" for value in row))
    for data, rows in result.scores.items():
        say(f"losses on the last {args.test} frames of {data}" if args.test else f"losses on {data}")
        width = max(len(name) for name in rows)
        for network, outputs in rows.items():
            losses = "  ".join(f"{output} {score.loss:.4g}" for output, score in outputs.items())
            say(f"  {network:<{width}}  {losses}")
    say(f"wrote {args.out}: {len(result.model):,} bytes")
