"""TUM RGB-D: a folder with rgb.txt and depth.txt, each line a time stamp in seconds and a file.

Depth is a 16-bit PNG with 5000 units a metre, 0 = unknown, registered to the colour image
(https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats).
"""

from pathlib import Path

import numpy as np

from fieldtune.errors import DataError
from zoo.frames import Frame, Frames
from zoo.loaders.arrays import read_rgb, read_uint16

COLOUR_LIST = "rgb.txt"
DEPTH_LIST = "depth.txt"
_UNITS_PER_METRE = np.float32(5000)
_LARGEST_GAP_S = 0.02


def open_folder(path: Path) -> Frames:
    """Open a sequence; each colour image goes with the depth image nearest in time, at most 20 ms away.

    Colour images without such a depth image are left out. Images are read when they are asked for; missing
    files are reported now.

    Raises:
        DataError: a list is missing or wrong, names a missing file, or no pair is close enough in time.
    """
    colours, depths = _stamped(path / COLOUR_LIST), _stamped(path / DEPTH_LIST)
    times = np.array([time for time, _ in depths])
    pairs = []
    for time, colour in colours:
        nearest = int(np.abs(times - time).argmin())
        if abs(times[nearest] - time) <= _LARGEST_GAP_S:
            pairs.append((colour, depths[nearest][1]))
    if not pairs:
        raise DataError(
            f"in {path} no colour image has a depth image within {_LARGEST_GAP_S * 1000:.0f} ms; "
            f"are {COLOUR_LIST} and {DEPTH_LIST} of the same sequence?"
        )

    def load(number: int) -> Frame:
        colour, depth = pairs[number]
        metres = read_uint16(depth).astype(np.float32) / _UNITS_PER_METRE
        rgb = read_rgb(colour)
        if metres.shape != rgb.shape[:2]:
            raise DataError(
                f"{depth} has {metres.shape} pixels, but {colour} has {rgb.shape[:2]}; both must agree"
            )
        return Frame(rgb=rgb, depth=metres, name=str(colour))

    return Frames(load, range(len(pairs)))


def _stamped(path: Path) -> list[tuple[float, Path]]:
    """Return the time stamp and file of every line that is no comment, in order of time."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text; lines of the form 'timestamp filename' are expected") from error
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        stamp, _, name = line.strip().partition(" ")
        try:
            time = float(stamp)
        except ValueError:
            name = ""
        if not name:
            raise DataError(f"{path}, line {number} is not of the form 'timestamp filename'")
        file = path.parent / name.strip()
        if not file.is_file():
            raise DataError(f"{path}, line {number} names {file}, which does not exist")
        entries.append((time, file))
    if not entries:
        raise DataError(f"{path} names no files; lines of the form 'timestamp filename' are expected")
    return sorted(entries)
