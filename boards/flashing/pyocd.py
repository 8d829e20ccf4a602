"""pyOCD: ST-LINK, J-Link and CMSIS-DAP probes."""

import json
from dataclasses import dataclass
from typing import ClassVar

from boards.flashing.faults import no_permission, no_probe, no_target, probe_busy, several
from boards.flashing.runner import Capabilities, Fault, Job, Over, Runner
from fieldtune.errors import BoardError


def _no_target_support(runner: Runner, job: Job) -> str:
    assert isinstance(runner, PyOcd)
    return f"pyocd does not know the chip {runner.target} yet; run: pyocd pack install {runner.target}"


@dataclass(frozen=True)
class PyOcd(Runner):
    """``target`` is pyOCD's name of the chip, as ``pyocd list --targets`` or a pack has it."""

    target: str

    name: ClassVar[str] = "pyocd"
    program: ClassVar[str] = "pyocd"
    install: ClassVar[str] = "install it with: pip install pyocd"
    over: ClassVar[Over] = "probe"
    can: ClassVar[Capabilities] = Capabilities(dev_id=True, erase=True)
    # Texts of pyOCD 0.46.0: core/helpers.py, board/board.py, probe/stlink/usb.py, probe/pydapaccess.
    faults: ClassVar[tuple[Fault, ...]] = (
        Fault(r"Target type \S+ not recognized", _no_target_support),
        Fault(r"More than one debug probe matches|Enter the number of the debug probe", several),
        Fault(r"can probably be remedied with a udev rule|\[Errno 13\]", no_permission),
        Fault(r"No connected debug probe|No available debug probes", no_probe),
        Fault(r"\[Errno 16\]|Resource busy", probe_busy),
        Fault(r"No device connected|Get IDCODE error|No ACK received|FAULT ACK", no_target),
    )

    def commands(self, job: Job) -> None:
        """Check that the probe sits on this board, then load the ELF."""
        self._check_board(job)
        erase = ("--erase", "chip") if job.erase else ()
        probe = ("--uid", job.dev_id) if job.dev_id else ()
        # --no-wait: without a probe it would wait for one, for ever.
        command = ("pyocd", "load", "--no-wait", "--target", self.target)
        job.shell.call(*command, *erase, *probe, *job.words, str(job.elf))

    def _check_board(self, job: Job) -> None:
        """Refuse another board, which its probe names (ST-LINK and DAPLink hold the id of their board)."""
        printed = job.shell.ask("pyocd", "json", "--probes") or ""
        try:
            probes = json.loads(printed[printed.index("{") :])["boards"]  # warnings may come first
        except (ValueError, KeyError):
            return  # what is wrong shows when it loads
        for probe in probes:
            if job.dev_id and job.dev_id.lower() not in probe["unique_id"].lower():
                continue
            target = probe["target"]
            if target not in ("cortex_m", self.target):  # cortex_m: the probe names no board
                raise BoardError(
                    f"the connected board is {probe['board_name']} ({target}), not {job.board.id} "
                    f"({self.target}); connect the right board, or choose its probe with -i SERIAL_NUMBER"
                )
