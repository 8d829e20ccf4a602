"""Boards that one can buy, from the command line: those with a port build, those without are planned for."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from test_board_builds import check_places
from tiny import tiny_frames, write_tiny

from boards import build, load_board
from fieldtune.__main__ import main
from firmware_gen import project
from firmware_gen.update import parse_update
from zoo.loaders.npz import write_npz

PAGE = Path(__file__).parents[2] / "docs" / "add_a_board.md"
FILE_BLOCK = re.compile(r"^ *`([\w./]+\.(?:toml|h))`:\n+ *```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PORTLESS = ["esp32c3", "esp32s3", "rpi_pico"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_tiny(tmp_path / "tiny.onnx"))


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, float]:
    assert main(["plan", *words, "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert isinstance(described, dict)
    return described


def test_network_builds_for_a_board_that_one_can_buy(model: str, tmp_path: Path) -> None:
    network = project.load_network(Path(model))
    plan = project.plan_network(network, load_board("nucleo_h743zi2"), parse_update("depth"))
    project.write_project(plan, tmp_path / "project")
    quick = (*plan.board.compiler.flags, "-O1", "-Dalways_inline=unused")  # half the time
    compiler = dataclasses.replace(plan.board.compiler, flags=quick)
    firmware = build(tmp_path / "project", dataclasses.replace(plan.board, compiler=compiler))
    assert 0 <= plan.ram_bytes - firmware.ram_bytes < 8
    check_places(firmware, plan.board)


@pytest.mark.parametrize("board", PORTLESS)
def test_board_without_a_port_is_planned_for(
    model: str, board: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned(capsys, model, "--board", board, "--update", "dec")
    assert plan["ram_bytes"] > 0
    assert plan["flash_source"] == "estimate"


@pytest.mark.parametrize("command", ["build", "tune", "profile"])
def test_board_without_a_port_is_refused_in_one_sentence(
    model: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_npz(tmp_path / "frames.npz", tiny_frames(4))
    out = {"build": ["-o", str(tmp_path / "out")], "tune": ["--data", str(tmp_path / "frames.npz")]}
    assert main([command, model, "--board", "esp32c3", *out.get(command, [])]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert re.fullmatch(r"fieldtune: board esp32c3 has no port of its own; generate the component .*", last)
    assert not (tmp_path / "out").exists()


def test_board_of_the_page_takes_less_than_thirty_lines_and_builds(
    tmp_path: Path, write_project: Callable[..., Path]
) -> None:
    """docs/add_a_board.md shows the files of a board of one's own: these very files."""
    blocks = FILE_BLOCK.findall(PAGE.read_text())
    assert sum(len(text.splitlines()) for _, text in blocks) < 30
    for name, text in blocks:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(re.sub(r"^   ", "", text, flags=re.MULTILINE))
    board = load_board(tmp_path / blocks[0][0])
    assert board.id not in ("", "nucleo_h743zi2")
    firmware = build(write_project(tmp_path / "project", board), board)
    assert firmware.symbols["interrupts"] == 4 * (37 + 1)  # USART1's is the last
