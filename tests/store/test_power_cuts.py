"""The power is cut at every flash operation of a save: the board has the old set or the new one, always."""

import re
import shutil
from pathlib import Path

import pytest
import serial

from boards import Board, Firmware, build, load_board, port_files, start
from firmware_gen.protocol_header import protocol_header

HERE = Path(__file__).parent
RUNTIME = HERE.parents[1] / "firmware_gen" / "runtime"
SEEDS = 4  # of power_cuts.c
SET_BYTES = 33 * 4 + 7 + 8
HEADER_BYTES = 40
SECTOR_BYTES = 128
REAL_SECTOR_BYTES = 1024  # of an nRF51

QUICK = [("native", 8), ("mps2_an386", 8), ("mps2_an386", 32), ("qemu_riscv32", 32)]
LONG = [
    ("native", 1),
    ("native", 2),
    ("native", 4),
    ("native", 16),
    ("native", 32),
    ("mps2_an386", 4),
    ("mps2_an386", 16),
    ("qemu_riscv32", 4),
]
CASES = [*QUICK, *(pytest.param(*case, marks=pytest.mark.long) for case in LONG)]


def points(unit: int, sector_bytes: int = SECTOR_BYTES) -> int:
    """Operations of a save, each cut before, after, and in SEEDS ways in the middle."""
    header, payload = -(-HEADER_BYTES // unit), -(-SET_BYTES // unit)
    sectors = -(-(header * unit + SET_BYTES) // sector_bytes)
    return (header + payload + sectors) * (SEEDS + 2)


def store_board(folder: Path, name: str, unit: int) -> Board:
    keys = {"unit_bytes": unit, "sector_bytes": SECTOR_BYTES, "bytes": 8 * SECTOR_BYTES}
    lines = [f'extends = "{name}"', f'id = "{name}_store"', "[store]"]
    path = folder / "board.toml"
    path.write_text("\n".join([*lines, *(f"{key} = {value}" for key, value in keys.items())]) + "\n")
    return load_board(path)


def build_driver(
    folder: Path, board: Board, power: str = "cut_emulated.c", *, sanitize: bool = False
) -> Firmware:
    link = folder / "runtime" / "link"
    link.mkdir(parents=True)
    shutil.copy(RUNTIME / "model_api.h", folder / "runtime")
    for name in ("store.c", "store.h", "port.h", "sensors.h", "frame.c", "frame.h", "bytes.h"):
        shutil.copy(RUNTIME / "link" / name, link)
    (link / "protocol.h").write_text(protocol_header())
    (folder / "port").mkdir()
    for name, text in port_files(board).items():
        (folder / "port" / name).write_text(text)
    shutil.copy(HERE / "power_cuts.c", folder / "main.c")
    for name in ("power.h", power):
        shutil.copy(HERE / name, folder)
    return build(folder, board, sanitize=sanitize)


def run_driver(elf: Path, board: Board) -> dict[str, int]:
    with start(elf, board) as running, serial.Serial(running.url, timeout=0.2) as port:
        line = b""
        while running.alive() and not line.endswith(b"\n"):
            port.write(b"?")  # what a reset swallows is asked again
            line += port.read_until(b"\n")
        assert line.endswith(b"done\n"), line.decode() + running.last_words()
    return counts(line.decode())


def counts(line: str) -> dict[str, int]:
    assert line.endswith("done\n"), line
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}


def test_there_are_thousands_of_points() -> None:
    assert sum(points(unit) for _, unit in QUICK) == 420
    assert sum(points(unit) for _, unit in LONG) == 2826


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_a_cut_leaves_the_old_set_or_the_new_one(name: str, unit: int, tmp_path: Path) -> None:
    board = store_board(tmp_path, name, unit)
    found = run_driver(build_driver(tmp_path / "project", board).elf, board)
    assert found["points"] == found["old"] + found["new"] == points(unit)
    # Cut before an operation or after it, a save has happened with its last one and not before.
    assert found["whole"] == 1


def test_a_cut_of_the_flash_that_qemu_really_emulates_does_no_harm(tmp_path: Path) -> None:
    """The driver of a real part, nrf_flash, against the controller as QEMU has it."""
    path = tmp_path / "board.toml"
    path.write_text('extends = "microbit"\nid = "microbit_store"\n[regions.ram]\nbytes = 15360\n')
    board = load_board(path)
    found = run_driver(build_driver(tmp_path / "project", board, "cut_driver.c").elf, board)
    assert found["points"] == found["old"] + found["new"] == points(4, REAL_SECTOR_BYTES)
    assert found["whole"] == 1


def test_the_store_and_its_flash_do_nothing_undefined(tmp_path: Path) -> None:
    board = store_board(tmp_path, "native", 32)
    found = run_driver(build_driver(tmp_path / "project", board, sanitize=True).elf, board)
    assert found["points"] == points(32)
