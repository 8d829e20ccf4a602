"""What a board is, and how firmware is built, started and measured on it."""

from boards.board import Board, Isa, MemoryRegion
from boards.building import Firmware, build, has_compiler
from boards.description import board_names, load_board
from boards.port import check_port, port_files
from boards.running import Running, start

__all__ = [
    "Board",
    "Firmware",
    "Isa",
    "MemoryRegion",
    "Running",
    "board_names",
    "build",
    "check_port",
    "has_compiler",
    "load_board",
    "port_files",
    "start",
]
