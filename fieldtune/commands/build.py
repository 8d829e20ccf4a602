"""``fieldtune build MODEL --board B -o DIR``: the C project and its firmware."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fieldtune.commands import options
from fieldtune.console import say

NAME = "build"
HELP = "generate the C project of a network for a board and compile it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune build``."""
    options.add_model(parser)
    options.add_plan(parser)
    options.add_mlperf(parser)
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="folder of the C project"
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, write, compile, measure."""
    import boards
    from firmware_gen.project import write_project

    plan = options.make_plan(args, options.load_model(args), args.mlperf)
    write_project(plan, args.out)
    firmware = boards.build(args.out, plan.board)
    say(f"wrote {firmware.elf}: {firmware.flash_bytes:,} B flash, {firmware.ram_bytes:,} B static RAM")
    if args.json:
        sizes = {"flash_bytes": firmware.flash_bytes, "ram_bytes": firmware.ram_bytes}
        print(json.dumps({"elf": str(firmware.elf), "map": str(firmware.map), **sizes}))
    return 0
