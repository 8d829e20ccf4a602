"""The page that takes a new user to his first board."""

import re
import shlex
from pathlib import Path

import pytest

from boards import load_board
from fieldtune.__main__ import _parser

PAGE = Path(__file__).parents[2] / "docs" / "first_board.md"


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("fieldtune ")]


@pytest.mark.parametrize("command", commands())
def test_its_commands_are_taken(command: str) -> None:
    args = _parser().parse_args(shlex.split(command, comments=True)[1:])
    if getattr(args, "board", None):
        assert load_board(args.board).id == "nucleo_h743zi2"


def test_it_goes_all_the_way() -> None:
    verbs = [command.split()[1] for command in commands()]
    for before, after in zip(
        ["doctor", "plan", "build", "flash"], ["plan", "build", "flash", "tune"], strict=True
    ):
        assert verbs.index(before) < verbs.index(after)
