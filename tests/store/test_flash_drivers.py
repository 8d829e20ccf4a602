"""Flash drivers of parts that nobody has here, against models of their controllers.

The driver's C runs as a process in which every access of a register and of flash goes to a model that was
written after the manual (flash_models/): it refuses, corrupts or ends the run where a rule is broken. Then
the power is cut at each operation, as power_cuts.c does it on boards.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from test_power_cuts import RUNTIME, counts, points

from boards import Board, load_board, port_files
from firmware_gen.protocol_header import protocol_header

HERE = Path(__file__).parent
MODELS = HERE / "flash_models"
# The model, and what it is of.
PARTS = {
    "nucleo_h743zi2": ("stm32.cc", "H743"),
    "nucleo_h7a3zi_q": ("stm32.cc", "H7A3"),
    "stm32f746g_disco": ("stm32.cc", "F746"),
    "nucleo_l4r5zi": ("stm32.cc", "L4R5"),
    "nucleo_u575zi_q": ("stm32.cc", "U575"),
    "nrf52840dk": ("nrf.cc", "NRF"),
}
OF_THE_CORE = ("cortex_m.h", "string.h")
OF_THE_DRIVER = ("stm32_flash.c", "flash_part.c", "flash_nmi.c", "nrf_flash.c")
WARNINGS = ["-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Werror"]
SMALL_SECTORS = """
extends = "stm32f746g_disco"
id = "small_sectors"

[regions.flash]
start = 0x08018000
bytes = 950272
source = "RM0385: all behind the store"

[regions.vectors]
kind = "flash"
start = 0x08000000
bytes = 32768
source = "RM0385: the first sector"

[store]
start = 0x08008000
bytes = 65536
sector_bytes = 32768
"""


def compile_all(sources: Iterable[Path], folder: Path, *flags: str) -> None:
    """Compile C and C++, all as C++ and with the model's cortex_m.h, to object files in `folder`."""
    includes = [MODELS, folder, folder / "link", RUNTIME, RUNTIME / "link", HERE]
    options = ["-x", "c++", "-std=gnu++20", "-O1", *WARNINGS, *flags, *(f"-I{path}" for path in includes)]
    subprocess.run(["g++", "-c", *options, *map(str, sources)], check=True, cwd=folder)


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The store, power_cuts.c and what all models share, compiled."""
    folder = tmp_path_factory.mktemp("common")
    (folder / "link").mkdir()
    (folder / "link" / "protocol.h").write_text(protocol_header())
    (folder / "cuts.cc").write_text('#define main run_power_cuts\n#include "power_cuts.c"\n')
    store = [RUNTIME / "link" / name for name in ("store.c", "frame.c")]
    compile_all([*store, folder / "cuts.cc", MODELS / "model.cc", MODELS / "main.cc"], folder)
    return sorted(folder.glob("*.o"))


def build_model(name: str, folder: Path, common: list[Path], files: dict[str, str]) -> Path:
    """Compile the driver among the files of the board's port with the model of its controller."""
    model, part = PARTS[name]
    for file, text in files.items():
        if (file.endswith(".h") and file not in OF_THE_CORE) or file in OF_THE_DRIVER:
            (folder / file).write_text(text)
    compile_all([*folder.glob("*.c"), MODELS / model], folder, f"-DPART={part}")
    objects = [*sorted(folder.glob("*.o")), *common]
    subprocess.run(["g++", *map(str, objects), "-o", str(folder / "model")], check=True)
    return folder / "model"


def run_all(program: Path) -> dict[str, int]:
    """Return what came of the cuts; of errors nothing but the driver's notice may come."""
    said = []
    for what in ("errors", "cuts"):
        done = subprocess.run([str(program), what], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert said[0] == "done\n"
    return counts(said[1])


def check_part(board: Board, name: str, folder: Path, common: list[Path]) -> None:
    found = run_all(build_model(name, folder, common, port_files(board)))
    assert board.store is not None
    cuts = points(board.store.unit_bytes, board.store.sector_bytes)
    assert found["points"] == found["old"] + found["new"] == cuts
    assert found["whole"] == 1


@pytest.mark.parametrize("name", PARTS)
def test_a_driver_keeps_the_rules_of_its_controller_also_when_the_power_is_cut(
    name: str, tmp_path: Path, common: list[Path]
) -> None:
    check_part(load_board(name), name, tmp_path, common)


@pytest.mark.long
def test_a_board_of_ones_own_may_take_the_small_sectors_of_an_f746(
    tmp_path: Path, common: list[Path]
) -> None:
    path = tmp_path / "board.toml"
    path.write_text(SMALL_SECTORS)
    check_part(load_board(path), "stm32f746g_disco", tmp_path, common)


# What a driver might forget: the board, the file, what is in it, what there is instead.
SLIPS = [
    ("nucleo_h743zi2", "stm32_flash.c", "FT_REGISTER(FT_FLASH_KEYR) = KEY_2;", ""),
    ("nucleo_h743zi2", "stm32_flash.c", "if (FT_REGISTER(FT_FLASH_CR) & FT_CR_LOCK)", "if (1)"),
    ("nucleo_l4r5zi", "stm32_flash.c", "begun && i < WORDS", "begun && i < WORDS - 1"),
    ("stm32f746g_disco", "stm32_flash.c", "FT_REGISTER(FT_FLASH_CLEAR) = FT_SR_ERRORS;", ""),
    ("stm32f746g_disco", "flash_part.h", "5u + (address", "4u + (address"),
    ("stm32f746g_disco", "flash_part.c", "ft_caches_drop(address, bytes);", "(void)(address + bytes);"),
    ("nucleo_h7a3zi_q", "flash_part.c", "ft_bus_faults_off();", ""),
    ("nucleo_h7a3zi_q", "device.h", "FT_CR_SECTOR_SHIFT 6u", "FT_CR_SECTOR_SHIFT 8u"),
    ("nucleo_l4r5zi", "flash_part.c", "ft_set_bits(FLASH_ACR, 0, ACR_DATA_RESET);", ""),
    ("nucleo_u575zi_q", "flash_nmi.c", "FT_REGISTER(FT_FLASH_ECCR) = ECCR_UNCORRECTED;", ""),
    ("nucleo_u575zi_q", "flash_part.h", "| CR_BANK_2 ", ""),
    ("nrf52840dk", "nrf_flash.c", "set_mode(CONFIG_WRITE);", ""),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "file", "right", "wrong"), SLIPS)
def test_a_model_notices_what_a_driver_forgets(
    name: str, file: str, right: str, wrong: str, tmp_path: Path, common: list[Path]
) -> None:
    files = port_files(load_board(name))
    assert right in files[file]
    files[file] = files[file].replace(right, wrong)
    program = build_model(name, tmp_path, common, files)
    with pytest.raises(AssertionError, match="broken: "):
        run_all(program)
