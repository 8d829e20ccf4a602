"""Flash runners: the exact commands, and what becomes of the board."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from connected import Bus
from flashing_bench import ALL_TABLES, ID, complaint, flash, prepare, stand_in

from boards import load_board
from boards.flashing import RUNNERS, uf2
from boards.flashing.shell import Shell
from fieldtune.__main__ import main
from fieldtune.errors import BoardError

BIN = "arm-none-eabi-objcopy -O binary p/build/firmware.elf p/build/firmware.bin"
HEX = "arm-none-eabi-objcopy -O ihex p/build/firmware.elf p/build/firmware.hex"
CUBE = "STM32_Programmer_CLI --connect port=SWD mode=UR reset=HWrst"
NRFUTIL = "nrfutil device program --firmware p/build/firmware.hex --core Application"
JLINK = "JLinkExe -NoGui 1 -ExitOnError 1"
JLINK_END = "-device nRF5340_xxAA_APP -if SWD -speed 4000 -autoconnect 1 -CommandFile p/build/flash.jlink"
PLAIN = {
    "pyocd": ["pyocd load --no-wait --target stm32h743zitx p/build/firmware.elf"],
    "openocd": [
        "openocd -f interface/stlink.cfg -f target/stm32h7x.cfg "
        "-c 'program {p/build/firmware.elf} verify reset exit'"
    ],
    "stflash": [BIN, "st-flash --reset write p/build/firmware.bin 0x08000000"],
    "stm32cubeprogrammer": [f"{CUBE} --download p/build/firmware.elf --verify -hardRst"],
    "nrfutil": [
        HEX,
        f"{NRFUTIL} --options "
        "chip_erase_mode=ERASE_RANGES_TOUCHED_BY_FIRMWARE,verify=VERIFY_READ,reset=RESET_SYSTEM",
    ],
    "jlink": [
        HEX,
        "printf '%s\\n' r 'loadfile \"p/build/firmware.hex\"' r g exit > p/build/flash.jlink",
        f"{JLINK} {JLINK_END}",
    ],
    "picotool": ["picotool load --verify --execute p/build/firmware.elf -f"],
    "uf2": [
        "picotool uf2 convert p/build/firmware.elf p/build/firmware.uf2 --family rp2040",
        "cp p/build/firmware.uf2 DRIVE/",
    ],
    "esptool": [
        "esptool --chip esp32c3 elf2image --output p/build/firmware.bin p/build/firmware.elf",
        "esptool --chip esp32c3 --port PORT --baud 460800 write-flash 0x10000 p/build/firmware.bin",
    ],
    "bossac": ["stty -F PORT 1200", BIN, "bossac --port PORT -U -e -w -v p/build/firmware.bin -R"],
    "gapy": [
        "gapy --target=gap9.evk --platform=board --target-dir=GAP_SDK_HOME/utils/gapy_v2/targets "
        "--work-dir=p/build --target-property=boot.flash_device=mram --target-property=boot.mode=flash "
        "--openocd-cable=GAP_SDK_HOME/utils/openocd_tools/tcl/gapuino_ftdi.cfg "
        "--openocd-script=GAP_SDK_HOME/utils/openocd_tools/tcl/gap9revb.tcl "
        "--openocd-tools=GAP_SDK_HOME/utils/openocd_tools "
        "--multi-flash-content=GAP_SDK_HOME/utils/layouts/default_layout_multi_readfs.json "
        "--flash-property=GAP_SDK_HOME/install/target/bin/fsbl@mram:fsbl:binary "
        "--flash-property=GAP_SDK_HOME/install/target/bin/ssbl@mram:ssbl:binary "
        "--flash-property=p/build/firmware.elf@mram:app:binary image flash"
    ],
}
ERASED_AND_CHOSEN = {
    "pyocd": [
        "pyocd load --no-wait --target stm32h743zitx --erase chip --uid 42 --frequency 4M "
        "p/build/firmware.elf"
    ],
    "stflash": [
        "st-flash --serial 42 --frequency 4M erase",
        BIN,
        "st-flash --reset --serial 42 --frequency 4M write p/build/firmware.bin 0x08000000",
    ],
    "stm32cubeprogrammer": [
        f"{CUBE} sn=42 --frequency 4M --erase all",
        f"{CUBE} sn=42 --frequency 4M --download p/build/firmware.elf --verify -hardRst",
    ],
    "nrfutil": [
        HEX,
        f"{NRFUTIL} --serial-number 42 --options "
        "chip_erase_mode=ERASE_ALL,verify=VERIFY_READ,reset=RESET_SYSTEM --frequency 4M",
    ],
    "jlink": [
        HEX,
        "printf '%s\\n' r erase 'loadfile \"p/build/firmware.hex\"' r g exit > p/build/flash.jlink",
        f"{JLINK} -USB 42 {JLINK_END.replace(' -CommandFile', ' --frequency 4M -CommandFile')}",
    ],
    "picotool": [
        "picotool erase --all --ser 42 -F",
        "picotool load --verify --execute p/build/firmware.elf --frequency 4M --ser 42 -f",
    ],
}


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    return prepare(tmp_path, monkeypatch)


@pytest.mark.parametrize("runner", sorted(RUNNERS))
def test_dry_run_prints_the_exact_commands(
    bus: Bus, capsys: pytest.CaptureFixture[str], runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)  # no tool is there
    assert flash("-r", runner, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == PLAIN[runner]
    assert sorted(path.name for path in Path("p/build").iterdir()) == ["firmware.elf"]


@pytest.mark.parametrize("runner", sorted(ERASED_AND_CHOSEN))
def test_probe_erase_and_options_of_the_tool_are_passed_on(
    bus: Bus, capsys: pytest.CaptureFixture[str], runner: str
) -> None:
    assert flash("-r", runner, "--dry-run", "--erase", "-i", "42", "-O", "--frequency 4M") == 0
    assert capsys.readouterr().out.splitlines() == ERASED_AND_CHOSEN[runner]


def test_names_with_spaces_are_quoted(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p").rename("my p")
    assert main(["flash", "my p", "--board", "mine.toml", "-r", "pyocd", "--dry-run"]) == 0
    assert capsys.readouterr().out.strip().endswith("--target stm32h743zitx 'my p/build/firmware.elf'")


def test_the_first_table_of_the_description_is_the_default(
    bus: Bus, capsys: pytest.CaptureFixture[str]
) -> None:
    others = ALL_TABLES.replace("[flash.stflash]\n", "")
    Path("mine.toml").write_text(others.replace("[flash.pyocd]", "[flash.stflash]\n[flash.pyocd]"))
    assert flash("--dry-run", "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["runner"] == "stflash"
    assert found["commands"] == PLAIN["stflash"]
    assert found["dry_run"] is True


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-r", "jtag"], r"mine is not flashed with 'jtag'; take one of pyocd, openocd, stflash"),
        (["-r", "openocd", "--erase"], "openocd cannot erase the whole flash; leave out --erase"),
        (["-r", "uf2", "-i", "42"], "uf2 takes no -i"),
        (["-r", "pyocd", "--port", "/dev/x"], "pyocd goes over no serial port; leave out --port"),
        (["-r", "pyocd", "-O", "'x"], "cannot split the words of -O 'x: No closing quotation"),
    ],
)
def test_what_a_tool_cannot_do_is_refused(
    bus: Bus, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert sentence in complaint(capsys, *words, "--dry-run")


def test_projects_that_cannot_be_flashed_are_told(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p/build/firmware.elf").unlink()
    assert "there is no firmware p/build/firmware.elf; build it" in complaint(capsys, "--dry-run")
    Path("p/plan.json").write_text('{"board": "netduinoplus2"}')
    assert "p was built for netduinoplus2, not for mine" in complaint(capsys)
    assert main(["flash", "p"]) == 2
    assert "netduinoplus2 names no flash tool: it runs on this computer" in capsys.readouterr().err
    Path("p/plan.json").write_text('{"board": "theirs"}')
    assert main(["flash", "p"]) == 2
    assert "board of your own, theirs; give its file with --board" in capsys.readouterr().err
    Path("p/plan.json").write_text("[]")
    assert main(["flash", "p"]) == 2
    assert "p is no project of fieldtune" in capsys.readouterr().err


def test_a_real_image_is_made_for_tools_that_want_one(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = f"{load_board('netduinoplus2').compiler.prefix}gcc"
    Path("a.c").write_text("int answer(void) { return 42; }\n")
    Shell().call(compiler, "-nostdlib", "-Wl,-Ttext=0x08000000,-eanswer", "a.c", "-o", "p/build/firmware.elf")
    Path("bin").mkdir()
    tool = Path("bin/st-flash")
    tool.write_text("#!/bin/sh\nexit 0\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent.absolute()}:/usr/bin:/bin")
    assert flash("-r", "stflash") == 0
    assert 0 < Path("p/build/firmware.bin").stat().st_size < 100  # from 0x08000000 on, not from 0


def test_a_board_that_enumerates_anew_is_waited_for(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.toml").write_text(ALL_TABLES.replace("[usb]", "[usb]\nreenumerates = true"))
    bus.plug(ID, "003A", ports=("/dev/ttyACM3",))
    stand_in(monkeypatch, openocd=(0, ""))
    assert flash("-r", "openocd", "--json") == 0
    assert json.loads(capsys.readouterr().out)["port"] == "/dev/ttyACM3"


def test_of_two_boards_the_one_that_was_flashed_is_waited_for(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.toml").write_text(ALL_TABLES.replace("[usb]", "[usb]\nreenumerates = true"))
    bus.plug(ID, "003A", ports=("/dev/ttyACM3",))
    bus.plug(ID, "003B", ports=("/dev/ttyACM4",))
    stand_in(monkeypatch, openocd=(0, ""))
    assert flash("-r", "openocd", "-i", "003B", "--json") == 0
    assert json.loads(capsys.readouterr().out)["port"] == "/dev/ttyACM4"


def test_a_board_that_does_not_come_back_is_flashed_all_the_same(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.toml").write_text(ALL_TABLES.replace("[usb]", "[usb]\nreenumerates = true"))
    monkeypatch.setattr("boards.usb.BACK_SECONDS", 0.0)
    stand_in(monkeypatch, openocd=(0, ""))
    assert "mine is flashed, but no serial port of USB id" in complaint(capsys, "-r", "openocd")


def test_bossac_goes_to_the_port_that_the_boot_loader_has(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = tmp_path / "ttyACM0"
    port.touch()
    bus.plug(ID, "003A", ports=(str(port),))
    log = stand_in(monkeypatch, stty=(0, ""), bossac=(0, ""), arm_none_eabi_objcopy=(0, ""))

    def start_boot_loader(seconds: float) -> None:
        bus.plug("2341:005a", "003A", "Boot loader", ports=("/dev/ttyACM9",))

    monkeypatch.setattr("boards.usb.time.sleep", start_boot_loader)
    assert flash("-r", "bossac") == 0
    touched, converted, written = log.read_text().splitlines()
    assert touched == f"stty -F {port} 1200"
    assert converted.startswith("arm-none-eabi-objcopy")
    assert written == "bossac --port ttyACM9 -U -e -w -v p/build/firmware.bin -R"
    assert flash("-r", "bossac") == 0  # its boot loader waits already
    converted, again = log.read_text().splitlines()[3:]
    assert again == written


def test_firmware_of_another_kit_is_flashed_by_its_file(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    Path("app.elf").touch()
    assert main(["flash", "--board", "rpi_pico", "--file", "app.elf", "--dry-run"]) == 0
    assert capsys.readouterr().out == "picotool load --verify --execute app.elf -f\n"
    assert main(["flash", "--file", "app.elf"]) == 2
    assert "which board is it? add --board" in capsys.readouterr().err
    assert main(["flash"]) == 2
    assert "what to flash? give the folder of a project" in capsys.readouterr().err


def test_ctrl_c_says_what_became_of_the_board(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    tool = Path("bin/openocd")
    tool.write_text("#!/bin/sh\nkill -INT $PPID\nexec /bin/sleep 30\n")
    tool.chmod(0o755)
    command = [sys.executable, "-m", "fieldtune", "flash", "p", "--board", "mine.toml", "-r", "openocd"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "stopped by Ctrl-C: mine may hold half a firmware; run the same command again" in done.stderr


def test_uf2_goes_to_the_drive_of_the_right_board(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mounts = []
    for name, board_id in (("other", "RP2350"), ("my drive", "RPI-RP2")):
        drive = tmp_path / name
        drive.mkdir()
        (drive / "INFO_UF2.TXT").write_text(f"UF2 Bootloader v3.0\r\nModel: Pi\r\nBoard-ID: {board_id}\r\n")
        mounts.append(f"/dev/sda1 {str(drive).replace(' ', chr(92) + '040')} vfat rw 0 0")
    (tmp_path / "mounts").write_text("\n".join(mounts) + "\n")
    monkeypatch.setattr(uf2, "MOUNTS", tmp_path / "mounts")
    Path("p/build/firmware.uf2").write_text("image")
    log = stand_in(monkeypatch, picotool=(0, ""), cp=(0, ""))
    assert flash("-r", "uf2") == 0
    assert log.read_text().splitlines()[-1] == f"cp p/build/firmware.uf2 {tmp_path}/my drive/"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("[flash.pyocdd]\n", r"'flash\.pyocdd' is no flash tool \(did you mean pyocd"),
        ("[flash.pyocd]\n", r"'flash\.pyocd\.target' is missing"),
        ("[flash.pyocd]\ntarget = 3\n", r"'flash\.pyocd\.target' must be a string, not 3"),
        ('[flash.pyocd]\ntarget = "x"\nspeed = 3\n', r"'flash\.pyocd\.speed' is not a key"),
        ('[flash.esptool]\nchip = "x"\naddress = "0"\n', r"'flash\.esptool\.address' must be a whole number"),
        ('[flash.openocd]\narguments = "-f x"\n', r"'flash\.openocd\.arguments' must be a list of strings"),
        ("[flash]\npyocd = 1\n", r"'flash\.pyocd' must be a table"),
        (
            '[usb]\nids = ["0483:374E"]\nsource = "x"\n',
            r"'usb\.ids' must hold \"vendor:product\" in lower-case",
        ),
        ('[usb]\nids = ["0483:374e"]\n', r"'usb\.source' is missing"),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, table: str, problem: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = "netduinoplus2"\nid = "mine"\n{table}')
    with pytest.raises(BoardError, match=problem):
        load_board(path)
