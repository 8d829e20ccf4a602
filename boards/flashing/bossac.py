"""BOSSA's bossac: boards with Arduino's boot loader, which a port opened at 1200 baud starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from boards.flashing.faults import candidates, port_fault
from boards.flashing.runner import Capabilities, Fault, Job, Over, Runner
from boards.usb import find_port, wait_for_port


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
        port = self._boot_loader(job)
        image = job.image(".bin")
        # It always erases what it writes to. It takes the name of a port below /dev.
        job.shell.call("bossac", "--port", Path(port).name, "-U", "-e", "-w", "-v", image, *job.words, "-R")

    def _boot_loader(self, job: Job) -> str:
        """Return the port of the boot loader, which is started if it does not wait already."""
        usb = job.board.usb
        ids = usb.bootloader_ids if usb else ()
        if job.port is None and not job.shell.dry and any(device.id in ids for device in candidates(job)):
            return find_port(job.board, in_bootloader=True)
        port = job.serial_port()
        job.shell.call("stty", "-F", port, "1200")
        return wait_for_port(ids, None) if ids and not job.shell.dry else port
