"""The samples of a session's steps on disk.

While the session runs there is a file for every sample, named by its content so that a frame that comes
again is stored once, and an index of lines `step,name`. At the end all of them become one `.npz`.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from fieldtune.errors import FieldtuneError
from ondevice.session_files import (
    Arrays,
    append_lines,
    damaged,
    read_arrays,
    replace_lines,
    whole_lines,
    write_arrays,
)

_SAMPLE_OF_STEP = "sample_of_step"


class Samples:
    """Samples of the same form of the session in the folder `session`, in its folder or `.npz` `name`."""

    def __init__(self, session: Path, name: str) -> None:
        """Read nothing yet."""
        self._folder = session / name
        self._index = self._folder / "index.csv"
        self._packed = session / f"{name}.npz"
        self._stored: set[str] = set()

    def record(self, step: int, arrays: Mapping[str, ArrayLike]) -> None:
        """Put the sample of a step on disk; one that was there before is only named again."""
        digest = self._store({name: np.asarray(array, order="C") for name, array in arrays.items()})
        append_lines(self._index, f"{step},{digest}\n")

    def __iter__(self) -> Iterator[tuple[int, Arrays]]:
        """Yield every step and its sample, in the order of the steps.

        Raises:
            UserError: a file is missing or damaged.
        """
        if self._index.exists():
            for step, digest in self._steps():
                yield step, read_arrays(self._folder / f"{digest}.npz")
        elif self._packed.exists():
            stacked = read_arrays(self._packed)
            if _SAMPLE_OF_STEP not in stacked:
                raise damaged(self._packed, f"it has no {_SAMPLE_OF_STEP}")
            for step, row in stacked.pop(_SAMPLE_OF_STEP):
                yield int(step), {name: array[row] for name, array in stacked.items()}

    def rewind(self, last_step: int) -> None:
        """Forget the samples of the steps after `last_step`; more can be added from there."""
        if self._index.exists():
            self._stored = {file.stem for file in self._folder.glob("*.npz")}
            lines = [f"{step},{digest}" for step, digest in self._steps() if step <= last_step]
        else:
            lines = [f"{step},{self._store(sample)}" for step, sample in self if step <= last_step]
        if lines:
            replace_lines(self._index, lines)
        else:
            # No step, no sample: the folder must not count as one that holds samples.
            self._index.unlink(missing_ok=True)
            self._packed.unlink(missing_ok=True)

    def pack(self) -> None:
        """Gather all in the `.npz`: the arrays, (n, ...), and `sample_of_step`, rows of (step, row).

        Raises:
            FieldtuneError: the samples differ in names, shapes or types.
        """
        if not self._index.exists():
            return
        steps = self._steps()
        rows = {digest: row for row, digest in enumerate(dict.fromkeys(digest for _, digest in steps))}
        samples = [read_arrays(self._folder / f"{digest}.npz") for digest in rows]
        if any(_form(sample) != _form(samples[0]) for sample in samples):
            raise FieldtuneError(f"the samples in {self._folder} differ in names, shapes or types")
        stacked = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
        of_step = np.array([(step, rows[digest]) for step, digest in steps], np.int32)
        write_arrays(self._packed, {**stacked, _SAMPLE_OF_STEP: of_step})
        # The index first: without it the folder counts for nothing, however little of it a kill leaves.
        self._index.unlink()
        shutil.rmtree(self._folder)
        self._stored.clear()

    def _store(self, sample: Arrays) -> str:
        digest = _digest(sample)
        if digest not in self._stored:
            write_arrays(self._folder / f"{digest}.npz", sample)
            self._stored.add(digest)
        return digest

    def _steps(self) -> list[tuple[int, str]]:
        """Return step and sample of every step, rising; a step that was taken again has its last sample."""
        try:
            pairs = [line.split(",") for line in whole_lines(self._index)]
            return sorted({int(step): digest for step, digest in pairs}.items())
        except ValueError as error:
            raise damaged(self._index, "a line is not step, sample") from error


def _digest(sample: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sample.items():
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def _form(sample: Arrays) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (array.shape, array.dtype.str) for name, array in sample.items()}
