"""A folder of parts: ``frames-00000.npz``, ``frames-00001.npz`` ..., each in the .npz layout.

``fieldtune collect`` writes one part after another, each whole or not there, so that a folder can be read
while it grows (docs/your_data.md). Only the part that was read last is held in memory.
"""

import bisect
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np

from fieldtune.errors import DataError
from zoo.frames import Frame, Frames
from zoo.loaders.npz import open_npz, write_npz
from zoo.tof import TofGeometry

PATTERN = "frames-[0-9][0-9][0-9][0-9][0-9].npz"


def open_folder(path: Path) -> Frames:
    """Open all parts as one sequence; the geometry is that of the first.

    Raises:
        DataError: there is no part, or one is broken or its frames differ in size from those before.
    """
    parts = sorted(path.glob(PATTERN))
    if not parts:
        raise DataError(f"{path} has no parts of frames (frames-00000.npz ...)")
    first = open_npz(parts[0])
    sizes = [_frames_in(part) for part in parts]
    ends = list(accumulate(size[0] for size in sizes))
    for part, size in zip(parts, sizes, strict=True):
        if size[1:] != sizes[0][1:]:
            raise DataError(f"{part} has frames of {size[1:]}, but {parts[0].name} of {sizes[0][1:]}")

    @lru_cache(maxsize=1)
    def opened(index: int) -> Frames:
        return open_npz(parts[index])

    def load(number: int) -> Frame:
        index = bisect.bisect_right(ends, number)
        return opened(index)[number - (ends[index] - sizes[index][0])]

    return Frames(load, range(ends[-1]), first.geometry)


class Parts:
    """Writes frames to the end of such a folder, some at a time."""

    def __init__(self, path: Path, geometry: TofGeometry, size: int) -> None:
        """Go on behind the parts that are there; `size` frames become a part, or fewer at :meth:`flush`."""
        self.path, self._geometry, self._size = path, geometry, size
        self._waiting: list[Frame] = []
        there = sorted(path.glob(PATTERN)) if path.is_dir() else []
        self._next = 1 + int(there[-1].stem.partition("-")[2]) if there else 0
        self.count = sum(_frames_in(part)[0] for part in there)
        """Frames so far."""

    def add(self, frame: Frame) -> None:
        """Take one frame; it is on disk when its part is full."""
        self._waiting.append(frame)
        self.count += 1
        if len(self._waiting) == self._size:
            self.flush()

    def flush(self) -> None:
        """Write what waits as a part.

        Raises:
            UserError: it cannot be written.
        """
        if self._waiting:
            write_npz(self.path / f"frames-{self._next:05d}.npz", self._waiting, self._geometry)
            self._waiting = []
            self._next += 1


def _frames_in(part: Path) -> tuple[int, ...]:
    frames = open_npz(part)
    return (len(frames), *np.shape(frames[0].rgb))
