"""``fieldtune profile MODEL --board B``: where instructions, time and memory go."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.console import say
from fieldtune.errors import UserError
from fieldtune.files import replacing
from fieldtune.sizes import format_size

if TYPE_CHECKING:
    from ondevice.profile import Profile

NAME = "profile"
HELP = "count the work of every layer on a board"
BAR_CHARACTERS = 20
EIGHTHS = " ▏▎▍▌▋▊▉"
SHORT = {"instructions": "instr", "cycles": "cycles", "ns": "ns"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune profile``."""
    options.add_model(parser)
    options.add_plan(parser)
    parser.add_argument(
        "--train", action="store_true", help="a training step of what --update names, not an inference"
    )
    options.add_port(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the random sample (default 0)")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page with all of it, too")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Build, start, count, print."""
    from ondevice.device import Hyper
    from ondevice.profile import profile
    from ondevice.report_profile import profile_page

    if args.train != (args.update is not None):
        raise UserError(
            "a training step needs both --train and --update LAYERS, an inference neither; "
            "add the one that is missing or leave out the other"
        )
    plan = options.make_plan(args, options.load_model(args))
    hyper = Hyper(lr=1e-3, momentum=args.momentum, clip_norm=args.clip_norm)
    # Opened before minutes of counting, so that a place where nothing can be written is found at once.
    with replacing(args.report) if args.report is not None else contextlib.nullcontext() as report:
        found = profile(plan, args.port, hyper=hyper, seed=args.seed, log=say)
        if report is not None:
            report.write(profile_page(plan, found).encode())
    if args.json:
        print(json.dumps(found.describe(), indent=1))
    else:
        _print(plan.graph.name, found, reserved=plan.board.stack_bytes)
    return 0


def _print(model: str, found: Profile, reserved: int) -> None:
    from ondevice.profile import PHASES

    print(f"{model} on {found.board.name}, one {found.what}")
    _print_layers(found)
    print(f"  all in one go  {found.total:,} {found.unit}")
    if found.trains:
        for phase in PHASES:
            print(f"    {phase:<12} {found.phase_count(phase):,}")
    print(f"  static RAM     {format_size(found.ram_bytes)}")
    print(f"  stack          {format_size(found.stack_bytes)} used of {format_size(reserved)}")
    print(f"  flash          {format_size(found.flash_bytes)}")
    for part, size in found.flash.items():
        print(f"    {part.replace('_', ' '):<14} {format_size(size)}")
    if found.energy_uj is not None:
        print(f"  energy         {found.energy_uj:.1f} µJ, {found.energy_source}")


def _print_layers(found: Profile) -> None:
    unit = SHORT[found.unit]
    width = max(len(layer.name) for layer in found.layers)
    kinds = max(len(layer.op) for layer in found.layers)
    print(
        f"  {'layer':<{width}}  {'operator':<{kinds}}  phase     {'MACs':>12}  {unit:>14}  "
        f"{unit + '/MAC':>10}  share"
    )
    counted = sum(layer.count for layer in found.layers)
    for layer in found.layers:
        each = f"{layer.count / layer.macs:.3f}" if layer.macs else ""
        share = layer.count / counted
        print(
            f"  {layer.name:<{width}}  {layer.op:<{kinds}}  {layer.phase:<8}  {layer.macs:>12,}  "
            f"{layer.count:>14,}  {each:>10}  {share:6.1%}  {_bar(share)}".rstrip()
        )


def _bar(share: float) -> str:
    eighths = round(share * BAR_CHARACTERS * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
