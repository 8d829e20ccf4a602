"""GreenWaves' gapy, of the GAP SDK."""

import os
from dataclasses import dataclass
from typing import ClassVar

from boards.building import L3_FILE
from boards.flashing.faults import no_permission, no_probe
from boards.flashing.runner import Fault, Job, Over, Runner
from fieldtune.errors import BoardError


@dataclass(frozen=True)
class Gapy(Runner):
    """``target`` is the SDK's name of the board, ``layout`` that of its flash layout."""

    target: str
    layout: str

    name: ClassVar[str] = "gapy"
    program: ClassVar[str] = "gapy"
    install: ClassVar[str] = "install the GAP SDK and source its configuration of the board"
    over: ClassVar[Over] = "probe"
    version: ClassVar[tuple[str, ...]] = ()
    # gapy goes through the SDK's OpenOCD and FTDI cable: its texts of libftdi.
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(r"LIBUSB_ERROR_ACCESS", no_permission),
        Fault(r"unable to open ftdi device|no device found", no_probe),
    )

    def commands(self, job: Job) -> None:
        """Pack the boot loaders and the firmware into an image of the MRAM and write it.

        What the firmware has in L3 goes as a file into the flash outside the chip.
        """
        sdk = job.shell.find(_sdk, "GAP_SDK_HOME")
        tools = f"{sdk}/utils/openocd_tools"
        boot = f"{sdk}/install/target/bin"
        external = job.elf.parent.parent / L3_FILE
        files = [f"--flash-property={external}@flash:readfs_flash:files"] if external.is_file() else []
        job.shell.call(
            "gapy",
            f"--target={self.target}",
            "--platform=board",
            f"--target-dir={sdk}/utils/gapy_v2/targets",
            f"--work-dir={job.elf.parent}",
            "--target-property=boot.flash_device=mram",
            "--target-property=boot.mode=flash",
            f"--openocd-cable={tools}/tcl/gapuino_ftdi.cfg",
            f"--openocd-script={tools}/tcl/gap9revb.tcl",
            f"--openocd-tools={tools}",
            f"--multi-flash-content={sdk}/utils/layouts/{self.layout}",
            f"--flash-property={boot}/fsbl@mram:fsbl:binary",
            f"--flash-property={boot}/ssbl@mram:ssbl:binary",
            f"--flash-property={job.elf}@mram:app:binary",
            *files,
            *job.words,
            "image",
            "flash",
        )


def _sdk() -> str:
    home = os.environ.get("GAP_SDK_HOME")
    if not home:
        raise BoardError("GAP_SDK_HOME is not set; source the GAP SDK's configuration of the board")
    return home
