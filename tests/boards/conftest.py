"""A tiny firmware that uses nothing but the port, built for every board."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from boards import Board, Firmware, build, load_board, port_files

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="session")
def write_project() -> Callable[..., Path]:
    """Write a C project as the generator lays it out, with `source` as its only file beside the port's."""

    def write(folder: Path, board: Board, source: str | None = None) -> Path:
        link = folder / "runtime" / "link"
        link.mkdir(parents=True)
        for header in ("port.h", "sensors.h"):
            shutil.copy(ROOT / "firmware_gen" / "runtime" / "link" / header, link)
        (folder / "port").mkdir()
        for name, text in port_files(board).items():
            (folder / "port" / name).write_text(text)
        (folder / "main.c").write_text(source if source is not None else (HERE / "echo.c").read_text())
        return folder

    return write


@pytest.fixture(scope="session")
def echo_firmware(
    write_project: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Firmware]:
    """Build echo.c for a board, once a session."""
    built: dict[str, Firmware] = {}

    def firmware(name: str) -> Firmware:
        if name not in built:
            board = load_board(name)
            built[name] = build(write_project(tmp_path_factory.mktemp(name) / "echo", board), board)
        return built[name]

    return firmware
