"""``fieldtune doctor`` tells what is there, what is not, what mends it, and whether a board is ready."""

import json
from pathlib import Path
from typing import Any

import pytest
from connected import Bus, empty_bus, forbid

from fieldtune.__main__ import main

ID = "0483:374e"
MINE = f"""
extends = "netduinoplus2"
id = "mine"
name = "My board"
runs_in = []
emulator = {{ program = "qemu-system-arm", package = "qemu-system-arm", arguments = [] }}
[usb]
ids = ["{ID}"]
source = "a test"
[flash.pyocd]
target = "stm32h743zitx"
[flash.esptool]
chip = "esp32c3"
address = 0
"""


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """Work where only the compiler is installed and nothing is connected, with a board file mine.toml."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(MINE)
    Path("bin").mkdir()
    install("arm-none-eabi-gcc", "12.2.1")
    monkeypatch.setenv("PATH", str(Path("bin").absolute()))
    return empty_bus(tmp_path / "bus", monkeypatch)


def install(program: str, printed: str) -> None:
    path = Path("bin", program)
    path.write_text(f"#!/bin/sh\necho '{printed}'\n")
    path.chmod(0o755)


def look(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and what --json gives, its checks by name."""
    capsys.readouterr()
    code = main(["doctor", *words, "--json"])
    found = json.loads(capsys.readouterr().out)
    return code, {**found, "checks": {check["name"]: check for check in found["checks"]}}


def test_a_board_that_is_connected_with_its_tools_is_ready(
    bus: Bus, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    install("pyocd", "0.46.0")
    port = tmp_path / "ttyACM0"
    port.touch()
    bus.plug(ID, "003A", ports=(str(port),))
    code, found = look(capsys, "--board", "mine.toml")
    assert (code, found["board"], found["ready"]) == (0, "mine", True)
    checks = found["checks"]
    assert checks["numpy"]["ok"]
    assert checks["arm-none-eabi-gcc"]["found"] == "12.2.1"
    assert checks["pyocd"]["found"] == "0.46.0"
    assert not checks["esptool"]["ok"]  # one of the board's tools is enough
    assert not checks["esptool"]["needed"]
    assert not checks["qemu-system-arm"]["needed"]
    assert checks[str(port)]["ok"]


def test_what_a_board_needs_and_is_not_there_comes_with_what_mends_it(
    bus: Bus, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bin/arm-none-eabi-gcc").unlink()
    code, found = look(capsys, "--board", "mine.toml")
    assert (code, found["ready"]) == (2, False)
    wrong = {
        name: check["mend"] for name, check in found["checks"].items() if check["needed"] and not check["ok"]
    }
    assert wrong == {
        "arm-none-eabi-gcc": "apt-get install gcc-arm-none-eabi",
        "pyocd": "install it with: pip install pyocd",
        "mine": f"plug My board in (USB id {ID})",
    }
    main(["doctor", "--board", "mine.toml"])
    shown = capsys.readouterr().out
    assert all(f"!!  {name}" in shown for name in wrong)
    assert shown.endswith("mine is not ready: arm-none-eabi-gcc (not installed), pyocd (not installed), "
                          "mine (not connected)\n")  # fmt: skip


def test_rights_that_are_missing_come_with_their_command(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install("pyocd", "0.46.0")
    port = tmp_path / "ttyACM0"
    port.touch()
    node = bus.plug(ID, "003A", ports=(str(port),))
    forbid(monkeypatch, node, port)
    code, found = look(capsys, "--board", "mine.toml")
    assert code == 2
    probe = next(check for name, check in found["checks"].items() if name.startswith("STLINK-V3"))
    assert probe["found"] == "no permission to use it"
    assert 'ATTR{idProduct}=="374e"' in probe["mend"]
    assert "sudo usermod -aG dialout $USER" in found["checks"][str(port)]["mend"]
    assert found["checks"][ID]["found"] == "none"
    assert found["checks"][ID]["mend"].startswith("printf '%s\\n' 'SUBSYSTEM")


def test_a_tool_that_is_too_old_is_told(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    install("esptool", "esptool v4.8.1")
    check = look(capsys, "--board", "mine.toml")[1]["checks"]["esptool"]
    assert (check["ok"], check["found"]) == (False, "4.8.1, but 5.0 or later is needed")


def test_an_emulated_board_needs_its_emulator_and_no_cable(
    bus: Bus, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = look(capsys, "--board", "netduinoplus2")
    assert code == 2
    assert found["checks"]["qemu-system-arm"]["mend"] == "apt-get install qemu-system-arm"
    install("qemu-system-arm", "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)")
    code, found = look(capsys, "--board", "netduinoplus2")
    assert (code, found["ready"]) == (0, True)
    assert found["checks"]["qemu-system-arm"]["found"] == "7.2.22"


def test_without_a_board_everything_is_told_and_nothing_judged(
    bus: Bus, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.plug("dead:beef", "1", "Another thing", ports=("/dev/ttyUSB7",))
    code, found = look(capsys)
    assert (code, found["board"], found["ready"]) == (0, None, None)
    assert {"Python", "numpy", "gcc", "arm-none-eabi-gcc", "qemu-system-riscv32"} <= found["checks"].keys()
    assert any(name.startswith("Another thing (dead:beef") for name in found["checks"])
    assert main(["doctor"]) == 0
    assert "apt-get install qemu-system-misc" in capsys.readouterr().out


def test_a_package_outside_of_its_bounds_is_told(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune import packages

    monkeypatch.setattr(packages, "_version", lambda name: {"numpy": "1.26.4", "cobs": None}.get(name, "2.0"))
    code, found = look(capsys, "--board", "native")
    assert code == 2
    assert not found["checks"]["numpy"]["ok"]
    assert found["checks"]["numpy"]["mend"].startswith("pip install 'numpy")
    assert found["checks"]["cobs"]["found"].startswith("not installed")
