"""``fieldtune boards [NAME]``: the boards that firmware can be built for, or everything about one of them."""

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from fieldtune.sizes import format_size

if TYPE_CHECKING:
    from boards import Board
    from boards.usb import UsbDevice

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
    from boards.usb import connected_devices

    connected = connected_devices()
    shown = [load_board(name) for name in ([args.board] if args.board else board_names())]
    if args.json:
        facts = [_facts(board, connected) for board in shown]
        print(json.dumps(facts[0] if args.board else facts, indent=2))
    elif args.board:
        print("\n".join(_lines(shown[0], connected)))
    else:
        print("\n".join(_table(shown, connected)))
    return 0


def _facts(board: "Board", connected: "list[UsbDevice]") -> dict[str, Any]:
    from boards.usb import devices_of

    facts = dataclasses.asdict(board)
    facts["port"] = [folder.name for folder in board.port]
    facts["flash_runners"] = {runner.name: dataclasses.asdict(runner) for runner in board.flash_runners}
    facts["connected"] = [str(device) for device in devices_of(board, connected)]
    return {**facts, "ram_bytes": board.ram_bytes, "flash_bytes": board.flash_bytes}


def _table(boards: "list[Board]", connected: "list[UsbDevice]") -> list[str]:
    from boards.usb import devices_of

    rows = [("board", "core", "RAM", "flash", "runs in", "connected", "name")]
    rows += [
        (
            board.id,
            board.core,
            format_size(board.ram_bytes),
            "(in RAM)" if board.unified else format_size(board.flash_bytes),
            _runs_in(board),
            "maybe" if devices_of(board, connected) else "-",
            board.name,
        )
        for board in boards
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _lines(board: "Board", connected: "list[UsbDevice]") -> list[str]:
    from boards.usb import devices_of

    clock = f"{board.clock_hz / 1e6:g} MHz ({board.sources['clock_hz']})" if board.clock_hz else "unknown"
    lines = [
        f"{board.id}: {board.name} ({board.vendor})",
        f"  part      {board.mcu}, {board.core}, floating point: {board.fpu or 'none'}",
        f"  clock     {clock}",
    ]
    for region in board.regions:
        kind = "memory for code and data" if region.kind == "unified" else region.kind
        lines.append(f"  {region.name:<9} {format_size(region.bytes)} of {kind} at {region.start:#010x}")
        lines.append(f"            {region.source}")
    if board.cluster is not None:
        cluster = board.cluster
        stacks = (
            f"{format_size(cluster.slave_stack_bytes)} each, the master's {cluster.master_stack_bytes:,} B"
        )
        master = ", the first of them the master" if cluster.master_works else " and a master"
        lines.append(f"  cluster   {cluster.cores} cores{master}, stacks of {stacks}")
        lines.append(
            f"  L1        {format_size(cluster.l1_bytes)}, {cluster.l1_data_bytes:,} B without the stacks"
        )
        lines.append(f"            {cluster.source}")
    if board.l3 is not None:
        speed = board.l3.bytes_per_cycle
        known = "speed unknown" if speed is None else f"{speed:g} B a cycle"
        lines.append(f"  L3        {format_size(board.l3.bytes)} outside the chip, {known}")
        lines.append(f"            {board.l3.source}")
    if board.store is not None:
        store = board.store
        lines.append(
            f"  weights   two slots of {format_size(store.slot_bytes)} at {store.start:#010x}, sectors of "
            f"{format_size(store.sector_bytes)}, programmed {store.unit_bytes} B at once"
        )
        lines.append(f"            {store.source}")
    lines += [
        f"  stack     {format_size(board.stack_bytes)}",
        f"  port      {_port(board)}",
        f"  compiler  {_compiler(board)}",
        f"  runs in   {', '.join(board.runs_in) or 'nothing here: connect it'}",
    ]
    if board.flash_runners:
        lines.append(f"  flash     with {', '.join(runner.name for runner in board.flash_runners)}")
    if board.usb is not None:
        lines.append(f"  USB       {', '.join(board.usb.all_ids)} ({board.usb.source})")
    lines += [f"  maybe at  {device}" for device in devices_of(board, connected)]
    if board.power is not None:
        power = board.power
        lines.append(f"  power     {power.active_mw:g} mW, {power.condition} ({power.source})")
    return lines


def _runs_in(board: "Board") -> str:
    return ", ".join(board.runs_in) or ("(connected)" if board.port else "(your firmware)")


def _compiler(board: "Board") -> str:
    if board.kit is not None:
        return f"that of the vendor's kit, {board.kit}"
    return f"{board.compiler.prefix}gcc {' '.join(board.compiler.flags)}".rstrip()


def _port(board: "Board") -> str:
    if not board.port:
        return "none: our C goes into your own firmware, as a component"
    return f"{format_size(board.port_ram_bytes)} of static RAM"
