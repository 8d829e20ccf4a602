"""Builds: what is measured, what is refused, and what a failed build leaves behind."""

import dataclasses
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import serial
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from boards import Board, Firmware, board_names, build, has_compiler, load_board, port_files, start
from fieldtune.errors import BoardError

WITH_PORT = [name for name in board_names() if load_board(name).port and load_board(name).kit is None]
BARE_METAL = [name for name in WITH_PORT if load_board(name).arch != "host"]
EMULATED = [name for name in BARE_METAL if load_board(name).runs_in]

MINIMAL = """
#include "port.h"
{arrays}
int main(void) {{
    ft_port_init();
    for (;;) {{
        ft_port_idle();
        {body}
    }}
}}
"""


def check_places(firmware: Firmware, board: Board) -> None:
    """Check that all lies in a region of its kind, and at the flash's start what the core starts from."""
    with firmware.elf.open("rb") as stream:
        elf = ELFFile(stream)
        sections = {
            section.name: section
            for section in elf.iter_sections()
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_size"]
        }
        for section in sections.values():
            start, end = section["sh_addr"], section["sh_addr"] + section["sh_size"]
            homes = [
                region for region in board.regions if region.start <= start < region.start + region.bytes
            ]
            writable = bool(section["sh_flags"] & SH_FLAGS.SHF_WRITE)
            assert [region.kind for region in homes] == ["ram" if writable else "flash"], section.name
            assert end <= homes[0].start + homes[0].bytes
        first = min(region.start for region in board.regions if region.kind == "flash")
        assert sections[".vectors"]["sh_addr"] == first
        assert sections[".stack"]["sh_addr"] == board.main_ram.start
        if board.arch == "arm":
            stack, reset = struct.unpack_from("<II", sections[".vectors"].data())
            assert stack == board.main_ram.start + board.stack_bytes
            assert reset & 1
            assert reset == elf["e_entry"]


def own_board(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


# Of pulp_open's port only what is used is linked: tests/gap9/test_pulp_open.py.
@pytest.mark.parametrize("name", [name for name in BARE_METAL if name != "pulp_open"])
def test_ram_of_the_model_is_counted_to_the_byte(
    tmp_path: Path, write_project: Callable[..., Path], name: str
) -> None:
    board = load_board(name)
    place = f'__attribute__((section(".ft_ram.{board.main_ram.name}"), aligned(8)))'
    arrays = f"static unsigned char arena[5000] {place};"
    source = MINIMAL.format(arrays=arrays, body="ft_port_read(arena, sizeof arena);")
    firmware = build(write_project(tmp_path / "project", board, source), board)
    assert 0 <= firmware.ram_bytes - (5000 + board.port_ram_bytes) < 8  # the arena's alignment
    assert firmware.symbols["arena"] == 5000
    assert firmware.data_bytes == 0  # an arena of zeros takes no flash
    assert firmware.elf.stat().st_size < 100_000
    check_places(firmware, board)


@pytest.mark.parametrize("name", BARE_METAL)
def test_no_function_of_a_port_has_the_name_of_a_place(name: str) -> None:
    """The linker would take the place for it, without a word, and calls would go there."""
    files = port_files(load_board(name))
    places = set(re.findall(r"^ *(\w+) = ", files.pop("link.ld"), re.MULTILINE))
    assert "ft_flash_end" in places
    called = {word for text in files.values() for word in re.findall(r"\b(\w+)\(", text)}
    assert places & called == set()


def test_arrays_go_to_the_ram_region_that_they_name(
    tmp_path: Path, write_project: Callable[..., Path]
) -> None:
    psram = '[regions.psram]\nkind = "ram"\nstart = 0x60000000\nbytes = 0x1000000\nsource = "QEMU"\n'
    board = load_board(own_board(tmp_path, f'extends = "mps2_an500"\nid = "with_psram"\n{psram}'))
    arrays = (
        'static unsigned char far[6000000] __attribute__((section(".ft_ram.psram")));\n'
        "static unsigned char near[100];"
    )
    body = """
        if (ft_port_read(near, 1) == 1) {
            const unsigned char *const place = far;
            const unsigned char top = (unsigned char)((unsigned long)place >> 24);
            const unsigned char answer[] = {top, far[near[0] * 60000]};
            far[near[0] * 60000] = 7;
            ft_port_write(answer, 2);
        }
    """
    source = MINIMAL.format(arrays=arrays, body=body)
    firmware = build(write_project(tmp_path / "project", board, source), board)
    assert firmware.ram_bytes >= 6_000_100
    with start(firmware.elf, board) as running, serial.Serial(running.url, timeout=1) as port:
        answer = b""
        while not answer:
            port.write(b"\x05")
            answer = port.read(2)
        assert answer == b"\x60\x00"  # in the region, and zero after reset


@pytest.mark.parametrize("name", EMULATED)
def test_firmware_that_exceeds_the_ram_is_refused(
    tmp_path: Path, write_project: Callable[..., Path], name: str
) -> None:
    board = load_board(name)
    ram, more = board.main_ram.name, r"[12],\d\d\d" if board.unified else r"1,0\d\d"  # code lies there, too
    left = board.main_ram.bytes - board.stack_bytes - board.port_ram_bytes
    arrays = f"static unsigned char arena[{left + 1000}];"
    project = write_project(
        tmp_path / "p", board, MINIMAL.format(arrays=arrays, body="ft_port_read(arena, sizeof arena);")
    )
    with pytest.raises(
        BoardError, match=rf"does not fit into {name}: region '{ram}' is {more} bytes too small"
    ):
        build(project, board)
    assert not (project / "build" / "firmware.elf").exists()


def test_process_that_exceeds_the_described_ram_is_refused(
    tmp_path: Path, write_project: Callable[..., Path]
) -> None:
    board = load_board(
        own_board(tmp_path, 'extends = "native"\nid = "tight"\n[regions.ram]\nbytes = 300000\n')
    )
    source = MINIMAL.format(arrays="static unsigned char a[50000];", body="ft_port_read(a, sizeof a);")
    with pytest.raises(BoardError, match=r"does not fit into tight: it needs 31\d,\d\d\d bytes"):
        build(write_project(tmp_path / "project", board, source), board)


def test_nothing_is_built_twice(tmp_path: Path, write_project: Callable[..., Path]) -> None:
    board = load_board("native")
    project = write_project(tmp_path / "project", board)
    first = build(project, board)
    made = first.elf.stat().st_ino
    assert build(project, board) == first
    assert first.elf.stat().st_ino == made
    (project / "main.c").write_text((project / "main.c").read_text() + "\n/* changed */\n")
    build(project, board)
    assert first.elf.stat().st_ino != made


@pytest.mark.parametrize("name", ["native", "mps2_an500", "qemu_riscv32"])  # one a compiler
def test_the_same_sources_give_the_same_bytes(
    tmp_path: Path, write_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CCACHE_DISABLE", "1")
    board = load_board(name)
    one, two = (build(write_project(tmp_path / folder, board), board).elf for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_compile_error_is_one_sentence_and_leaves_the_old_firmware(
    tmp_path: Path, write_project: Callable[..., Path]
) -> None:
    board = load_board("mps2_an500")
    project = write_project(tmp_path / "project", board)
    before = build(project, board).elf.read_bytes()
    (project / "main.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(
        BoardError, match=r"does not compile: main\.c:1:\d+: error: .nothing. undeclared"
    ) as caught:
        build(project, board)
    assert "\n" not in str(caught.value)
    assert (project / "build" / "firmware.elf").read_bytes() == before
    assert "nothing" in (project / "build" / "compiler.log").read_text()
    assert not list((project / "build").glob(".objects-*"))


def test_missing_compiler_names_its_package(
    tmp_path: Path, write_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = load_board("mps2_an500")
    project = write_project(tmp_path / "project", board)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BoardError, match=r"arm-none-eabi-gcc .* apt-get install gcc-arm-none-eabi"):
        build(project, board)


def test_missing_emulator_names_its_package(
    echo_firmware: Callable[[str], Firmware], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elf = echo_firmware("qemu_riscv32").elf
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(BoardError, match=r"qemu-system-riscv32 .* apt-get install qemu-system-misc"),
        start(elf, load_board("qemu_riscv32")),
    ):
        pass


def test_board_that_is_not_emulated_cannot_be_started(tmp_path: Path) -> None:
    board = load_board(own_board(tmp_path, 'extends = "netduinoplus2"\nid = "real"\nruns_in = []\n'))
    elf = tmp_path / "firmware.elf"
    elf.touch()
    with pytest.raises(BoardError, match="real is not emulated; connect it"), start(elf, board):
        pass


def test_firmware_that_does_not_start_says_why(tmp_path: Path) -> None:
    elf = tmp_path / "firmware.elf"
    shutil.copy("/bin/false", elf)
    with pytest.raises(BoardError, match="does not start"), start(elf, load_board("native")):
        pass


def test_native_counts_no_instructions(echo_firmware: Callable[[str], Firmware]) -> None:
    elf = echo_firmware("native").elf
    with (
        pytest.raises(BoardError, match="counts no instructions"),
        start(elf, load_board("native"), icount=0),
    ):
        pass


def test_sanitizers_stop_a_write_outside_an_array(tmp_path: Path, write_project: Callable[..., Path]) -> None:
    board = load_board("native")
    body = """
        unsigned char at;
        if (ft_port_read(&at, 1) == 1) {
            area[at] = at;
            ft_port_write(&at, 1);
        }
    """
    source = MINIMAL.format(arrays="static volatile unsigned char area[16];", body=body)
    firmware = build(write_project(tmp_path / "project", board, source), board, sanitize=True)
    with start(firmware.elf, board) as running:
        port = serial.Serial(running.url, timeout=30)
        port.write(b"\x0f")
        assert port.read(1) == b"\x0f"
        port.write(b"\x10")
        running.process.wait(timeout=30)
        assert "index 16 out of bounds" in running.last_words() or "buffer-overflow" in running.last_words()


def test_sanitizers_are_refused_elsewhere(tmp_path: Path, write_project: Callable[..., Path]) -> None:
    board = load_board("mps2_an386")
    with pytest.raises(BoardError, match="this computer only"):
        build(write_project(tmp_path / "project", board), board, sanitize=True)


@pytest.mark.parametrize("name", WITH_PORT)
def test_port_is_clean_under_strict_warnings(
    tmp_path: Path, write_project: Callable[..., Path], name: str
) -> None:
    board = load_board(name)
    project = write_project(tmp_path / "project", board)
    strict = [
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Wsign-conversion",
        "-Wshadow",
        "-Wstrict-prototypes",
        "-Werror",
    ]
    command = [f"{board.compiler.prefix}gcc", "-std=gnu99", "-O2", *board.compiler.flags, *strict]
    command += ["-ffreestanding"] if board.arch != "host" else []
    for source in sorted((project / "port").glob("*.c")):
        output = os.devnull
        done = subprocess.run(
            [*command, "-I", "port", "-I", "runtime/link", "-c", str(source), "-o", output],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", EMULATED)
def test_bare_metal_firmware_needs_no_c_library(
    tmp_path: Path, write_project: Callable[..., Path], name: str
) -> None:
    board = load_board(name)
    firmware = build(write_project(tmp_path / "project", board), board)
    loaded = [line for line in firmware.map.read_text().splitlines() if line.startswith("LOAD ")]
    archives = {Path(line.split()[1]).name for line in loaded if line.endswith(".a")}
    assert archives <= {"libgcc.a"}
    assert "link.ld" in port_files(board)


@pytest.mark.parametrize("name", ["rpi_pico", "esp32s3"])
def test_board_without_a_port_is_told_of_the_component(name: str) -> None:
    board = load_board(name)
    assert not has_compiler(board)
    with pytest.raises(BoardError, match=rf"{name} has no port of its own; generate the component"):
        port_files(board)


def test_missing_compiler_of_a_vendor_names_no_package(
    tmp_path: Path, write_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = load_board("mps2_an500")
    project = write_project(tmp_path / "project", board)
    monkeypatch.setenv("PATH", str(tmp_path))
    vendor = dataclasses.replace(board, compiler=dataclasses.replace(board.compiler, package=None))
    with pytest.raises(BoardError, match=r"is not installed; install it with the vendor's kit"):
        build(project, vendor)
