"""st-flash of stlink-org's stlink: ST-LINK probes."""

from dataclasses import dataclass
from typing import ClassVar

from boards.flashing.faults import no_permission, no_probe, no_target, probe_busy
from boards.flashing.runner import Capabilities, Fault, Job, Over, Runner


@dataclass(frozen=True)
class StFlash(Runner):
    """It knows the chip by itself."""

    name: ClassVar[str] = "stflash"
    program: ClassVar[str] = "st-flash"
    install: ClassVar[str] = "install it with: apt-get install stlink-tools"
    over: ClassVar[Over] = "probe"
    can: ClassVar[Capabilities] = Capabilities(dev_id=True, erase=True)
    # Texts of stlink 1.7.0: src/stlink-lib/usb.c, common.c.
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(r"Could not open USB device", no_permission),
        Fault(r"unable to claim \(probably already in use", probe_busy),
        Fault(r"Couldn't find .*ST-Link devices", no_probe),
        Fault(r"unknown chip id|Failed to connect to target|Could not find chip id", no_target),
    )

    def commands(self, job: Job) -> None:
        """Write a flat image to where the flash starts, then reset."""
        probe = ("--serial", job.dev_id) if job.dev_id else ()
        if job.erase:
            job.shell.call("st-flash", *probe, *job.words, "erase")
        image = job.image(".bin")
        job.shell.call("st-flash", "--reset", *probe, *job.words, "write", image, f"{job.start:#010x}")
