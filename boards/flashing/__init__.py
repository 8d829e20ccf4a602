"""Firmware onto boards: one class for every flash tool."""

from boards.flashing.bossac import Bossac
from boards.flashing.esptool import EspTool
from boards.flashing.flash import flash, runner_of
from boards.flashing.gapy import Gapy
from boards.flashing.jlink import JLink
from boards.flashing.nrfutil import NrfUtil
from boards.flashing.openocd import OpenOcd
from boards.flashing.picotool import PicoTool
from boards.flashing.pyocd import PyOcd
from boards.flashing.runner import Job, Runner
from boards.flashing.shell import DryShell, Shell
from boards.flashing.stflash import StFlash
from boards.flashing.stm32cubeprogrammer import Stm32CubeProgrammer
from boards.flashing.uf2 import Uf2

_ALL: tuple[type[Runner], ...] = (
    Bossac,
    EspTool,
    Gapy,
    JLink,
    NrfUtil,
    OpenOcd,
    PicoTool,
    PyOcd,
    StFlash,
    Stm32CubeProgrammer,
    Uf2,
)
RUNNERS = {runner.name: runner for runner in _ALL}

__all__ = ["RUNNERS", "DryShell", "Job", "Runner", "Shell", "flash", "runner_of"]
