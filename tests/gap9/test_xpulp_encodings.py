"""The words that an RV32 assembler makes of xpulp.h are Xpulp's, and none is CORE-V's.

Sources: the fields in gvsoc-core (isa_pulpv2.py, isa_smallfloats.py), and words in public disassembly of
programs that GAP's and PULP's compilers have made.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from xpulp_programs import KERNELS, simulator

HEADER, FLOATS = KERNELS / "xpulp" / "xpulp.h", KERNELS / "lanes.h"
SOURCE = Path(__file__).with_name("xpulp_operands.c")
MASK_R, MASK_I, MASK_R4 = 0xFE00707F, 0x0000707F, 0x0600007F

# What the header may use: name: (mask of the fields that tell it, their bits).
XPULP = {
    "pv.sdotsp.b": (MASK_R, 0xB8001057),
    "pv.sdotusp.b": (MASK_R, 0xA8001057),
    "pv.sdotup.b": (MASK_R, 0xA0001057),
    "pv.max.b": (MASK_R, 0x30001057),
    "pv.shuffle2.b": (MASK_R, 0xC8001057),
    "pv.packhi.b": (MASK_R, 0xD8001057),
    "pv.packlo.b": (MASK_R, 0xE0001057),
    "p.mac": (MASK_R, 0x42000033),
    "p.max": (MASK_R, 0x04006033),
    "p.min": (MASK_R, 0x04004033),
    "p.clip to 8 bits": (0xFFF0707F, 0x14801033),
    "p.lb post-increment": (MASK_I, 0x0000000B),
    "p.lw post-increment": (MASK_I, 0x0000200B),
    "p.sb post-increment": (MASK_I, 0x0000002B),
    "p.sw post-increment": (MASK_I, 0x0000202B),
    "lp.setup x0": (0x00007FFF, 0x0000407B),
    "vfmac.h": (MASK_R, 0x90002033),
    "vfmac.r.h": (MASK_R, 0x90006033),
    "vfcpka.h.s": (MASK_R, 0xB0002033),
    "fcvt.s.h": (0xFFF0707F, 0x40200053),
    "fmul.s, to nearest": (MASK_R, 0x10000053),
    "fadd.s, to nearest": (MASK_R, 0x00000053),
    "fmadd.s, to nearest": (0x0600707F, 0x00000043),
}

# Fields as in the header, with the registers of published disassembly.
PUBLISHED = [
    (".insn r 0x57, 1, 0x54, s1, a4, a0", 0xA8A714D7, "pv.sdotusp.b s1,a4,a0"),
    (".insn r 0x57, 1, 0x54, t6, a5, a0", 0xA8A79FD7, "pv.sdotusp.b t6,a5,a0"),
    (".insn i 0x0b, 2, a5, s3, 4", 0x0049A78B, "p.lw a5,4(s3!)"),
    (".insn i 0x0b, 2, a0, a1, 4", 0x0045A50B, "p.lw a0,4(a1!)"),
    (".insn s 0x2b, 0, a4, 1(a5)", 0x00E780AB, "p.sb a4,1(a5!)"),
    (".insn r 0x33, 6, 0x02, a2, s0, a5", 0x04F46633, "p.max a2,s0,a5"),
    (".insn i 0x7b, 4, x1, a5, 10/2", 0x0057C0FB, "lp.setup x1,a5,pc+10"),
    (".insn i 0x7b, 4, x0, s5, 0x16c/2", 0x0B6AC07B, "lp.setup x0,s5,pc+364"),
]


def assembled(text: str, folder: Path) -> Path:
    source, target = folder / "words.s", folder / "words.o"
    source.write_text(f".text\n{text}\n")
    command = ["riscv64-unknown-elf-as", "-march=rv32imc", "-mabi=ilp32", source, "-o", target]
    subprocess.run(command, check=True)
    return target


def words(program: Path) -> Iterator[tuple[int, str]]:
    """Yield the 32-bit instructions of an object or program, as objdump sees them."""
    command = ["riscv64-unknown-elf-objdump", "-d", "-j", ".text", program]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for match in re.finditer(r"^ *[0-9a-f]+:\t([0-9a-f]{8}) *\t(.*)$", text, re.MULTILINE):
        yield int(match[1], 16), match[2]


def xpulp_name(word: int) -> str | None:
    return next((name for name, (mask, bits) in XPULP.items() if word & mask == bits), None)


def foreign(program: Path) -> list[str]:
    """Return the words that are neither RV32IMC's nor among those of XPULP."""
    return [f"{w:08x}" for w, text in words(program) if text.startswith(".") and xpulp_name(w) is None]


@pytest.mark.parametrize(("text", "word", "meaning"), PUBLISHED)
def test_fields_give_the_words_of_published_disassembly(
    text: str, word: int, meaning: str, tmp_path: Path
) -> None:
    ((found, _),) = words(assembled(text, tmp_path))
    assert f"{found:08x}" == f"{word:08x}", meaning


def test_the_programs_words_are_all_of_the_headers_instructions_and_no_other(tmp_path: Path) -> None:
    program = simulator.build_program([SOURCE], tmp_path / "operands.elf", [f"-I{KERNELS}"])
    assert foreign(program) == []
    unknown = [word for word, text in words(program) if text.startswith(".")]
    assert {xpulp_name(word) for word in unknown} == {*XPULP}


def test_the_headers_fields_are_among_them() -> None:
    text = HEADER.read_text() + FLOATS.read_text()
    fields = {
        tuple(int(n, 0) for n in match) for match in re.findall(r"\.insn r (0x\w+), (\d), (0x\w+)", text)
    }
    calls = re.findall(r"FT_RD?_XPULP\((0x\w+), (\d), (0x\w+),", text)
    fields |= {tuple(int(n, 0) for n in match) for match in calls}
    for opcode, funct3, funct7 in fields:
        word = funct7 << 25 | funct3 << 12 | opcode
        # p.clip and fcvt.s.h have constants for their second register
        assert any(xpulp_name(word | second << 20) for second in (8, 2)), (opcode, funct3, funct7)
    assert len(fields) == 17


def test_loops_end_at_their_last_instruction(tmp_path: Path) -> None:
    """lp.setup holds half the distance to it: what follows the body must lie outside."""
    program = simulator.build_program([SOURCE], tmp_path / "operands.elf", [f"-I{KERNELS}"])
    found = [(word, xpulp_name(word)) for word, _ in words(program)]
    bodies = []
    for index, (word, name) in enumerate(found):
        if name == "lp.setup x0":
            length = (word >> 20) * 2 // 4
            bodies.append(tuple(name for _, name in found[index + 1 : index + 1 + length]))
    load, save, dot = "p.lw post-increment", "p.sw post-increment", "pv.sdotsp.b"
    assert (load,) * 6 + (dot,) * 8 in bodies
    assert (load,) * 5 + (dot,) * 4 in bodies
    assert (load,) * 3 + (dot,) * 2 in bodies
    assert (load, load, save, save) in bodies
    assert ("p.lb post-increment",) * 2 + ("p.sb post-increment",) * 2 in bodies
    assert all(None not in body for body in bodies)


@pytest.mark.parametrize(
    "text",
    [
        ".insn r 0x2b, 3, 0x48, a0, a1, a2",  # cv.mac
        ".insn r 0x7b, 1, 0x5c, a0, a1, a2",  # a dot product where CORE-V has its own
        ".insn r 0x2b, 3, 0x38, a0, a1, x7",  # cv.clip
        ".insn r 0x2b, 3, 0x04, a0, a1, a2",  # cv.lw with a register for its offset
        ".insn r 0x33, 1, 0x0a, a0, a1, x7",  # p.clip to 7 bits: [-64, 63]
    ],
)
def test_words_of_another_instruction_set_are_found(text: str, tmp_path: Path) -> None:
    assert len(foreign(assembled(f"add a0, a0, a1\n{text}", tmp_path))) == 1
