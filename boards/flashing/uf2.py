"""UF2 boot loaders: the firmware is copied to a drive that appears while the board is in its boot loader."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from boards.flashing.picotool import PICOTOOL_INSTALL, not_in_bootsel
from boards.flashing.runner import Job, Over, Runner
from fieldtune.errors import BoardError

MOUNTS = Path("/proc/mounts")


@dataclass(frozen=True)
class Uf2(Runner):
    """``family`` is picotool's name of the chip, ``board_id`` what INFO_UF2.TXT on the drive says."""

    family: str
    board_id: str

    name: ClassVar[str] = "uf2"
    program: ClassVar[str] = "picotool"
    install: ClassVar[str] = PICOTOOL_INSTALL
    over: ClassVar[Over] = "volume"
    version: ClassVar[tuple[str, ...]] = ("version",)
    least: ClassVar[str] = "2.0"  # the first with the command uf2

    def commands(self, job: Job) -> None:
        """Convert the ELF and copy it."""
        image = str(job.elf.with_suffix(".uf2"))
        drive = job.shell.find(lambda: self._drive(job), "DRIVE")
        job.shell.call("picotool", "uf2", "convert", str(job.elf), image, "--family", self.family, *job.words)
        job.shell.call("cp", image, f"{drive}/")

    def _drive(self, job: Job) -> str:
        drives = [folder for folder in _mounted() if self.board_id in _identity(folder)]
        if not drives:
            raise BoardError(f"{not_in_bootsel(self, job)} (no mounted drive says it is a {self.board_id})")
        if len(drives) > 1:
            raise BoardError(
                f"more than one board is in its boot loader ({', '.join(map(str, drives))}); leave only one"
            )
        return str(drives[0])


def _mounted() -> list[Path]:
    """Return where drives are mounted; the kernel writes a space in a name as its octal code."""
    lines = MOUNTS.read_text().splitlines()
    fields = [line.split() for line in lines]
    return [Path(field[1].replace("\\040", " ")) for field in fields if field[2] in ("vfat", "msdos")]


def _identity(folder: Path) -> list[str]:
    """Return what the drive's INFO_UF2.TXT gives as Board-ID."""
    try:
        lines = (folder / "INFO_UF2.TXT").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line.split(":", 1)[1].strip() for line in lines if line.startswith("Board-ID:")]
