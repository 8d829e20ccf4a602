"""The port of ST's depth sensor, against what ST's manual says of the sensor: a stand-in takes its orders."""

import shutil
import subprocess
from pathlib import Path

import pytest

from boards import load_board
from boards.description import PORTS
from firmware_gen.project import RUNTIME

HERE = Path(__file__).parent / "vl53l5cx"
PORT = PORTS / "vl53l5cx" / "vl53l5cx.c"
INCLUDES = [f"-I{HERE}", f"-I{RUNTIME / 'link'}"]
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
SET_UP = ["init 82", "resolution 64", "frequency 15"]
READING = "1 7:5 107:255 207:9"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tof") / "sensor"
    sanitizers = ["-fsanitize=address,undefined"]
    command = ["gcc", "-std=c99", *WARNINGS, *sanitizers, *INCLUDES, PORT, HERE / "sensor.c", "-o", path]
    subprocess.run(command, check=True)
    return path


def said(program: Path, lifetime: int) -> list[str]:
    return subprocess.run(
        [program, str(lifetime)], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_the_first_target_is_taken_and_a_zone_without_one_has_status_255(program: Path) -> None:
    assert [line for line in said(program, 9) if line.startswith("1")] == [READING] * 2


def test_the_sensor_is_set_up_once_and_sleeps_while_it_is_not_needed(program: Path) -> None:
    first = [*SET_UP, "start 0", READING, "stop 0", "power 0"]
    again = ["power 1", "start 0", READING, "stop 0", "power 0"]
    assert said(program, 9) == ["0", *first, *again]


def test_a_sensor_that_no_longer_answers_gives_no_reading_and_holds_nothing_up(program: Path) -> None:
    assert [line for line in said(program, 1) if line[0] in "01"] == ["0", READING, "0"]


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed")
def test_it_compiles_for_a_board(tmp_path: Path) -> None:
    board = load_board("nucleo_h743zi2")
    compiler = f"{board.compiler.prefix}gcc"
    command = [compiler, *board.compiler.flags, "-std=gnu99", *WARNINGS, *INCLUDES, "-c", PORT]
    subprocess.run([*command, "-o", tmp_path / "tof.o"], check=True)
