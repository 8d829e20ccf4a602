"""``fieldtune plan MODEL --board B --update LAYERS``: what it will take, before any build."""

from __future__ import annotations

import argparse
import json

from fieldtune.commands import options
from fieldtune.sizes import format_size

NAME = "plan"
HELP = "tell what RAM, flash and work a network takes on a board, before any build"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune plan``."""
    options.add_model(parser)
    options.add_plan(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Plan and print."""
    plan = options.make_plan(args, options.load_model(args))
    described = plan.describe()
    if args.json:
        print(json.dumps({**described, "plan_hash": plan.hash()}, indent=1))
        return 0
    print(f"{plan.graph.name} on {plan.board.name}")
    print(f"  static RAM   {format_size(plan.ram_bytes)}")
    for part, size in plan.ram.items():
        if size:
            print(f"    {part:<10} {format_size(size)}")
    print(f"  stack        {format_size(plan.board.stack_bytes)} reserved")
    print(f"  flash        {format_size(described['flash_bytes'])}")
    print(f"    constants  {format_size(plan.flash['constants'])}")
    print(f"    code       about {format_size(plan.flash['code_estimate'])} (estimate)")
    print(f"  inference    {described['macs_forward'] / 1e6:.2f} MMAC")
    if plan.graph.trained:
        print(f"  backward     {described['macs_backward'] / 1e6:.2f} MMAC")
        print(f"  learns       {', '.join(plan.graph.trained)}")
    return 0
