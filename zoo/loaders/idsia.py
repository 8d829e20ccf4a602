"""IDSIA-µMDE: csv lists without header, one frame a line: image, depth, disparity, fb, relative to the list.

The depth is what the 8x8 sensor saw, in metres, so it becomes the frame's ToF reading. The data set stores no
status: readings at the sensor's limit of 4 m and the code -9.999 mean that a zone saw nothing.
"""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError
from zoo.frames import Frame, Frames
from zoo.loaders.arrays import read_array, read_rgb
from zoo.tof import ZONES, TofFrame

_COLUMNS = 4
_LIMIT_M = 4.0
_VALID, _NO_TARGET = 5, 255


def open_folder(path: Path) -> Frames:
    """Open the folder's only csv list.

    Raises:
        DataError: the folder has several lists, or the list is wrong (:func:`open_list`).
    """
    lists = sorted(path.glob("*.csv"))
    if len(lists) > 1:
        names = ", ".join(found.name for found in lists)
        raise DataError(f"{path} has several lists ({names}); name one of them, such as {lists[0]}")
    return open_list(lists[0])


def open_list(path: Path) -> Frames:
    """Open one csv list; frames are read when they are asked for, but missing files are reported now.

    Raises:
        DataError: the list is empty, a line has not four columns, or a file that it names is missing.
    """
    rows = _rows(path)

    def load(number: int) -> Frame:
        image, depth = rows[number]
        return Frame(rgb=read_rgb(image), tof=_reading(depth), name=str(image))

    return Frames(load, range(len(rows)))


def _rows(path: Path) -> list[tuple[Path, Path]]:
    """Return image and depth file of every line."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            lines = [(number, row) for number, row in enumerate(csv.reader(stream), 1) if row]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no csv text ({error})") from error
    if not lines:
        raise DataError(f"{path} is empty; a line names image, depth, disparity and fb of a frame")
    rows = []
    for number, row in lines:
        if len(row) != _COLUMNS:
            raise DataError(
                f"{path}, line {number} has {len(row)} columns; {_COLUMNS} are expected: "
                "image, depth, disparity, fb"
            )
        image, depth = (path.parent / name.strip() for name in row[:2])
        for file in (image, depth):
            if not file.is_file():
                raise DataError(f"{path}, line {number} names {file}, which does not exist")
        rows.append((image, depth))
    return rows


def _reading(path: Path) -> TofFrame:
    depth: NDArray[np.float64] = read_array(path)
    if depth.shape != (ZONES, ZONES) or depth.dtype.kind != "f":
        raise DataError(f"{path} must be a float array (8, 8) in metres, but is {depth.dtype} {depth.shape}")
    # A comparison with NaN is false, so NaN is not seen either.
    seen = (depth > 0) & (depth < _LIMIT_M)
    distance = np.rint(np.where(seen, depth, 0) * 1000).astype(np.int16)
    return TofFrame(distance, np.where(seen, _VALID, _NO_TARGET).astype(np.uint8))
