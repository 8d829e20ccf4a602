"""TartanAir (version 1): trajectories, folders with ``image_left`` and maybe ``depth_left`` and ``seg_left``.

A data set is one trajectory, or a folder with trajectories at any level that TartanAir has
(``ENVIRONMENT/Easy/P000``). Depth is in metres along the optical axis.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError
from zoo.frames import Frame, Frames
from zoo.loaders.arrays import read_array, read_rgb

IMAGES = "image_left"

# ROOT/ENVIRONMENT/ENVIRONMENT/Easy/P000: the archives repeat the environment's name.
_LEVELS = 4
# The sky is a sphere around the scene, at 10 km or so, which is no distance to learn.
_SKY_M = 1000.0


@dataclass(frozen=True)
class _Files:
    image: Path
    depth: Path | None
    classes: Path | None


def trajectories(path: Path, levels: int = _LEVELS) -> Iterator[Path]:
    """Yield the trajectories in a folder, by name, without looking into those found."""
    if (path / IMAGES).is_dir():
        yield path
    elif levels:
        for folder in sorted(path.glob("*/")):
            yield from trajectories(folder, levels - 1)


def open_folder(path: Path) -> Frames:
    """Open all trajectories, one after another.

    Raises:
        DataError: a trajectory has no image, or a file of one of its images is missing.
    """
    rows = [row for trajectory in trajectories(path) for row in _rows(trajectory)]

    def load(number: int) -> Frame:
        row = rows[number]
        return Frame(
            rgb=read_rgb(row.image),
            depth=None if row.depth is None else _depth(row.depth),
            classes=None if row.classes is None else read_array(row.classes),
            name=str(row.image),
        )

    return Frames(load, range(len(rows)))


def _rows(trajectory: Path) -> list[_Files]:
    images = sorted((trajectory / IMAGES).glob("*_left.png"))
    if not images:
        raise DataError(f"{trajectory / IMAGES} holds no images NNNNNN_left.png")
    depths = _beside(trajectory / "depth_left", "depth", images)
    classes = _beside(trajectory / "seg_left", "seg", images)
    return [_Files(*row) for row in zip(images, depths, classes, strict=True)]


def _beside(folder: Path, kind: str, images: list[Path]) -> list[Path] | list[None]:
    """Return the array of that kind of each image; none at all where that part was not downloaded."""
    if not folder.is_dir():
        return [None] * len(images)
    files = [folder / f"{image.stem}_{kind}.npy" for image in images]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise DataError(f"{missing} is missing; {folder.name} must have an array for each image")
    return files


def _depth(path: Path) -> NDArray[np.float32]:
    depth = read_array(path)
    if depth.dtype.kind != "f":
        raise DataError(f"{path} must be a float array in metres, but is {depth.dtype} {depth.shape}")
    # A comparison with NaN is false.
    return np.where((depth > 0) & (depth < _SKY_M), depth, 0).astype(np.float32)
