"""What all flash tools have in common, in the shape that Zephyr's west gave it: name, capabilities, run.

A runner is what one [flash.NAME] table of a board description says: its fields are the table's keys. It turns
a linked firmware into command lines and runs them through a Shell, which may only print them.
"""

import abc
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from boards.flashing.faults import candidates, several
from boards.flashing.shell import Shell, ToolFailedError, ToolMissingError
from boards.usb import find_port, port_problem
from fieldtune.errors import BoardError

if TYPE_CHECKING:
    from boards.board import Board

Over = Literal["probe", "usb", "serial", "volume"]


@dataclass(frozen=True)
class Capabilities:
    """What a tool can be asked for: `dev_id` one of several probes, `erase` the whole flash first."""

    dev_id: bool = False
    erase: bool = False


@dataclass(frozen=True)
class Job:
    """What to flash and how: `elf` is the linked firmware, beside which images of it are made.

    `dev_id` is the serial number of the probe or board, `port` the serial port of runners that go over one,
    `options` are words for the tool, each maybe several, as a shell splits them.
    """

    board: "Board"
    elf: Path
    shell: Shell
    dev_id: str | None = None
    port: str | None = None
    erase: bool = False
    options: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The tool's extra words."""
        try:
            return tuple(word for option in self.options for word in shlex.split(option))
        except ValueError as error:
            raise BoardError(f"cannot split the words of -O {' '.join(self.options)}: {error}") from error

    @property
    def start(self) -> int:
        """The address at which a .bin begins: that of the lowest flash, where the vectors lie."""
        return min(region.start for region in self.board.regions if region.kind == "flash")

    def serial_port(self) -> str:
        """Return the port to go over, which can be opened.

        Raises:
            BoardError: it cannot, or no single board is connected.
        """
        port = self.port or self.shell.find(lambda: find_port(self.board), "PORT")
        problem = None if self.shell.dry else port_problem(port)
        if problem:
            raise BoardError(problem)
        return port

    def image(self, suffix: Literal[".bin", ".hex"]) -> str:
        """Make the firmware a flat image or Intel hex; return its path."""
        image = self.elf.with_suffix(suffix)
        kind = {".bin": "binary", ".hex": "ihex"}[suffix]
        self.shell.call(f"{self.board.compiler.prefix}objcopy", "-O", kind, str(self.elf), str(image))
        return str(image)


Sentence = Callable[["Runner", Job], str]


@dataclass(frozen=True)
class Fault:
    """What a tool prints when something is wrong (a regular expression), and the sentence for the user."""

    pattern: str
    sentence: Sentence


@dataclass(frozen=True)
class Runner(abc.ABC):
    """One flash tool, set up for one board."""

    name: ClassVar[str]
    program: ClassVar[str]
    install: ClassVar[str]  # a command, or where to get it
    over: ClassVar[Over]
    can: ClassVar[Capabilities] = Capabilities()
    version: ClassVar[tuple[str, ...]] = ("--version",)  # words that make it print its version; () if none
    least: ClassVar[str] = ""  # the lowest version that has the options used here
    faults: ClassVar[tuple[Fault, ...]] = ()

    @abc.abstractmethod
    def commands(self, job: Job) -> None:
        """Run everything that brings the firmware to the board, through ``job.shell``."""

    def flash(self, job: Job) -> None:
        """Bring the firmware to the board.

        Raises:
            BoardError: something is missing, connected wrongly or not allowed; says what mends it.
        """
        self._check(job)
        try:
            self.commands(job)
        except ToolMissingError as error:
            raise BoardError(self._missing(job, error)) from error
        except ToolFailedError as error:
            raise BoardError(self._explained(job, error)) from error

    def _check(self, job: Job) -> None:
        if job.erase and not self.can.erase:
            raise BoardError(f"{self.name} cannot erase the whole flash; leave out --erase")
        if job.dev_id and not self.can.dev_id:
            raise BoardError(f"{self.name} takes no -i; leave it out, and connect one board only")
        if job.port and self.over != "serial":
            raise BoardError(f"{self.name} goes over no serial port; leave out --port")
        if not job.elf.is_file():
            how = "as the project's README.md says" if job.board.kit else "with: fieldtune build"
            raise BoardError(f"there is no firmware {job.elf}; build it {how}")
        if not job.shell.dry and self.over in ("probe", "usb") and job.dev_id is None:
            devices = candidates(job)
            if len(devices) > 1:
                raise BoardError(several(self, job))

    def _missing(self, job: Job, error: ToolMissingError) -> str:
        install = self.install
        if error.program.endswith("objcopy"):
            install = f"install it with: apt-get install {job.board.compiler.package or 'binutils'}"
        return f"{error}; {install}; or take another runner of {job.board.id} with -r"

    def _explained(self, job: Job, error: ToolFailedError) -> str:
        """Return what the tool's output means; where it says nothing, what can be seen from here."""
        for fault in self.faults:
            if re.search(fault.pattern, error.output, re.IGNORECASE):
                return fault.sentence(self, job)
        return f"flashing {job.board.id}: {error}; to check the set-up, run: fieldtune doctor"
