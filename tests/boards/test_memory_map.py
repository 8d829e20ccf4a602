"""What is said of sections and symbols is what binutils say, to the byte."""

import re
import subprocess
from pathlib import Path

import pytest
from tiny import write_tiny

from boards import build, has_compiler, load_board
from boards.memory_map import Symbol, covered_bytes, read_memory_map
from firmware_gen.project import load_network, plan_network, write_project
from firmware_gen.update import parse_update


def binutils(tool: str, board: str, *words: str) -> str:
    command = [f"{load_board(board).compiler.prefix}{tool}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["mps2_an386", "qemu_riscv32", "native"])
def test_sections_and_symbols_are_the_linker_s_to_the_byte(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    if not has_compiler(board):
        pytest.skip(f"no compiler for {name}")
    plan = plan_network(load_network(write_tiny(tmp_path / "tiny.onnx")), board, parse_update("dec,depth"))
    write_project(plan, tmp_path / "project")
    firmware = build(tmp_path / "project", board)
    placed = read_memory_map(firmware.elf)

    rows = re.findall(
        r"^(\S+)\s+(\d+)\s+(\d+)$", binutils("size", name, "-A", str(firmware.elf)), re.MULTILINE
    )
    stated = {section: (int(size), int(address)) for section, size, address in rows}
    for section in placed.sections:
        assert stated.pop(section.name) == (section.bytes, section.address)
    # What is left is not loaded: comments and attributes.
    assert all(address == 0 for _, address in stated.values())

    assert placed.bytes("text") + placed.bytes("data") == firmware.flash_bytes
    assert placed.bytes("data") + placed.bytes("bss") == firmware.ram_bytes
    assert placed.bytes("stack") == (board.stack_bytes if name != "native" else 0)

    listed = re.findall(r"^\S+ (\S+) \w (\S+)$", binutils("nm", name, "-S", str(firmware.elf)), re.MULTILINE)
    sizes = sorted((symbol, int(size, 16)) for size, symbol in listed)
    ours = sorted((symbol.name, symbol.bytes) for symbol in placed.symbols if symbol.bytes)
    assert [each for each in sizes if each in ours] == ours
    assert next(symbol for symbol in placed.symbols if symbol.name == "arena").bytes == plan.ram["arena"]

    for section in placed.sections:
        inside = [symbol for symbol in placed.symbols if symbol.section == section.name]
        assert covered_bytes(inside) + placed.unnamed_bytes(section) == section.bytes
        assert placed.unnamed_bytes(section) >= 0
        end = section.address + section.bytes
        assert all(section.address <= s.address and s.address + s.bytes <= end for s in inside if s.bytes)
    assert [s.bytes for s in placed.symbols] == sorted((s.bytes for s in placed.symbols), reverse=True)


def test_bytes_with_two_names_count_once() -> None:
    def symbol(address: int, size: int) -> Symbol:
        return Symbol("f", ".text", "function", address, size)

    assert covered_bytes([symbol(0, 10), symbol(0, 10), symbol(2, 3), symbol(8, 4), symbol(20, 5)]) == 17
