"""Nordic's nRF Util with its command ``device``: J-Link probes of development kits."""

from dataclasses import dataclass
from typing import ClassVar

from boards.flashing.faults import no_probe, several
from boards.flashing.runner import Capabilities, Fault, Job, Over, Runner


def _no_device_command(runner: Runner, job: Job) -> str:
    return "nrfutil has no command 'device' yet; run: nrfutil install device"


def _protected(runner: Runner, job: Job) -> str:
    return (
        f"the chip of {job.board.id} is protected against reading back; to erase all of it and unlock it, "
        "run: nrfutil device recover"
    )


@dataclass(frozen=True)
class NrfUtil(Runner):
    """``core`` is the core to program where a chip has several: "Application" or "Network"."""

    core: str | None = None

    name: ClassVar[str] = "nrfutil"
    program: ClassVar[str] = "nrfutil"
    install: ClassVar[str] = "get it from nordicsemi.com (nRF Util), then run: nrfutil install device"
    over: ClassVar[Over] = "probe"
    can: ClassVar[Capabilities] = Capabilities(dev_id=True, erase=True)
    # Names of errors of nrfutil-device 2.x (its changelog); its other texts are not documented.
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(r"NotAvailableBecause(Secure)?(Ap)?Protection|AP-?Protect", _protected),
        Fault(r"subcommand device is not|unrecognized subcommand 'device'", _no_device_command),
        Fault(r"multiple devices", several),
        Fault(r"no (supported )?devices? (was |were )?(found|connected)|found 0 supported", no_probe),
    )

    def commands(self, job: Job) -> None:
        """Write and verify Intel hex, then reset."""
        erase = "ERASE_ALL" if job.erase else "ERASE_RANGES_TOUCHED_BY_FIRMWARE"
        image = job.image(".hex")
        core = ("--core", self.core) if self.core else ()
        probe = ("--serial-number", job.dev_id) if job.dev_id else ()
        # reset: else the core stays halted.
        options = f"chip_erase_mode={erase},verify=VERIFY_READ,reset=RESET_SYSTEM"
        job.shell.call(
            "nrfutil",
            "device",
            "program",
            "--firmware",
            image,
            *core,
            *probe,
            "--options",
            options,
            *job.words,
        )
