"""``fieldtune prune MODEL --data D --board B --keep-... -o OUT``: a float network becomes a narrower one."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.console import say
from fieldtune.errors import UserError
from fieldtune.sizes import format_size

if TYPE_CHECKING:
    from quantize.prune import Result

NAME = "prune"
HELP = "remove channels from a float network until it keeps a board's budget"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune prune``."""
    options.add_float_model(parser)
    parser.add_argument("--data", type=Path, required=True, help="labelled frames (docs/your_data.md)")
    parser.add_argument(
        "--board", required=True, help="a name that 'fieldtune boards' lists, or a board file"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="the ONNX file to write")
    goals = parser.add_argument_group("goals, of the network in int8; one at least")
    options.add_goals(goals)
    goals.add_argument(
        "--max-drop",
        default="3%",
        metavar="DROPS",
        help="how much worse outputs may get: disparity=2%%,segments=1pt (of the loss, or points of mIoU or "
        "accuracy); 3%% alone is for all others (default 3%%)",
    )
    search = parser.add_argument_group("search")
    search.add_argument(
        "--method",
        choices=("pagcp", "l1", "uniform"),
        default="pagcp",
        help="which channels go: by what tasks lose (pagcp), the smallest filters (l1), the same share "
        "everywhere (uniform)",
    )
    search.add_argument("--rounds", type=options.positive, default=4, help="steps, at most (4)")
    search.add_argument("--epochs", type=int, default=5, help="of fine-tuning after each step (5)")
    search.add_argument(
        "--final-epochs", type=int, default=0, metavar="N", help="of fine-tuning after the last step (0)"
    )
    search.add_argument(
        "--augment",
        default="",
        metavar="WAYS",
        help="show frames in fine-tuning by chance mirrored, in other colours, or both: mirror,colour",
    )
    search.add_argument("--lr", type=options.not_negative, default=1e-3, help="Adam's learning rate (1e-3)")
    search.add_argument(
        "--test", type=int, default=0, metavar="N", help="the last N frames only judge the result (0)"
    )
    search.add_argument("--seed", type=int, default=0, help="of the order of the frames (0)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="an HTML page to write")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prune, write, report."""
    options.require("prune", ("torch", "torch_pruning"))
    from boards import load_board
    from fieldtune.files import replacing
    from firmware_gen.update import parse_update
    from ondevice.report_pruning import pruning_page
    from quantize.prune import Options, prune_network
    from quantize.prune_goals import parse_drops
    from zoo.frames import open_frames

    for name in ("test", "epochs", "final_epochs", "seed"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)} is no number from 0 up")
    if args.lr > 1:
        raise UserError(f"--lr {args.lr:g} is above 1: Adam would move every weight by that much a step")
    augment = _augment(args.augment)
    network = options.load_float_model(args)
    chosen = Options(
        load_board(args.board),
        options.goals(args),
        parse_drops(args.max_drop, network.task),
        parse_update(args.update),
        args.method,
        args.rounds,
        args.epochs,
        args.final_epochs,
        args.lr,
        "mirror" in augment,
        "colour" in augment,
        args.test,
        args.seed,
    )
    # Opened first: that nothing can be written there must not be found after minutes of work.
    with (
        replacing(args.out) as stream,
        replacing(args.report) if args.report is not None else contextlib.nullcontext() as page,
    ):
        result = prune_network(network, open_frames(args.data), chosen)
        stream.write(result.model)
        described = {"model": network.graph.name, "board": chosen.board.id, "method": args.method}
        described |= result.describe()
        if page is not None:
            page.write(pruning_page(described).encode())
    if args.json:
        print(json.dumps(described | {"out": str(args.out)}, indent=1))
    _say(result, args)
    if result.missed:
        raise UserError(_shortfall(result, args))
    return 0


def _augment(text: str) -> set[str]:
    found = set(text.split(",")) if text else set()
    if unknown := sorted(found - {"mirror", "colour"}):
        raise UserError(f"--augment {text}: {unknown[0]!r} is neither mirror nor colour")
    return found


def _say(result: Result, args: argparse.Namespace) -> None:
    before, after = result.costs
    width = max(len(name) for name in result.layers)
    for name, (was, now) in result.layers.items():
        say(f"  {name:<{width}}  {was:4} -> {now:4} channels")
    say(f"RAM {format_size(int(before.of('ram')))} -> {format_size(int(after.of('ram')))}")
    say(f"flash, by estimate, {format_size(before.flash)} -> {format_size(after.flash)}")
    if before.instructions:
        say(
            f"instructions, by estimate, {before.instructions / 1e6:.2f} M -> "
            f"{after.instructions / 1e6:.2f} M ({after.instructions / before.instructions:.1%})"
        )
    for name, (was_score, now_score) in result.scores.items():
        lost = result.drops[name].text(result.lost[name])
        say(f"{name}: loss {was_score.loss:.4g} -> {now_score.loss:.4g}, worse by {lost}")
    say(f"wrote {args.out}: {len(result.model):,} bytes")


def _shortfall(result: Result, args: argparse.Namespace) -> str:
    """Return what was not reached, and what was."""
    after = result.costs[1]
    parts = [
        f"{name} {after.of(name):,.0f} instead of {result.goals.limits[name]:,.0f}"
        for name in result.missed
        if name in result.goals.limits
    ]
    parts += [
        f"'{name}' worse by {result.drops[name].text(result.lost[name])}"
        for name in result.missed
        if name in result.drops
    ]
    return (
        f"the goals are not reached within --max-drop {args.max_drop} ({', '.join(parts)}); {args.out} holds "
        "the smallest network that kept the drops on the held-out frames: allow more, or give more --epochs, "
        "--rounds or frames"
    )
