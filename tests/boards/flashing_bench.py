"""A project to flash, of a board that has every runner, and stand-ins for the tools."""

import shlex
from pathlib import Path

import pytest
from connected import Bus, empty_bus

from fieldtune.__main__ import main

ID = "0483:374e"
ALL_TABLES = f"""
extends = "netduinoplus2"
id = "mine"
mcu = "STM32H743ZI"
runs_in = []
[usb]
ids = ["{ID}"]
bootloader_ids = ["2341:005a"]
source = "a test"
[flash.pyocd]
target = "stm32h743zitx"
[flash.openocd]
arguments = ["-f", "interface/stlink.cfg", "-f", "target/stm32h7x.cfg"]
[flash.stflash]
[flash.stm32cubeprogrammer]
[flash.nrfutil]
core = "Application"
[flash.jlink]
device = "nRF5340_xxAA_APP"
[flash.picotool]
[flash.uf2]
family = "rp2040"
board_id = "RPI-RP2"
[flash.esptool]
chip = "esp32c3"
address = 0x10000
[flash.bossac]
[flash.gapy]
target = "gap9.evk"
layout = "default_layout_multi_readfs.json"
"""


def stand_in(monkeypatch: pytest.MonkeyPatch, **programs: tuple[int, str]) -> Path:
    """Make PATH hold these programs only: each prints a text and ends with a code; return their log."""
    folder = Path("bin").absolute()
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    for name, (code, text) in programs.items():
        path = folder / name.replace("_", "-")
        script = [
            "#!/bin/sh",
            f"echo {path.name} $* >> {log}",
            f"printf '%s' {shlex.quote(text)}",
            f"exit {code}",
        ]
        path.write_text("\n".join(script) + "\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return log


def flash(*words: str) -> int:
    return main(["flash", "p", "--board", "mine.toml", *words])


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the sentence that flashing fails with."""
    capsys.readouterr()
    assert flash(*words) == 2
    printed = capsys.readouterr().err.strip().split("\n")
    assert printed[-1].startswith("fieldtune: ")
    return printed[-1]


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """Work in the empty `folder`, with one built project, `p`, of board `mine`, which has all runners."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GAP_SDK_HOME", raising=False)
    Path("mine.toml").write_text(ALL_TABLES)
    Path("p/build").mkdir(parents=True)
    Path("p/plan.json").write_text('{"board": "mine"}')
    Path("p/build/firmware.elf").touch()
    return empty_bus(folder / "bus", monkeypatch)
