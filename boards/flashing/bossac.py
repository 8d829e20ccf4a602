"""BOSSA's bossac: boards with Arduino's boot loader, which a port opened at 1200 baud starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from boards.flashing.faults import port_fault
from boards.flashing.runner import Capabilities, Fault, Job, Over, Runner
from boards.usb import wait_for_port


def _unsupported(runner: Runner, job: Job) -> str:
    return (
        f"this bossac does not know the chip of {job.board.id}; put Arduino's, which "
        "'arduino-cli core install arduino:mbed_nano' brings, first on the PATH"
    )


def _not_in_boot_loader(runner: Runner, job: Job) -> str:
    return (
        f"{job.board.id} is not in its boot loader; press its reset button twice, "
        "then run the same command again"
    )


@dataclass(frozen=True)
class Bossac(Runner):
    """It knows the chip by itself."""

    name: ClassVar[str] = "bossac"
    program: ClassVar[str] = "bossac"
    install: ClassVar[str] = (
        "run: arduino-cli core install arduino:mbed_nano; then put "
        "~/.arduino15/packages/arduino/tools/bossac/VERSION on the PATH"
    )
    over: ClassVar[Over] = "serial"
    can: ClassVar[Capabilities] = Capabilities(erase=True)
    version: ClassVar[tuple[str, ...]] = ("--help",)
    # Texts of bossac 1.9.1.
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(r"Device unsupported|Unsupported device", _unsupported),
        Fault(r"No device found", _not_in_boot_loader),
        Fault(r"Failed to open port|No such file|Permission denied|Device or resource busy", port_fault),
    )

    def commands(self, job: Job) -> None:
        """Start the boot loader, wait for its port, write a flat image, reset."""
        port = job.serial_port()
        image = job.image(".bin")
        usb = job.board.usb
        job.shell.call("stty", "-F", port, "1200")
        if usb and usb.bootloader_ids and not job.shell.dry:
            port = wait_for_port(usb.bootloader_ids, None)
        # It always erases what it writes to. It takes the name of a port below /dev.
        job.shell.call("bossac", "--port", Path(port).name, "-U", "-e", "-w", "-v", image, *job.words, "-R")
