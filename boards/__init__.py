"""What a board is, and how firmware is built, started and measured on it."""

from boards.board import Board, Isa, MemoryRegion, Store
from boards.building import Firmware, build, compiler_version, has_compiler
from boards.description import board_names, load_board
from boards.port import check_port, port_files
from boards.running import Running, start
from boards.usb import find_port

__all__ = [
    "Board",
    "Firmware",
    "Isa",
    "MemoryRegion",
    "Running",
    "Store",
    "board_names",
    "build",
    "check_port",
    "compiler_version",
    "find_port",
    "has_compiler",
    "load_board",
    "port_files",
    "start",
]
