"""``fieldtune build MODEL --board B -o DIR``: the C project and its firmware, or a part of the user's own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.console import say

if TYPE_CHECKING:
    from firmware_gen.plan import Plan
    from firmware_gen.project import Network

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
    parser.add_argument(
        "--layout",
        metavar="LAYOUT",
        help="a component for your own firmware, not ours: cmake, zephyr, arduino, esp-idf or pico-sdk",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Plan and write; compile and measure where the whole firmware is ours, and its compiler a public one."""
    import boards

    if args.layout is None:
        boards.check_port(boards.load_board(args.board))
    network = options.load_model(args)
    plan = options.make_plan(args, network, args.mlperf)
    told = _build(args, plan) if args.layout is None else _component(args, plan, network)
    if args.json:
        print(json.dumps(told))
    return 0


def _build(args: argparse.Namespace, plan: Plan) -> dict[str, str | int]:
    import boards
    from firmware_gen.project import write_project

    write_project(plan, args.out)
    if plan.board.kit is not None:
        readme = args.out / "README.md"
        say(f"wrote {args.out}; {plan.board.kit} builds it: {readme} says how")
        return {"kit": plan.board.kit, "readme": str(readme)}
    firmware = boards.build(args.out, plan.board)
    say(f"wrote {firmware.elf}: {firmware.flash_bytes:,} B flash, {firmware.ram_bytes:,} B static RAM")
    sizes = {"flash_bytes": firmware.flash_bytes, "ram_bytes": firmware.ram_bytes}
    return {"elf": str(firmware.elf), "map": str(firmware.map), **sizes}


def _component(args: argparse.Namespace, plan: Plan, network: Network) -> dict[str, str | int]:
    from firmware_gen.component import HEADER, write_component
    from firmware_gen.component_header import component_ram_bytes

    write_component(plan, network.task, args.layout, args.out)
    header, ram = args.out / "src" / HEADER, component_ram_bytes(plan)
    say(f"wrote {args.out}: {ram:,} B static RAM; its calls are in {header}")
    return {"layout": args.layout, "header": str(header), "ram_bytes": ram}
