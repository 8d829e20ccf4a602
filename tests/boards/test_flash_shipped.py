"""Every shipped board can be flashed with every tool that its description names: the exact commands."""

import json
from pathlib import Path

import pytest
from connected import empty_bus

from boards import board_names, load_board
from fieldtune.__main__ import main

ELF = "p/build/firmware.elf"
PROGRAM = f"-c 'program {{{ELF}}} verify reset exit'"
BIN = f"arm-none-eabi-objcopy -O binary {ELF} p/build/firmware.bin"
HEX = f"arm-none-eabi-objcopy -O ihex {ELF} p/build/firmware.hex"
STFLASH = [BIN, "st-flash --reset write p/build/firmware.bin 0x08000000"]
CUBE = [f"STM32_Programmer_CLI --connect port=SWD mode=UR reset=HWrst --download {ELF} --verify -hardRst"]
NRFUTIL_OPTIONS = (
    "--options chip_erase_mode=ERASE_RANGES_TOUCHED_BY_FIRMWARE,verify=VERIFY_READ,reset=RESET_SYSTEM"
)
PICOTOOL = [f"picotool load --verify --execute {ELF} -f"]


GAPY = [
    "gapy --target=gap9.evk --platform=board --target-dir=GAP_SDK_HOME/utils/gapy_v2/targets "
    "--work-dir=p/build --target-property=boot.flash_device=mram --target-property=boot.mode=flash "
    "--openocd-cable=GAP_SDK_HOME/utils/openocd_tools/tcl/gapuino_ftdi.cfg "
    "--openocd-script=GAP_SDK_HOME/utils/openocd_tools/tcl/gap9revb.tcl "
    "--openocd-tools=GAP_SDK_HOME/utils/openocd_tools "
    "--multi-flash-content=GAP_SDK_HOME/utils/layouts/default_layout_multi_readfs.json "
    "--flash-property=GAP_SDK_HOME/install/target/bin/fsbl@mram:fsbl:binary "
    "--flash-property=GAP_SDK_HOME/install/target/bin/ssbl@mram:ssbl:binary "
    f"--flash-property={ELF}@mram:app:binary image flash"
]


def pyocd(target: str) -> list[str]:
    return [f"pyocd load --no-wait --target {target} {ELF}"]


def openocd(arguments: str) -> list[str]:
    return [f"openocd {arguments} {PROGRAM}"]


def jlink(device: str) -> list[str]:
    return [
        HEX,
        "printf '%s\\n' r 'loadfile \"p/build/firmware.hex\"' r g exit > p/build/flash.jlink",
        f"JLinkExe -NoGui 1 -ExitOnError 1 -device {device} -if SWD -speed 4000 -autoconnect 1 "
        "-CommandFile p/build/flash.jlink",
    ]


def uf2(family: str) -> list[str]:
    return [
        f"picotool uf2 convert {ELF} p/build/firmware.uf2 --family {family}",
        "cp p/build/firmware.uf2 DRIVE/",
    ]


def esptool(chip: str) -> list[str]:
    return [
        f"esptool --chip {chip} elf2image --output p/build/firmware.bin {ELF}",
        f"esptool --chip {chip} --port PORT --baud 460800 write-flash 0x10000 p/build/firmware.bin",
    ]


EXPECTED = {
    ("nucleo_h743zi2", "pyocd"): pyocd("stm32h743zitx"),
    ("nucleo_h743zi2", "openocd"): openocd("-f board/st_nucleo_h743zi.cfg"),
    ("nucleo_h743zi2", "stflash"): STFLASH,
    ("nucleo_h743zi2", "stm32cubeprogrammer"): CUBE,
    ("nucleo_h743zi2", "jlink"): jlink("STM32H743ZI"),
    ("nucleo_l4r5zi", "pyocd"): pyocd("stm32l4r5zitx"),
    ("nucleo_l4r5zi", "openocd"): openocd("-f board/st_nucleo_l4.cfg"),
    ("nucleo_l4r5zi", "stflash"): STFLASH,
    ("nucleo_l4r5zi", "stm32cubeprogrammer"): CUBE,
    ("nucleo_l4r5zi", "jlink"): jlink("STM32L4R5ZI"),
    ("nucleo_h7a3zi_q", "pyocd"): pyocd("stm32h7a3zitxq"),
    ("nucleo_h7a3zi_q", "openocd"): openocd("-f interface/stlink.cfg -f target/stm32h7x_dual_bank.cfg"),
    ("nucleo_h7a3zi_q", "stflash"): STFLASH,
    ("nucleo_h7a3zi_q", "stm32cubeprogrammer"): CUBE,
    ("nucleo_h7a3zi_q", "jlink"): jlink("STM32H7A3ZI"),
    ("stm32f746g_disco", "pyocd"): pyocd("stm32f746nghx"),
    ("stm32f746g_disco", "openocd"): openocd("-f board/stm32f746g-disco.cfg"),
    ("stm32f746g_disco", "stflash"): STFLASH,
    ("stm32f746g_disco", "stm32cubeprogrammer"): CUBE,
    ("stm32f746g_disco", "jlink"): jlink("STM32F746NG"),
    ("nucleo_u575zi_q", "pyocd"): pyocd("stm32u575zitx"),
    ("nucleo_u575zi_q", "openocd"): openocd("-f interface/stlink.cfg -f target/stm32u5x.cfg"),
    ("nucleo_u575zi_q", "stm32cubeprogrammer"): CUBE,
    ("nucleo_u575zi_q", "jlink"): jlink("STM32U575ZI"),
    ("nrf52840dk", "nrfutil"): [
        HEX,
        f"nrfutil device program --firmware p/build/firmware.hex {NRFUTIL_OPTIONS}",
    ],
    ("nrf52840dk", "jlink"): jlink("nRF52840_xxAA"),
    ("nrf52840dk", "pyocd"): pyocd("nrf52840"),
    ("nrf52840dk", "openocd"): openocd(
        "-f interface/jlink.cfg -c 'transport select swd' -f target/nrf52.cfg"
    ),
    ("nrf5340dk", "nrfutil"): [
        HEX,
        f"nrfutil device program --firmware p/build/firmware.hex --core Application {NRFUTIL_OPTIONS}",
    ],
    ("nrf5340dk", "jlink"): jlink("nrf5340_xxaa_app"),
    ("arduino_nano_33_ble", "bossac"): [
        "stty -F PORT 1200",
        BIN,
        "bossac --port PORT -U -e -w -v p/build/firmware.bin -R",
    ],
    ("rpi_pico", "picotool"): PICOTOOL,
    ("rpi_pico", "uf2"): uf2("rp2040"),
    ("rpi_pico2", "picotool"): PICOTOOL,
    ("rpi_pico2", "uf2"): uf2("rp2350-arm-s"),
    ("esp32c3", "esptool"): esptool("esp32c3"),
    ("esp32s3", "esptool"): esptool("esp32s3"),
    ("gap9_evk", "gapy"): GAPY,
}


def test_no_board_and_no_runner_is_left_out() -> None:
    boards = [load_board(name) for name in board_names()]
    named = [(board.id, runner.name) for board in boards for runner in board.flash_runners]
    assert sorted(EXPECTED) == sorted(named)
    alone = [board.id for board in boards if not board.runs_in and not board.flash_runners]
    assert alone == ["aideck"]  # its kit flashes it: make flash


@pytest.mark.parametrize(("board", "runner"), EXPECTED, ids=" ".join)
def test_dry_run_prints_the_exact_commands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    board: str,
    runner: str,
) -> None:
    empty_bus(tmp_path / "bus", monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    Path("p/build").mkdir(parents=True)
    Path("p/plan.json").write_text(json.dumps({"board": board}))
    Path(ELF).touch()
    assert main(["flash", "p", "-r", runner, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == EXPECTED[board, runner]
