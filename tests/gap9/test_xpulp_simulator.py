"""The simulator executes what the hardware does, and refuses what it would not do."""

from pathlib import Path

import numpy as np
import pytest
from xpulp_programs import in_simulator, simulator

PROGRAM = '#include "system.h"\nint main(void) {{\n    {}\n    return 0;\n}}\n'


def run(body: str, folder: Path) -> bytes:
    source = folder / "program.c"
    source.write_text(PROGRAM.format(body))
    return in_simulator(simulator.build_program([source], folder / "program.elf"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('__asm__ volatile("sw zero, 2(%0)" ::"r"(0x80800000u));', "4 bytes at 0x80800002 are not aligned"),
        ("*(volatile int *)0x1000u = 1;", "address 0x00001000 lies outside memory"),
        ('__asm__ volatile(".insn r 0x2b, 3, 0x48, a0, a1, a2");', "no such store"),  # cv.mac
        ('__asm__ volatile(".insn r 0x57, 1, 0x7e, a0, a1, a2");', "illegal instruction 0xfcc5"),
        ('__asm__ volatile(".insn i 0x7b, 4, x0, %0, 4\\nnop\\nnop" ::"r"(0));', "hardware loop of 0 rounds"),
        ('__asm__ volatile(".insn i 0x73, 2, a0, x0, 0x7c0" ::: "a0");', "control register 0x7c0"),
        ("return 3;", "ended with 3"),
    ],
)
def test_what_no_core_does_is_an_error(body: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=message):
        run(body, tmp_path)


def test_loops_may_lie_in_each_other_and_hold_compressed_instructions(tmp_path: Path) -> None:
    """The outer loop ends two instructions behind the inner one; 3 rounds of 4 rounds."""
    body = """
    uint32_t sum = 0, outer = 3, inner = 4;
    __asm__ volatile(
        ".option push\\n.option norvc\\n"
        ".insn i 0x7b, 4, x1, %1, 12\\n"  /* the last instruction is 24 bytes from here */
        "addi %0, %0, 100\\n"
        ".insn i 0x7b, 4, x0, %2, 4\\n"
        "addi %0, %0, 1\\n"
        "addi %0, %0, 1\\n"
        "addi %0, %0, 1000\\n"
        "addi %0, %0, 1000\\n"
        ".option pop"
        : "+r"(sum) : "r"(outer), "r"(inner));
    write_output(&sum, 4);
    """
    assert np.frombuffer(run(body, tmp_path), np.uint32) == [3 * (100 + 4 * 2 + 2000)]


def test_integers_are_those_of_the_host(tmp_path: Path) -> None:
    """Every comparison, shift, product and quotient, compressed or not."""
    source = tmp_path / "integers.c"
    source.write_text(
        '#include "system.h"\n'
        "static const uint32_t edges[] = {0, 1, 2, 31, 127, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe,\n"
        "    0xffffffff, 0x12345678, 0xdeadbeef};\n"
        "int main(void) {\n"
        "    for (unsigned i = 0; i < sizeof edges / 4; i++)\n"
        "        for (unsigned j = 0; j < sizeof edges / 4; j++) {\n"
        "            const uint32_t a = edges[i], b = edges[j];\n"
        "            const int32_t s = (int32_t)a, t = (int32_t)b;\n"
        "            const uint32_t results[] = {a + b, a - b, a * b, a ^ b, a | b, a & b, a << (b & 31),\n"
        "                a >> (b & 31), (uint32_t)(s >> (b & 31)), a < b, s < t, a == b, s >= t, a >= b,\n"
        "                (uint32_t)((int64_t)s * t >> 32), (uint32_t)((uint64_t)a * b >> 32),\n"
        "                (uint32_t)((int64_t)s * (int64_t)b >> 32), b ? a / b : 0, b ? a % b : 0,\n"
        "                b && t != -1 ? (uint32_t)(s / t) : 0, b && t != -1 ? (uint32_t)(s % t) : 0,\n"
        "                (uint32_t)(int8_t)a, (uint16_t)a, (uint32_t)(int16_t)b, a & 15, a ^ 0x555};\n"
        "            write_output(results, sizeof results);\n"
        "        }\n"
        "    return 0;\n"
        "}\n"
    )
    host = simulator.build_host_program([source], tmp_path / "host")
    for level in ("-O0", "-Os", "-O3"):
        program = simulator.build_program([source], tmp_path / "core.elf", [level])
        assert in_simulator(program) == simulator.run(None, host)
