"""``fieldtune profile MODEL --board B``: where instructions, time and memory go."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.commands import options
from fieldtune.console import say
from fieldtune.errors import UserError
from fieldtune.files import replacing
from fieldtune.sizes import format_size

if TYPE_CHECKING:
    from firmware_gen.plan import Plan
    from ondevice.device import Hyper
    from ondevice.memory_profile import MemoryProfile
    from ondevice.profile import Profile

NAME = "profile"
HELP = "count the work of every layer on a board"
BAR_CHARACTERS = 20
MOST_SYMBOLS = 12
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
    parser.add_argument(
        "--memory",
        action="store_true",
        help="memory instead of time: sections, symbols, layers and stack of the linked firmware",
    )
    parser.add_argument(
        "--stamps",
        type=Path,
        metavar="FILE.csv",
        help="instead of counting, repeat it in five windows of 10 s and write when; for 'energy --stamps'",
    )
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page with all of it, too")
    options.add_json(parser)


@dataclass(frozen=True)
class _Found:
    """What was found: for --json, for --report, and for a reader."""

    described: dict[str, Any]
    page: Callable[[], str]
    show: Callable[[], None]


def run(args: argparse.Namespace) -> int:
    """Build, start, count, print."""
    if args.train != (args.update is not None):
        raise UserError(
            "a training step needs both --train and --update LAYERS, an inference neither; "
            "add the one that is missing or leave out the other"
        )
    if args.stamps is not None and (args.memory or args.report is not None):
        raise UserError("--stamps only repeats the work; leave out --memory and --report")
    plan = options.make_plan(args, options.load_model(args))
    if args.stamps is not None:
        return _repeat(args, plan)
    # Opened before minutes of counting, so that a place where nothing can be written is found at once.
    with replacing(args.report) if args.report is not None else contextlib.nullcontext() as report:
        found = _memory(args, plan) if args.memory else _counts(args, plan)
        if report is not None:
            report.write(found.page().encode())
    if args.json:
        from ondevice.provenance import provenance

        print(json.dumps(found.described | {"firmware": provenance(plan).describe()}, indent=1))
    else:
        found.show()
    return 0


def _repeat(args: argparse.Namespace, plan: Plan) -> int:
    from ondevice.provenance import provenance
    from ondevice.repeating import repeat, stamps

    with replacing(args.stamps) as stream:
        windows = repeat(plan, args.port, hyper=_hyper(args), seed=args.seed, log=say)
        stream.write(stamps(windows, provenance(plan)).encode())
    if args.json:
        print(json.dumps([vars(window) for window in windows], indent=1))
    else:
        for window in windows:
            print(f"{window.repetitions} repetitions in {window.stop - window.start:.3f} s")
    return 0


def _hyper(args: argparse.Namespace) -> Hyper:
    from ondevice.device import Hyper

    return Hyper(lr=1e-3, momentum=args.momentum, clip_norm=args.clip_norm)


def _counts(args: argparse.Namespace, plan: Plan) -> _Found:
    from ondevice.profile import profile
    from ondevice.report_profile import profile_page

    found = profile(plan, args.port, hyper=_hyper(args), seed=args.seed, log=say)
    reserved = plan.board.stack_bytes
    return _Found(
        found.describe(),
        lambda: profile_page(plan, found),
        lambda: _print(plan.graph.name, found, reserved=reserved),
    )


def _memory(args: argparse.Namespace, plan: Plan) -> _Found:
    from ondevice.memory_profile import memory_profile
    from ondevice.report_linked import linked_page

    found = memory_profile(plan, args.port, hyper=_hyper(args), seed=args.seed, log=say)
    return _Found(
        found.describe(), lambda: linked_page(plan, found), lambda: print_memory(plan.graph.name, found)
    )


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


def print_memory(model: str, found: MemoryProfile) -> None:
    """Print a memory profile as a table."""
    used = "unknown" if found.stack_used is None else format_size(found.stack_used)
    print(f"{model} on {found.board.name}, memory of the linked firmware")
    print(f"  flash          {format_size(found.flash_bytes)}")
    print(f"  static RAM     {format_size(found.ram_bytes)}")
    print(f"  stack          {used} used of {format_size(found.board.stack_bytes)}")
    for section in found.placed.sections:
        if section.bytes:
            print(f"  {section.name:<20} {section.kind:<6} {section.address:#010x}  {section.bytes:>10,}")
    print(f"  the largest of {len(found.placed.symbols)} symbols (--json lists all)")
    for symbol in found.placed.symbols[:MOST_SYMBOLS]:
        print(f"    {symbol.name:<36} {symbol.section:<10} {symbol.bytes:>10,}")
    print(f"  {'layer':<28} {'code':>10} {'stack frame':>12} {'arena in use':>14}")
    for layer in found.layers:
        frame = "-" if layer.frame_bytes is None else f"{layer.frame_bytes:,}"
        name = f"{layer.name} {layer.op}"
        print(f"  {name:<28} {layer.code_bytes:>10,} {frame:>12} {layer.alive_bytes:>14,}")
