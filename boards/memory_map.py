"""What the linker placed where: sections and symbols of a linked firmware, to the byte."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

SectionKind = Literal["text", "data", "bss", "stack", "l1"]
SymbolKind = Literal["function", "object"]

_SYMBOL_KINDS: dict[str, SymbolKind] = {"STT_FUNC": "function", "STT_OBJECT": "object"}


@dataclass(frozen=True)
class Section:
    """Bytes at an address: text is code and constants, data begins as a copy, bss as zeros.

    l1 is static data in a cluster's own memory.
    """

    name: str
    kind: SectionKind
    address: int
    bytes: int


@dataclass(frozen=True)
class Symbol:
    """A function or an array with a name, in the section of that name."""

    name: str
    section: str
    kind: SymbolKind
    address: int
    bytes: int


@dataclass(frozen=True)
class MemoryMap:
    """Sections by address, symbols with the largest first."""

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]

    def bytes(self, kind: SectionKind) -> int:
        """Return what all sections of a kind take."""
        return sum(section.bytes for section in self.sections if section.kind == kind)

    def unnamed_bytes(self, section: Section) -> int:
        """Return what no symbol of a section covers: vectors, strings, alignment, a library's assembly."""
        inside = (symbol for symbol in self.symbols if symbol.section == section.name)
        return section.bytes - covered_bytes(inside)


def covered_bytes(symbols: Iterable[Symbol]) -> int:
    """Return the bytes in at least one symbol: an alias, or an entry into a function, is no second."""
    covered, reached = 0, 0
    for start, end in sorted((symbol.address, symbol.address + symbol.bytes) for symbol in symbols):
        covered += max(end - max(start, reached), 0)
        reached = max(reached, end)
    return covered


def read_memory_map(elf_path: Path) -> MemoryMap:
    """Return the sections that are loaded or reserved in memory, and their symbols."""
    with elf_path.open("rb") as stream:
        elf = ELFFile(stream)
        names: dict[int, str] = {}
        sections = []
        for index, section in enumerate(elf.iter_sections()):
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC:
                names[index] = section.name
                sections.append(
                    Section(section.name, _kind(section.name), section["sh_addr"], section["sh_size"])
                )
        # Bit 0 of a function's address says that its code is Thumb.
        thumb = 1 if elf.get_machine_arch() == "ARM" else 0
        symbols = [
            Symbol(symbol.name, names[symbol["st_shndx"]], kind, address, symbol["st_size"])
            for symbol in elf.get_section_by_name(".symtab").iter_symbols()
            if (kind := _SYMBOL_KINDS.get(symbol["st_info"]["type"])) and symbol["st_shndx"] in names
            for address in [symbol["st_value"] & ~(thumb if kind == "function" else 0)]
        ]
    return MemoryMap(
        tuple(sorted(sections, key=lambda section: section.address)),
        tuple(sorted(symbols, key=lambda symbol: (-symbol.bytes, symbol.address, symbol.name))),
    )


def _kind(name: str) -> SectionKind:
    """Return what a section counts as; what the C library of a process needs besides counts as text."""
    if name == ".stack":
        return "stack"
    if name == "ft_cl_l1":  # as boards/ports/pmsis/pmsis.h names it
        return "l1"
    if name == ".bss" or name.startswith(".ft_ram"):
        return "bss"
    return "data" if name == ".data" else "text"
