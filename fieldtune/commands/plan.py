"""``fieldtune plan MODEL --board B --update LAYERS``: what it will take."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.console import detail
from fieldtune.durations import format_duration
from fieldtune.sizes import format_size

if TYPE_CHECKING:
    from firmware_gen.cluster.summary import Summary
    from firmware_gen.plan import Plan
    from firmware_gen.project import Network
    from ondevice.search_found import Found

NAME = "plan"
HELP = "tell what RAM, flash and work a network takes on a board"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune plan``."""
    options.add_model(parser)
    options.add_plan(parser)
    options.add_mlperf(parser)
    parser.add_argument("--data", type=Path, help="frames that --update auto measures on")
    options.add_search(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Plan and print: RAM as known before any build, flash of the linked image where it can be linked."""
    network = options.load_model(args)
    found = _searched(args, network)
    plan = options.make_plan(args, network, args.mlperf)
    linked = _linked_flash_bytes(plan)
    described = plan.describe() | {
        "plan_hash": plan.hash(),
        "flash_source": "estimate" if linked is None else "linked image",
    }
    if linked is not None:
        described["flash_bytes"] = linked
    power, seconds = plan.board.power, plan.seconds
    if power is not None and seconds is not None:
        described |= {
            "energy_uj": power.estimate_uj(seconds),
            "energy_source": power.estimate_source,
            "estimated": True,
        }
    if found is not None:
        described["search"] = found.describe()
    cluster = _on_cluster(plan)
    if cluster is not None:
        described["cluster"] = cluster.describe()
    if args.json:
        print(json.dumps(described, indent=1))
        return 0
    print(f"{plan.graph.name} on {plan.board.name}")
    print(f"  static RAM   {format_size(plan.ram_bytes)}")
    for part, size in plan.ram.items():
        if size:
            print(f"    {part:<10} {format_size(size)}")
    print(f"  stack        {format_size(plan.board.stack_bytes)} reserved")
    print(f"  flash        {format_size(described['flash_bytes'])} ({described['flash_source']})")
    print(f"    constants  {format_size(plan.flash['constants'])}")
    if plan.board.unified:
        region = plan.board.main_ram
        print(
            f"  in {region.name:<9} {format_size(plan.sum_bytes)} by estimate, of {format_size(region.bytes)}"
        )
    if plan.l3 is not None:
        buffers = " and ".join(f"{size:,} B" for size in plan.l3.buffers if size)
        print(f"  in L3        {format_size(plan.l3.bytes)} of constants of {len(plan.l3.pieces)} layers")
        print(f"    buffers    {buffers} in {plan.board.main_ram.name}")
    print(f"  inference    {described['macs_forward'] / 1e6:.2f} MMAC")
    if plan.graph.trained:
        print(f"  backward     {described['macs_backward'] / 1e6:.2f} MMAC")
        print(f"  learns       {', '.join(plan.graph.trained)}")
    if "store" in described:
        store = described["store"]
        slot, taken = format_size(store["slot_bytes"]), format_size(store["set_bytes"])
        print(f"  keeps        {taken} of weights, in either of two slots of {slot} in flash")
    if "latents" in described:
        latents = described["latents"]
        print(f"  from latents {latents['macs'] / 1e6:.2f} MMAC a step")
        print(f"    latents    {format_size(latents['bytes'])} a sample")
        print(f"    frame      {format_size(latents['frame_bytes'])}")
    if "energy_uj" in described:
        print(f"  energy       {described['energy_uj']:.1f} µJ, {described['energy_source']}")
    if cluster is not None:
        what = "step" if plan.graph.trained else "run"
        stacks = format_size(cluster.stack_bytes)
        print(f"  L1           {format_size(cluster.l1_bytes)} at most, {stacks} for the cores' stacks")
        if cluster.times is not None:
            print(f"  time a {what:<5} {cluster.times.time}")
            print(f"  energy       {cluster.times.energy}")
        else:
            print(f"  time a {what:<5} no estimate: nothing is known of the cycles of {plan.board.mcu}")
        if plan.l3 is not None:
            known = cluster.times is None or cluster.l3_bytes_per_cycle is not None
            note = "" if known else ": how long that takes is not known, and not in the time and the energy"
            print(f"  from L3      {format_size(plan.l3_read_bytes)} a {what}{note}")
    elif plan.seconds is not None:
        what = "step" if plan.graph.trained else "run"
        how = "estimate" if plan.board.fpu else "estimate; no floating-point unit"
        print(f"  time a {what:<5} {format_duration(plan.seconds)} ({how})")
    if found is not None:
        print(found.table())
    return 0


def _searched(args: argparse.Namespace, network: Network) -> Found | None:
    """Put what a search finds in the place of ``auto``."""
    from fieldtune.errors import UserError
    from zoo.frames import open_frames

    if args.update != options.AUTO or args.data is None:
        return None
    frames = open_frames(args.data)
    if not 0 <= args.test < len(frames):
        raise UserError(
            f"--test {args.test} leaves none of the {len(frames)} frames of {args.data} to measure on"
        )
    found = options.search(args, network, frames)
    args.update = found.update
    return found


def _on_cluster(plan: Plan) -> Summary | None:
    """Return what the plan comes to on the board's cluster, if it has one."""
    from firmware_gen.cluster.summary import summarize

    return None if plan.board.cluster is None else summarize(plan)


def _linked_flash_bytes(plan: Plan) -> int | None:
    """Return what the firmware takes in flash, None where it cannot be linked."""
    import boards
    from firmware_gen.project import write_project

    if not boards.has_compiler(plan.board):
        what = "compiler" if plan.board.port else "port"
        detail(f"without a {what} for {plan.board.id} the code's size is an estimate")
        return None
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as folder:
        project = Path(folder) / "project"
        write_project(plan, project)
        return boards.build(project, plan.board).flash_bytes
