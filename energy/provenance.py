"""What firmware was measured, as far as a profile or stamps tell it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldtune.errors import UserError

# A table of stamps begins with it, where `profile --stamps` wrote the table.
STAMPS_PREFIX = "# firmware "


@dataclass(frozen=True)
class Provenance:
    """A firmware and what it was made with; what is not known is None.

    Attributes:
        model: its name, with the hashes that the board tells as well (docs/protocol.md, HELLO).
        fieldtune: the version; `revision` is the commit of a git checkout, with ``-dirty`` if it was changed.
        compiler: the first line of what the compiler says of itself.
    """

    model: str
    model_hash: int
    plan_hash: int
    board: str
    clock_hz: int | None
    fieldtune: str
    revision: str | None
    compiler: str | None

    def describe(self) -> dict[str, Any]:
        """Return what is printed as JSON; the keys are stable."""
        return dict(vars(self))

    @property
    def lines(self) -> tuple[str, str]:
        """The firmware, and what made it, in words."""
        clock = "an unknown clock" if self.clock_hz is None else f"{self.clock_hz / 1e6:g} MHz"
        revision = "revision unknown" if self.revision is None else f"revision {self.revision}"
        hashes = f"model {self.model_hash:08x}, plan {self.plan_hash:08x}"
        return (
            f"{self.model} ({hashes}) for {self.board} at {clock}",
            f"Fieldtune {self.fieldtune} ({revision}), compiler {self.compiler or 'unknown'}",
        )


def from_profile(path: Path) -> Provenance | None:
    """Return what a file of ``profile --json`` says; None if it says nothing.

    Raises:
        UserError: the file is something else.
    """
    try:
        described = json.loads(path.read_text())["firmware"]
    except KeyError:
        return None
    except (ValueError, TypeError) as error:
        raise _not_ours(path) from error
    return _read(described, path)


def from_stamps(path: Path) -> Provenance | None:
    """Return what a table of ``profile --stamps`` says; None if it says nothing.

    Raises:
        UserError: what stands in its place is something else.
    """
    with path.open(encoding="utf-8") as stream:
        line = stream.readline()
    if not line.startswith(STAMPS_PREFIX):
        return None
    try:
        described = json.loads(line.removeprefix(STAMPS_PREFIX))
    except ValueError as error:
        raise _not_ours(path) from error
    return _read(described, path)


def joined(profile: Path | None, stamps: Path | None) -> Provenance | None:
    """Return what one of both files says, or both; None if none does.

    Raises:
        UserError: they are of different firmware, or one is not what `profile` wrote.
    """
    told = None if profile is None else from_profile(profile)
    stamped = None if stamps is None else from_stamps(stamps)
    if told is not None and stamped is not None and told != stamped:
        raise UserError(
            f"{profile} is of {told.lines[0]}, {stamps} of {stamped.lines[0]}, or other tools made them; "
            "write both with the same options of 'fieldtune profile'"
        )
    return told or stamped


def _read(described: object, path: Path) -> Provenance:
    if not isinstance(described, Mapping):
        raise _not_ours(path)
    kinds = {
        "model": str,
        "model_hash": int,
        "plan_hash": int,
        "board": str,
        "clock_hz": int | None,
        "fieldtune": str,
        "revision": str | None,
        "compiler": str | None,
    }
    values = {key: described.get(key) for key in kinds}
    if not all(isinstance(values[key], kind) for key, kind in kinds.items()):
        raise _not_ours(path)
    return Provenance(**values)  # type: ignore[arg-type]


def _not_ours(path: Path) -> UserError:
    return UserError(
        f"{path} is not what 'fieldtune profile' wrote: its firmware cannot be read; write it anew"
    )
