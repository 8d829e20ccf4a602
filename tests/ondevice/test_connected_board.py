"""Commands flash the board that is connected, if need be; the flash tool is a stand-in."""

import json
import os
import pty
import signal
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_board import quick_board
from tiny import write_tiny

from boards import usb
from fieldtune.__main__ import main

ID = "0483:374e"
FLAGS = quick_board("native").compiler.flags
BOARD = f"""
extends = "native"
id = "desk"
runs_in = []
[usb]
ids = ["{ID}"]
source = "a test"
[compiler]
flags = {json.dumps(FLAGS)}
[flash.openocd]
arguments = ["-f", "board.cfg"]
"""
# Flashing ends the process that plays the board and starts the new firmware at the same port.
OPENOCD = """#!/bin/sh
elf=$(printf '%s' "$*" | sed 's/.*program {\\(.*\\)} verify.*/\\1/')
echo "$elf" >> flashed
[ ! -f pid ] || kill $(cat pid)
rm -f printed
"$elf" > printed 2>&1 < /dev/null &
echo $! > pid
while [ ! -s printed ]; do sleep 0.01; done
ln -sf "$(head -n 1 printed)" ttyACM0
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a network and the file of a board, at whose port nothing answers yet."""
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "tiny.onnx")
    (tmp_path / "desk.toml").write_text(BOARD)
    tool = tmp_path / "bin" / "openocd"
    tool.parent.mkdir()
    tool.write_text(OPENOCD)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    master, slave = pty.openpty()
    tty.setraw(slave)
    (tmp_path / "ttyACM0").symlink_to(os.ttyname(slave))
    device = usb.UsbDevice(ID, "001", "STLINK-V3", None, (str(tmp_path / "ttyACM0"),))
    monkeypatch.setattr(usb, "connected_devices", lambda: [device])
    yield tmp_path
    os.close(master)
    os.close(slave)
    if (tmp_path / "pid").exists():
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def verify(*words: str) -> int:
    return main(["verify", "tiny.onnx", "--board", "desk.toml", "--count", "1", *words])


def flashed(desk: Path) -> int:
    """How often the board has been flashed."""
    log = desk / "flashed"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_the_connected_board_is_flashed_when_it_has_not_the_firmware_and_its_port_is_not_named(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify() == 0  # nothing answered before
    assert flashed(desk) == 1
    assert "flashing desk with openocd" in capsys.readouterr().err
    assert verify() == 0
    assert flashed(desk) == 1
    other = ["profile", "tiny.onnx", "--board", "desk.toml", "--train", "--update", "dec"]
    assert main([*other, "--port", "ttyACM0"]) == 2
    assert "build and flash the firmware of this plan" in capsys.readouterr().err
    assert flashed(desk) == 1
    assert main(other) == 0
    assert flashed(desk) == 2
    (desk / "bin" / "openocd").write_text("#!/bin/sh\necho 'Error: open failed'\nexit 1\n")
    assert verify() == 2
    assert "openocd finds no probe for desk" in capsys.readouterr().err
