"""SEGGER's J-Link Commander."""

from dataclasses import dataclass
from typing import ClassVar

from boards.flashing.faults import no_probe, no_target
from boards.flashing.runner import Capabilities, Fault, Job, Over, Runner


@dataclass(frozen=True)
class JLink(Runner):
    """``device`` is SEGGER's name of the chip."""

    device: str

    name: ClassVar[str] = "jlink"
    program: ClassVar[str] = "JLinkExe"
    install: ClassVar[str] = "install the J-Link software pack from segger.com"
    over: ClassVar[Over] = "probe"
    can: ClassVar[Capabilities] = Capabilities(dev_id=True, erase=True)
    version: ClassVar[tuple[str, ...]] = ()  # it would connect
    # Texts of J-Link Commander V7.98h and V8.24.
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(r"Connecting to J-Link via USB\.\.\.FAILED|Cannot connect to J-Link", no_probe),
        Fault(r"Cannot connect to target|Could not connect to (the )?target", no_target),
    )

    def commands(self, job: Job) -> None:
        """Write a command file beside the firmware and run it."""
        image, script = job.image(".hex"), job.elf.with_name("flash.jlink")
        erase = ["erase"] if job.erase else []
        job.shell.write(script, ["r", *erase, f'loadfile "{image}"', "r", "g", "exit"])
        probe = ("-USB", job.dev_id) if job.dev_id else ()
        chip = ("-device", self.device, "-if", "SWD", "-speed", "4000", "-autoconnect", "1")
        # -NoGui: a licence or firmware question would open a window. -ExitOnError: else it ends with 0.
        job.shell.call(
            "JLinkExe",
            "-NoGui",
            "1",
            "-ExitOnError",
            "1",
            *probe,
            *chip,
            *job.words,
            "-CommandFile",
            str(script),
        )
