"""``fieldtune flash DIR``: the firmware that ``fieldtune build`` made, onto the board."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.console import say
from fieldtune.errors import UserError

if TYPE_CHECKING:
    from boards import Board

NAME = "flash"
HELP = "bring built firmware onto a board"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune flash``."""
    parser.add_argument(
        "project", type=Path, nargs="?", metavar="DIR", help="folder that 'fieldtune build -o' wrote"
    )
    parser.add_argument(
        "-f",
        "--file",
        type=Path,
        metavar="ELF",
        help="firmware that was built otherwise (needs --board or DIR)",
    )
    parser.add_argument("--board", metavar="NAME", help="board, or board file (default: the project's)")
    parser.add_argument(
        "-r",
        "--runner",
        metavar="NAME",
        help="flash tool (default: the first of the board's description)",
    )
    parser.add_argument("-i", "--dev-id", metavar="ID", help="serial number of the probe or board")
    parser.add_argument("--port", help="serial port of tools that use one (default: by its USB id)")
    parser.add_argument("--erase", action="store_true", help="erase the whole flash first")
    parser.add_argument("--dry-run", action="store_true", help="print the commands; run and need nothing")
    parser.add_argument(
        "-O",
        "--tool-opt",
        action="append",
        default=[],
        metavar="WORDS",
        help="more words for the tool, such as -O '--frequency 4M'; may be given again",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Flash, or print how."""
    from boards.flashing import DryShell, Job, Shell, flash, runner_of

    if args.project is None and args.file is None:
        raise UserError("what to flash? give the folder of a project, or --file ELF with --board")
    board = _board(args.project, args.board)
    runner = runner_of(board, args.runner)
    elf = args.file or args.project / "build" / "firmware.elf"
    shell = DryShell() if args.dry_run else Shell()
    job = Job(board, elf, shell, args.dev_id, args.port, args.erase, tuple(args.tool_opt))
    port = flash(runner, job)
    if args.json:
        result = {"board": board.id, "runner": runner.name, "commands": shell.commands, "port": port}
        print(json.dumps({**result, "dry_run": args.dry_run}))
    elif args.dry_run:
        print("\n".join(shell.commands))
    else:
        say(f"{board.id} is flashed{f' and back at {port}' if port else ''}")
    return 0


def _board(project: Path | None, name: str | None) -> Board:
    """Return the board that is named, and that the project was built for.

    Raises:
        UserError: neither says it, it is no project, or it was built for another board.
    """
    from boards import board_names, load_board

    if project is None:
        if name is None:
            raise UserError("which board is it? add --board NAME")
        return load_board(name)
    board_id = _board_of(project)
    if name is None and board_id not in board_names():
        raise UserError(
            f"{project} was built for a board of your own, {board_id}; give its file with --board"
        )
    board = load_board(name or board_id)
    if board.id != board_id:
        raise UserError(f"{project} was built for {board_id}, not for {board.id}; build it again")
    return board


def _board_of(project: Path) -> str:
    from firmware_gen.project import PLAN_FILE

    try:
        return str(json.loads((project / PLAN_FILE).read_text(encoding="utf-8"))["board"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{project} is no project of fieldtune (no readable {PLAN_FILE}); make one with: fieldtune build"
        ) from error
