"""``fieldtune boards [NAME]``: the boards that firmware can be built for, or everything about one of them."""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from fieldtune.sizes import format_size

if TYPE_CHECKING:
    from boards import Board

NAME = "boards"
HELP = "list the boards, or show everything about one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune boards``."""
    parser.add_argument(
        "board", nargs="?", metavar="NAME", help="a board's name, or a board file of your own"
    )
    parser.add_argument("--json", action="store_true", help="print the descriptions as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Print a table of all boards, or the facts about one with their sources."""
    from boards import board_names, load_board

    shown = [load_board(name) for name in ([args.board] if args.board else board_names())]
    if args.json:
        facts = [_facts(board) for board in shown]
        print(json.dumps(facts[0] if args.board else facts, indent=2))
    elif args.board:
        print("\n".join(_lines(shown[0])))
    else:
        print("\n".join(_table(shown)))
    return 0


def _facts(board: "Board") -> dict[str, Any]:
    facts = dataclasses.asdict(board)
    facts["port"] = [folder.name for folder in board.port]
    return {**facts, "ram_bytes": board.ram_bytes, "flash_bytes": board.flash_bytes}


def _table(boards: "list[Board]") -> list[str]:
    rows = [("board", "core", "RAM", "flash", "runs in", "name")]
    rows += [
        (
            board.id,
            board.core,
            format_size(board.ram_bytes),
            format_size(board.flash_bytes),
            _runs_in(board),
            board.name,
        )
        for board in boards
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _lines(board: "Board") -> list[str]:
    clock = f"{board.clock_hz / 1e6:g} MHz ({board.sources['clock_hz']})" if board.clock_hz else "unknown"
    lines = [
        f"{board.id}: {board.name} ({board.vendor})",
        f"  part      {board.mcu}, {board.core}, floating point: {board.fpu or 'none'}",
        f"  clock     {clock}",
    ]
    for region in board.regions:
        lines.append(
            f"  {region.name:<9} {format_size(region.bytes)} of {region.kind} at {region.start:#010x}"
        )
        lines.append(f"            {region.source}")
    lines += [
        f"  stack     {format_size(board.stack_bytes)}",
        f"  port      {_port(board)}",
        f"  compiler  {board.compiler.prefix}gcc {' '.join(board.compiler.flags)}".rstrip(),
        f"  runs in   {', '.join(board.runners) or 'nothing here: connect it'}",
    ]
    if board.power is not None:
        power = board.power
        lines.append(f"  power     {power.active_mw:g} mW, {power.condition} ({power.source})")
    return lines


def _runs_in(board: "Board") -> str:
    return ", ".join(board.runners) or ("(connected)" if board.port else "(your firmware)")


def _port(board: "Board") -> str:
    if not board.port:
        return "none: our C goes into your own firmware, as a component"
    return f"{format_size(board.port_ram_bytes)} of static RAM"
