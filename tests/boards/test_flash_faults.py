"""What goes wrong with flash tools becomes a sentence with the command that mends it.

The tools are not installed where the tests run: stand-ins print what the tools' sources or users say.
OpenOCD 0.12.0, stlink 1.7.0, esptool 5.6.0, pyOCD 0.46.0 and bossac 1.9.1 were run to see it.
"""

import json
import shlex
from pathlib import Path

import pytest
from connected import Bus, forbid
from flashing_bench import ALL_TABLES, ID, complaint, flash, prepare, stand_in

from boards.flashing import RUNNERS


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    return prepare(tmp_path, monkeypatch)


@pytest.mark.parametrize("runner", sorted(set(RUNNERS) - {"uf2", "gapy", "esptool", "bossac"}))
def test_a_missing_tool_comes_with_how_to_install_it(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    stand_in(monkeypatch, arm_none_eabi_objcopy=(0, ""))
    said = complaint(capsys, "-r", runner)
    assert f"{RUNNERS[runner].program} is not installed; {RUNNERS[runner].install}" in said
    assert "or take another runner of mine with -r" in said


def test_a_missing_objcopy_comes_with_its_package(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    said = complaint(capsys, "-r", "stflash")
    assert (
        "arm-none-eabi-objcopy is not installed; install it with: apt-get install gcc-arm-none-eabi" in said
    )


FAULTS = [
    (
        "pyocd",
        "No connected debug probes\n0000842 E No target device available [load_cmd]\n",
        "finds no probe for mine",
    ),
    ("pyocd", "Enter the number of the debug probe or 'q' to quit> ", "choose one with -i SERIAL_NUMBER"),
    (
        "pyocd",
        "0000400 W [Errno 13] Access denied (insufficient permissions) while trying to get the STLink USB "
        "device configuration (VID=0483 PID=374e). This can probably be remedied with a udev rule.",
        f"no permission to use the USB device {ID} of mine; run: printf '%s\\n' 'SUBSYSTEM==",
    ),
    (
        "pyocd",
        "0000931 C Target type stm32h743zitx not recognized. Use 'pyocd list --targets' to see",
        "run: pyocd pack install stm32h743zitx",
    ),
    (
        "pyocd",
        "0000500 C STLink error (5): No device connected [__main__]",
        "the chip of mine does not answer pyocd",
    ),
    (
        "openocd",
        "Info : clock speed 1800 kHz\nError: open failed\n** OpenOCD init failed **",
        "finds no probe for mine",
    ),
    ("openocd", "Error: unable to find a matching CMSIS-DAP device", "finds no probe"),
    (
        "openocd",
        "Error: libusb_open() failed with LIBUSB_ERROR_ACCESS\nError: open failed",
        "no permission to use",
    ),
    ("openocd", "Error: libusb_claim_interface() failed with LIBUSB_ERROR_BUSY", "in use by another program"),
    (
        "openocd",
        "Warn : UNEXPECTED idcode: 0x0bc11477\nError: expected 1 of 1: 0x1ba01477",
        "is no STM32H743ZI",
    ),
    ("openocd", "Error: init mode failed (unable to connect to the target)", "does not answer openocd"),
    ("stflash", "2026-11-22T18:19:17 WARN usb.c: Couldn't find any ST-Link devices", "finds no probe"),
    (
        "stflash",
        "ERROR usb.c: Could not open USB device 0x0483:0x374e, access error.",
        "no permission to use",
    ),
    (
        "stflash",
        "WARN usb.c: Stlink usb device found, but unable to claim (probably already in use?)",
        "in use by",
    ),
    ("stflash", "unknown chip id! 0", "does not answer stflash"),
    ("stm32cubeprogrammer", "Error: No debug probe detected.", "finds no probe"),
    (
        "stm32cubeprogrammer",
        "Error: No STM32 target found! If your product embeds Debug Auth",
        "does not answer",
    ),
    ("stm32cubeprogrammer", "Error: ST-LINK error (DEV_TARGET_NOT_HALTED)", "does not answer"),
    ("stm32cubeprogrammer", "Error: ST-LINK error (DEV_USB_COMM_ERR)", "in use by another program"),
    ("nrfutil", "NotAvailableBecauseProtection", "run: nrfutil device recover"),
    ("jlink", "Connecting to J-Link via USB...FAILED: Cannot connect to J-Link.", "finds no probe"),
    ("jlink", "Cannot connect to target.", "does not answer jlink"),
    ("picotool", "No accessible RP-series devices in BOOTSEL mode were found.", "hold the button BOOTSEL"),
    (
        "picotool",
        "No accessible RP-series devices in BOOTSEL mode were found.\n\nbut:\n\nRP2350 device at bus 1, "
        "address 2 appears to be in BOOTSEL mode, but picotool was unable to connect. Maybe try 'sudo'",
        "no permission to use the USB device",
    ),
    ("picotool", "ERROR: Command requires a single RP-series device to be targeted.", "choose one with -i"),
    (
        "esptool",
        "A fatal error occurred: This chip is ESP32-S3, not ESP32-C3. Wrong chip argument?",
        "is no STM32H7",
    ),
    (
        "esptool",
        "A fatal error occurred: Failed to connect to ESP32-C3: No serial data received.",
        "hold its button BOOT",
    ),
    ("esptool", "Error: No such command 'write-flash'.", "run: pip install 'esptool>=5'"),
    ("bossac", "No device found on ttyACM7", "press its reset button twice"),
    ("bossac", "Device unsupported", "arduino-cli core install"),
    ("gapy", "unable to open ftdi device: device not found", "finds no probe"),
]


@pytest.mark.parametrize(("runner", "printed", "sentence"), FAULTS)
def test_what_tools_print_becomes_a_sentence_with_what_mends_it(
    bus: Bus,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    runner: str,
    printed: str,
    sentence: str,
) -> None:
    helpers = {"arm_none_eabi_objcopy": (0, ""), "stty": (0, "")}
    monkeypatch.setenv("GAP_SDK_HOME", "/sdk")
    port = ["--port", "loop://"] if RUNNERS[runner].over == "serial" else []
    if runner == "bossac":
        Path("mine.toml").write_text(ALL_TABLES.replace('bootloader_ids = ["2341:005a"]\n', ""))
    stand_in(monkeypatch, **helpers)
    program = Path("bin", RUNNERS[runner].program)
    program.write_text(f"#!/bin/sh\nprintf '%s' {shlex.quote(printed)}\nexit 1\n")
    program.chmod(0o755)
    assert sentence in complaint(capsys, "-r", runner, *port)


def test_an_unknown_failure_shows_the_last_line_and_the_command(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, openocd=(3, "one\n\x1b[31mtwo went wrong\x1b[0m\n"))
    said = complaint(capsys, "-r", "openocd")
    assert "openocd failed with exit code 3 (two went wrong)" in said
    assert "run: openocd -f interface/stlink.cfg" in said
    assert "fieldtune doctor" in said


def test_a_probe_without_permission_is_told_although_the_tool_sees_none(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = bus.plug(ID, "003A")
    stand_in(monkeypatch, pyocd=(1, "No connected debug probes"))
    forbid(monkeypatch, node)
    said = complaint(capsys, "-r", "pyocd")
    assert f"no permission to use the USB device {ID}" in said
    assert 'ATTR{idVendor}=="0483", ATTR{idProduct}=="374e"' in said


def test_two_probes_are_listed_and_neither_is_flashed(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.plug(ID, "003A", ports=("/dev/ttyACM0",))
    bus.plug(ID, "003B")
    log = stand_in(monkeypatch, openocd=(0, ""))
    said = complaint(capsys, "-r", "openocd")
    assert "choose one with -i SERIAL_NUMBER" in said
    assert "003A) at /dev/ttyACM0" in said
    assert "003B" in said
    assert not log.exists()
    assert flash("-r", "openocd", "-i", "003B") == 0
    assert "adapter serial 003B" in log.read_text()


def test_a_probe_that_sits_on_another_board_is_refused(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The keys are those of pyOCD 0.46.0, tools/lists.py.
    other = {"unique_id": "003A", "board_name": "NUCLEO-L4R5ZI", "target": "stm32l4r5zitx"}
    unknown = {"unique_id": "003B", "board_name": "Generic", "target": "cortex_m"}
    log = stand_in(monkeypatch, pyocd=(0, f"a warning\n{json.dumps({'boards': [other, unknown]})}"))
    said = complaint(capsys, "-r", "pyocd", "-i", "003A")
    assert "the connected board is NUCLEO-L4R5ZI (stm32l4r5zitx), not mine (stm32h743zitx)" in said
    assert "pyocd load" not in log.read_text()
    assert flash("-r", "pyocd", "-i", "003B") == 0
    assert "pyocd load" in log.read_text()


def test_a_port_that_cannot_be_used_is_told_before_a_tool_runs(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = stand_in(monkeypatch, esptool=(0, ""))
    assert "there is no port /dev/ttyACM99" in complaint(capsys, "-r", "esptool", "--port", "/dev/ttyACM99")
    assert not log.exists()
