"""``fieldtune doctor [--board B]``: is everything there to build, flash and train?"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.errors import UserError

if TYPE_CHECKING:
    from boards.doctor import Check

NAME = "doctor"
HELP = "look at tools, packages, connected boards and rights, and say what mends what is wrong"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune doctor``."""
    parser.add_argument("--board", help="only what this board needs; exit code 2 if some of it is missing")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Look, print, and with --board judge."""
    from boards import board_names, load_board
    from boards.doctor import connection_checks, program_checks
    from boards.usb import connected_devices

    chosen = load_board(args.board) if args.board else None
    boards = [chosen] if chosen else [load_board(name) for name in board_names()]
    checks = [check for check in _package_checks() if check.needed or not chosen]
    checks += program_checks(boards, chosen)
    checks += connection_checks(boards, chosen, connected_devices())
    ready = not any(check.needed and not check.ok for check in checks)
    if args.json:
        board = chosen.id if chosen else None
        listed = [dataclasses.asdict(check) for check in checks]
        print(json.dumps({"board": board, "ready": ready if chosen else None, "checks": listed}, indent=1))
    else:
        print("\n".join(_lines(checks, with_boards=chosen is None)))
        if chosen:
            missing = [f"{check.name} ({check.found})" for check in checks if check.needed and not check.ok]
            print(f"\n{chosen.id} is " + ("ready" if ready else f"not ready: {', '.join(missing)}"))
    return 0 if ready or not chosen else 2


def _package_checks() -> list[Check]:
    from boards.doctor import Check
    from fieldtune.packages import installed_packages

    try:
        packages = installed_packages()
    except UserError as error:
        found, _, mend = str(error).partition("; ")
        return [Check("python", "packages", False, True, found, mend)]
    checks = []
    for package in packages:
        version = package.version or "not installed"
        mend = f"pip install '{package.name}{package.bounds}'"
        if package.name == "Python":
            mend = f"install Python {package.bounds}, and fieldtune with it"
        found = f"{version} ({f'[{package.extra}] ' if package.extra else ''}{package.bounds})"
        needed = package.extra is None
        checks.append(
            Check("python", package.name, package.fits, needed, found, None if package.fits else mend)
        )
    return checks


def _lines(checks: list[Check], *, with_boards: bool) -> list[str]:
    """Return a block for each group: ok, -- for what is absent and not needed, !! for what is wrong."""
    lines: list[str] = []
    group = ""
    width = max(len(check.name) for check in checks if check.group not in ("connected", "udev rule"))
    for check in checks:
        if check.group != group:
            group = check.group
            lines.append(group)
        mark = "ok" if check.ok else "!!" if check.needed or check.group == "connected" else "--"
        boards = f"  ({', '.join(check.boards)})" if with_boards and check.boards else ""
        lines.append(f"  {mark}  {check.name.ljust(width)}  {check.found}{boards}".rstrip())
        if check.mend:
            lines.append(f"      {' ' * width}  {check.mend}")
    return lines
