"""``fieldtune search MODEL --data D --board B -o FOLDER``: which layers are int8, and how wide they are."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.console import say
from fieldtune.errors import UserError
from fieldtune.sizes import format_size

if TYPE_CHECKING:
    from quantize.search_result import Result
    from quantize.search_space import Type
    from quantize.search_store import Trial

NAME = "search"
HELP = "search which layers of a float network should be int8, and how wide, for a board"
JSON_FILE, PAGE = "search.json", "search.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune search``."""
    options.add_float_model(parser)
    parser.add_argument("--data", type=Path, required=True, help="labelled frames (docs/your_data.md)")
    parser.add_argument(
        "--board", required=True, help="a name that 'fieldtune boards' lists, or a board file"
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FOLDER", help="what to write the networks to"
    )
    options.add_goals(parser.add_argument_group("limits"))
    parser.add_argument(
        "--max-drop",
        default="100%",
        metavar="DROPS",
        help="by how much losses may grow: 20%%, or disparity=5%%,20%% (default 100%%)",
    )
    choice = parser.add_argument_group("what is chosen")
    choice.add_argument(
        "--types", default="int8,float", help="what layers may be: int8, float or both (default int8,float)"
    )
    choice.add_argument(
        "--keep-float", metavar="LAYERS", help="names or globs of what stays float, such as 'decoder0*'"
    )
    choice.add_argument(
        "--narrowest",
        default="25%",
        metavar="SHARE",
        help="of a group's channels that stay, at least; 100%% leaves the widths alone (default 25%%)",
    )
    search = parser.add_argument_group("search")
    search.add_argument(
        "--trials", type=options.positive, default=60, help="networks to evaluate, at most (60)"
    )
    search.add_argument(
        "--first", type=options.positive, default=30, help="of these, drawn before anything is predicted (30)"
    )
    search.add_argument("--epochs", type=int, default=1, help="of fine-tuning each network (1)")
    search.add_argument("--lr", type=options.not_negative, default=1e-3, help="Adam's learning rate (1e-3)")
    search.add_argument(
        "--samples", type=options.positive, default=64, metavar="N", help="frames to calibrate with (64)"
    )
    search.add_argument(
        "--test", type=int, default=0, metavar="N", help="the last N frames only judge the result (0)"
    )
    search.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    search.add_argument("--jobs", type=options.positive, default=1, help="processes (1)")
    search.add_argument(
        "--storage",
        metavar="FILE|URL",
        help="where what was evaluated is kept, to go on from (default: search.journal in the folder); a "
        "data base serves several machines",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Search, write, report."""
    options.require("search", ("torch", "torch_pruning", "onnxruntime", "optuna"))
    from boards import load_board
    from fieldtune.files import replacing
    from firmware_gen.update import parse_update
    from ondevice.report_search import search_page
    from quantize.prune_goals import parse_drops
    from quantize.search import Options, search_network
    from zoo.frames import open_frames

    for name in ("test", "epochs", "seed"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name} {getattr(args, name)} is no number from 0 up")
    network = options.load_float_model(args)
    drops = parse_drops(args.max_drop, network.task)
    points = [name for name, drop in drops.items() if drop.points]
    if points:
        raise UserError(f"the search predicts losses; give --max-drop of '{points[0]}' in %, not in points")
    chosen = Options(
        load_board(args.board),
        options.goals(args),
        drops,
        parse_update(args.update),
        _types(args.types),
        args.keep_float,
        _share(args.narrowest),
        args.trials,
        args.first,
        args.epochs,
        args.lr,
        args.samples,
        args.test,
        args.seed,
        args.jobs,
        args.storage,
    )
    # Opened first: that nothing can be written there must not be found after minutes of work.
    with replacing(args.out / JSON_FILE) as stream, replacing(args.out / PAGE) as page:
        result = search_network(network, open_frames(args.data), chosen, args.out)
        described = {"model": network.graph.name, "board": chosen.board.id, "out": str(args.out)}
        described |= {"max_drop": {name: drop.value for name, drop in drops.items()}} | result.describe()
        stream.write(json.dumps(described, indent=1).encode() + b"\n")
        page.write(search_page(described).encode())
    if args.json:
        print(json.dumps(described, indent=1))
    else:
        print(_table(result))
    if not result.points:
        raise UserError(
            f"none of the {len(result.trials)} networks keeps the limits and --max-drop {args.max_drop}; "
            f"allow more, or give more --trials; {args.out / JSON_FILE} tells what each takes and loses"
        )
    if result.correlation is not None:
        say(f"predicted and measured losses agree in rank by {result.correlation:.2f} (1: wholly)")
    say(f"wrote {len(result.points)} networks, {JSON_FILE} and {PAGE} to {args.out}")
    return 0


def _types(text: str) -> tuple[Type, ...]:
    from quantize.search_space import TYPES

    given = [part.strip() for part in text.split(",")]
    if not set(given) <= set(TYPES):
        raise UserError(
            f"--types {text}: layers can be int8 or float; there is no kernel for weights of fewer bits"
        )
    return tuple(kind for kind in TYPES if kind in given)


def _share(text: str) -> float:
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = -1.0
    if not 0 < share <= 1 or "%" not in text:
        raise UserError(f"--narrowest {text} is no share such as 25%, above 0 % and up to 100 %")
    return share


def _table(result: Result) -> str:
    """Return the points, and the network as given in both types, as lines of text."""
    rows = [("", "worst loss", "RAM", "flash", "instructions", "float", "losses")]
    for kind, trial in result.references.items():
        rows.append((f"as given, {kind}", *_numbers(trial), "", _losses(trial.losses)))
    for point in result.points:
        floats = f"{len(point.float_layers)} layers"
        rows.append((point.file, *_numbers(point.trial), floats, _losses(point.trial.losses)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _numbers(trial: Trial) -> tuple[str, str, str, str]:
    costs = trial.costs
    work = f"{costs.instructions / 1e6:.2f} M" if costs.instructions else "-"
    ram, flash = format_size(int(costs.of("ram"))), format_size(costs.flash)
    return f"{math.exp(trial.growth):.1%}", ram, flash, work


def _losses(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
