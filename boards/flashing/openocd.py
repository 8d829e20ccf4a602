"""OpenOCD: every probe and chip that it has a configuration for. GPL: only ever run as a program."""

from dataclasses import dataclass
from typing import ClassVar

from boards.flashing.faults import no_permission, no_probe, no_target, probe_busy, several, wrong_chip
from boards.flashing.runner import Capabilities, Fault, Job, Over, Runner


@dataclass(frozen=True)
class OpenOcd(Runner):
    """``arguments`` choose probe and chip, such as ["-f", "board/st_nucleo_l4.cfg"]."""

    arguments: tuple[str, ...]

    name: ClassVar[str] = "openocd"
    program: ClassVar[str] = "openocd"
    install: ClassVar[str] = "install it with: apt-get install openocd"
    over: ClassVar[Over] = "probe"
    can: ClassVar[Capabilities] = Capabilities(dev_id=True)
    # Texts of OpenOCD 0.12.0.
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(
            r"LIBUSB_ERROR_ACCESS|check it exists and that user read and write rights|check.* permissions",
            no_permission,
        ),
        Fault(r"LIBUSB_ERROR_BUSY|unable to claim interface", probe_busy),
        Fault(r"Multiple devices found", several),
        Fault(
            r"Error: open failed|unable to find a matching CMSIS-DAP device|No J-Link device found", no_probe
        ),
        Fault(
            r"No device matches the serial string|Failed to open or find the device|no device found", no_probe
        ),
        Fault(r"UNEXPECTED idcode|expected 1 of 1: 0x", wrong_chip),
        Fault(r"init mode failed|Error connecting DP|unable to connect to the target", no_target),
    )

    def commands(self, job: Job) -> None:
        """Load and verify the ELF, then reset."""
        probe = ("-c", f"adapter serial {job.dev_id}") if job.dev_id else ()
        # Braces are Tcl's quotes: a path may have spaces.
        program = f"program {{{job.elf}}} verify reset exit"
        job.shell.call("openocd", *self.arguments, *probe, *job.words, "-c", program)
