"""Where all commands of flash runners go through: they are run, or only printed."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from fieldtune.console import detail, say
from fieldtune.errors import BoardError
from fieldtune.files import write_text

_COLORS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class ToolMissingError(BoardError):
    """The program of that name is not installed."""

    def __init__(self, program: str) -> None:
        self.program = program
        super().__init__(f"{program} is not installed")


class ToolFailedError(BoardError):
    """A program has ended with an error; `output` is all that it printed."""

    def __init__(self, words: tuple[str, ...], code: int, output: str) -> None:
        self.program, self.code, self.output = words[0], code, output
        *_, last = output.strip().split("\n")
        super().__init__(
            f"{words[0]} failed with exit code {code} ({last.strip() or 'it printed nothing'}); "
            f"to see all of its output, run: {shlex.join(words)}"
        )


class Shell:
    """Runs commands one after another; `commands` holds them as one would type them."""

    dry = False

    def __init__(self) -> None:
        self.commands: list[str] = []

    def call(self, *words: str) -> str:
        """Run a program, return what it printed.

        Raises:
            ToolMissingError: it is not installed.
            ToolFailedError: it ended with an error.
        """
        self.commands.append(shlex.join(words))
        return self._run(words)

    def ask(self, *words: str) -> str | None:
        """Return what a program that changes nothing prints, None if it cannot be asked."""
        try:
            return self._run(words)
        except (ToolMissingError, ToolFailedError):
            return None

    def _run(self, words: tuple[str, ...]) -> str:
        program = shutil.which(words[0])
        if program is None:
            raise ToolMissingError(words[0])
        detail(f"$ {shlex.join(words)}")
        # No stdin: pyOCD and JLinkExe would ask which probe is meant, and wait for ever.
        done = subprocess.run(
            [program, *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        output = _COLORS.sub("", done.stdout)
        detail(output.rstrip())
        if done.returncode != 0:
            raise ToolFailedError(words, done.returncode, output)
        return output

    def write(self, path: Path, lines: list[str]) -> None:
        """Write a file that a program takes its commands from."""
        self.commands.append(f"printf '%s\\n' {shlex.join(lines)} > {shlex.quote(str(path))}")
        self._write(path, lines)

    def _write(self, path: Path, lines: list[str]) -> None:
        write_text(path, "".join(f"{line}\n" for line in lines))

    def find(self, look: Callable[[], str], stand_in: str) -> str:
        """Return what `look` finds on this computer."""
        return look()


class DryShell(Shell):
    """Runs and writes nothing; what is not connected is named by a word in capitals."""

    dry = True

    def _run(self, words: tuple[str, ...]) -> str:
        return ""

    def _write(self, path: Path, lines: list[str]) -> None:
        pass

    def find(self, look: Callable[[], str], stand_in: str) -> str:
        """Return what `look` finds, or the word that stands for it."""
        try:
            return look()
        except BoardError as error:
            say(f"{stand_in} in the commands stands for what is not there now: {error}")
            return stand_in
