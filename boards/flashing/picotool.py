"""Raspberry Pi's picotool: RP2040 and RP2350 over their own USB."""

from dataclasses import dataclass
from typing import ClassVar

from boards.flashing.faults import no_permission, several
from boards.flashing.runner import Capabilities, Fault, Job, Over, Runner

PICOTOOL_INSTALL = "get picotool from the releases of github.com/raspberrypi/pico-sdk-tools"


def not_in_bootsel(runner: Runner, job: Job) -> str:
    """Return how the chip comes into its boot loader."""
    return (
        f"{job.board.id} is not in its boot loader; hold the button BOOTSEL while you plug it in, "
        "then run the same command again"
    )


@dataclass(frozen=True)
class PicoTool(Runner):
    """It knows the chip by itself."""

    name: ClassVar[str] = "picotool"
    program: ClassVar[str] = "picotool"
    install: ClassVar[str] = PICOTOOL_INSTALL
    over: ClassVar[Over] = "usb"
    can: ClassVar[Capabilities] = Capabilities(dev_id=True, erase=True)
    version: ClassVar[tuple[str, ...]] = ("version",)
    least: ClassVar[str] = "2.1"  # the first with the command erase
    # Texts of picotool 2.0 and 2.1: main.cpp.
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(r"was unable to connect", no_permission),
        Fault(r"Command requires a single .* device to be targeted", several),
        Fault(r"No accessible RP.* devices? in BOOTSEL mode", not_in_bootsel),
    )

    def commands(self, job: Job) -> None:
        """Load and verify the ELF and start it; firmware with Raspberry Pi's USB reset needs no button."""
        board = ("--ser", job.dev_id) if job.dev_id else ()
        if job.erase:
            job.shell.call("picotool", "erase", "--all", *board, "-F")
        job.shell.call("picotool", "load", "--verify", "--execute", str(job.elf), *job.words, *board, "-f")
