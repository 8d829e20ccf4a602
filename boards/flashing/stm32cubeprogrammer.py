"""ST's own STM32CubeProgrammer: ST-LINK probes."""

from dataclasses import dataclass
from typing import ClassVar

from boards.flashing.faults import no_permission, no_probe, no_target, probe_busy
from boards.flashing.runner import Capabilities, Fault, Job, Over, Runner


@dataclass(frozen=True)
class Stm32CubeProgrammer(Runner):
    """It knows the chip by itself."""

    name: ClassVar[str] = "stm32cubeprogrammer"
    program: ClassVar[str] = "STM32_Programmer_CLI"
    install: ClassVar[str] = "install STM32CubeProgrammer from st.com and put its bin folder on the PATH"
    over: ClassVar[Over] = "probe"
    can: ClassVar[Capabilities] = Capabilities(dev_id=True, erase=True)
    # Texts of STM32CubeProgrammer 2.12 to 2.17, as its users report them.
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(r"No (debug probe|STLINK|ST-LINK) detected", no_probe),
        Fault(r"ST-?LINK error \(DEV_USB_COMM_ERR\)|DEV_CONNECT_ERR", probe_busy),
        Fault(r"Permission denied", no_permission),
        Fault(r"No STM32 target found|Target device not found|DEV_TARGET_|Unable to get core ID", no_target),
    )

    def commands(self, job: Job) -> None:
        """Connect under reset (sleeping firmware does not matter), write and verify the ELF, reset."""
        probe = (f"sn={job.dev_id}",) if job.dev_id else ()
        connect = (self.program, "--connect", "port=SWD", "mode=UR", "reset=HWrst", *probe, *job.words)
        if job.erase:
            job.shell.call(*connect, "--erase", "all")
        job.shell.call(*connect, "--download", str(job.elf), "--verify", "-hardRst")
