"""Espressif's esptool, version 5 and later (commands with dashes). GPL: only ever run as a program."""

from dataclasses import dataclass
from typing import ClassVar

from boards.flashing.faults import port_fault, wrong_chip
from boards.flashing.runner import Capabilities, Fault, Job, Over, Runner


def _no_answer(runner: Runner, job: Job) -> str:
    return (
        f"{job.board.id} does not answer in its boot loader; hold its button BOOT, press RESET, let both go, "
        "and run the same command again"
    )


def _too_old(runner: Runner, job: Job) -> str:
    return "this esptool is older than version 5; run: pip install 'esptool>=5'"


@dataclass(frozen=True)
class EspTool(Runner):
    """``chip`` is esptool's name of the chip, ``address`` where in the flash the application lies."""

    chip: str
    address: int

    name: ClassVar[str] = "esptool"
    program: ClassVar[str] = "esptool"
    install: ClassVar[str] = "install it with: pip install 'esptool>=5'"
    over: ClassVar[Over] = "serial"
    can: ClassVar[Capabilities] = Capabilities(erase=True)
    version: ClassVar[tuple[str, ...]] = ("version",)
    least: ClassVar[str] = "5.0"
    # Texts of esptool 5.6.0: loader.py, __init__.py.
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(r"Wrong chip argument", wrong_chip),
        Fault(r"Could not open|port is busy or doesn't exist|Permission denied", port_fault),
        Fault(r"No serial data received|Failed to connect to ESP|not connect to an Espressif", _no_answer),
        Fault(r"No such command|invalid choice", _too_old),
    )

    def commands(self, job: Job) -> None:
        """Make Espressif's image format from the ELF, write it, reset."""
        port = job.serial_port()
        image = str(job.elf.with_suffix(".bin"))
        job.shell.call("esptool", "--chip", self.chip, "elf2image", "--output", image, str(job.elf))
        erase = ("--erase-all",) if job.erase else ()
        connect = ("--chip", self.chip, "--port", port, "--baud", "460800", *job.words)
        job.shell.call("esptool", *connect, "write-flash", *erase, f"{self.address:#x}", image)
