"""``fieldtune boards`` shows what the descriptions say."""

import argparse
import json

import pytest

from boards import board_names, load_board
from fieldtune.commands import boards as command


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_list_has_a_line_for_every_board(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    first_words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert first_words == ["board", *board_names()]


@pytest.mark.parametrize("name", board_names())
def test_one_board_is_shown_with_its_sources(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert run(name) == 0
    shown = capsys.readouterr().out
    assert all(region.source in shown for region in load_board(name).regions)


def test_json_lists_all_boards_or_gives_one(capsys: pytest.CaptureFixture[str]) -> None:
    run("--json")
    assert [board["id"] for board in json.loads(capsys.readouterr().out)] == board_names()
    run("--json", "netduinoplus2")
    board = json.loads(capsys.readouterr().out)
    assert board["ram_bytes"] == 131072
    assert board["compiler"]["package"] == "gcc-arm-none-eabi"
