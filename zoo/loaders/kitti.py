"""KITTI: colour images of the raw data with depth of the depth benchmark, or with that of the lidar alone.

A frame is a drive, a camera (``image_02`` left, ``image_03`` right) and a number. In a root folder lie::

    2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png (or .jpg)
    2011_09_26/2011_09_26_drive_0001_sync/velodyne_points/data/0000000005.bin
    2011_09_26/calib_cam_to_cam.txt, calib_velo_to_cam.txt
    train/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png

where the drives of the last line may as well be in ``val``, in the root, or in the folder of their date. The
root of a list is its own folder. The benchmark's ``val_selection_cropped`` brings images and depth together.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError
from zoo.frames import Frame, Frames
from zoo.loaders.arrays import read_rgb, read_uint16
from zoo.loaders.velodyne import Calibration, project, read_calibration

DATES = "[0-9][0-9][0-9][0-9]_[0-9][0-9]_[0-9][0-9]"
SELECTED_DEPTH, SELECTED_IMAGES = "groundtruth_depth", "image"

_UNITS_PER_METRE = np.float32(256)
_CAMERAS = {"l": 2, "r": 3}
_DRIVE = r"(\d{4}_\d{2}_\d{2}_drive_\d{4}_sync)"
_NUMBERED = re.compile(rf"\S*{_DRIVE} +(\d+) +([lr])")
_NAMED = re.compile(rf"\S*{_DRIVE}/image_0([23])/data/(\d+)\.\w+( .*)?")
_TRUTH_PLACES = ("train", "val", ".", "{date}")

Depth = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class _Name:
    """Which frame: the drive, the camera's number, the frame's number in the drive."""

    drive: str
    camera: int
    number: int

    @property
    def date(self) -> str:
        return self.drive[:10]


def open_list(path: Path) -> Frames:
    """Open the frames that a list names, in its order; the files lie in the list's folder.

    A line is ``DATE/DRIVE NUMBER l`` (or ``r``), as in monodepth2's lists, or begins with an image's path, as
    in Eigen's and BTS's. Frames without true depth are kept with all pixels unknown.

    Raises:
        DataError: a line has neither form or names an image that does not exist, or no frame has true depth.
    """
    root, names = path.parent, _read_list(path)
    images = [_image(root, name) for name in names]
    for name, image in zip(names, images, strict=True):
        if image is None:
            raise DataError(
                f"{path} names {_image_stem(root, name)}, which exists neither as .png nor as .jpg"
            )
    depths = _depths(root, names)
    if not any(depths):
        raise DataError(
            f"{path}: none of the {len(names)} frames has true depth in {root}, neither in "
            "proj_depth/groundtruth nor in velodyne_points"
        )
    return _frames([(image, depth) for image, depth in zip(images, depths, strict=True) if image is not None])


def open_folder(path: Path) -> Frames:
    """Open all frames of a root folder with image and true depth; drives by name, those of ``val`` last.

    Raises:
        DataError: there is no such frame.
    """
    names = sorted(_names(path), key=lambda name: (path / "val" / name.drive).is_dir())
    pairs = [
        (image, depth)
        for name, depth in zip(names, _depths(path, names), strict=True)
        if depth is not None and (image := _image(path, name)) is not None
    ]
    if not pairs:
        raise DataError(
            f"in {path} no image of a drive (DATE/DRIVE/image_02/data) has true depth, neither in "
            "proj_depth/groundtruth nor in velodyne_points"
        )
    return _frames(pairs)


def open_selection(path: Path) -> Frames:
    """Open the benchmark's ``val_selection_cropped``: ``image`` and ``groundtruth_depth``.

    Raises:
        DataError: there is no depth map, or the image of one is missing.
    """
    pairs = []
    for depth in sorted((path / SELECTED_DEPTH).glob("*.png")):
        image = path / SELECTED_IMAGES / depth.name.replace("_groundtruth_depth_", "_image_")
        if not image.is_file():
            raise DataError(f"{image} is missing, which belongs to {SELECTED_DEPTH}/{depth.name}")
        pairs.append((image, _map(depth)))
    if not pairs:
        raise DataError(f"{path / SELECTED_DEPTH} holds no .png")
    return _frames(pairs)


def _frames(pairs: Sequence[tuple[Path, Depth | None]]) -> Frames:
    def load(number: int) -> Frame:
        image, read = pairs[number]
        rgb = read_rgb(image)
        depth = np.zeros(rgb.shape[:2], np.float32) if read is None else read()
        if depth.shape != rgb.shape[:2]:
            raise DataError(f"{image} has {rgb.shape[:2]} pixels, but its depth has {depth.shape}")
        return Frame(rgb=rgb, depth=depth, name=str(image), sparse_depth=True)

    return Frames(load, range(len(pairs)))


def _read_list(path: Path) -> list[_Name]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text; KITTI's frames are named one a line") from error
    names = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line:
            continue
        if found := _NUMBERED.fullmatch(line):
            names.append(_Name(found[1], _CAMERAS[found[3]], int(found[2])))
        elif found := _NAMED.fullmatch(line):
            names.append(_Name(found[1], int(found[2]), int(found[3])))
        else:
            raise DataError(
                f"{path}, line {number} names no frame of KITTI; 'DATE/DRIVE_sync NUMBER l' or "
                "'DATE/DRIVE_sync/image_02/data/NUMBER.png' are expected"
            )
    if not names:
        raise DataError(f"{path} is empty; KITTI's frames are named one a line")
    return names


def _names(root: Path) -> Iterator[_Name]:
    """Yield the frames of all drives that have images."""
    for drive in sorted(root.glob(f"{DATES}/{DATES}_drive_*_sync")):
        for camera in _CAMERAS.values():
            images = (drive / f"image_{camera:02d}" / "data").glob("*.[pj][np]g")
            for number in sorted({int(image.stem) for image in images if image.stem.isdecimal()}):
                yield _Name(drive.name, camera, number)


def _image_stem(root: Path, name: _Name) -> Path:
    return root / name.date / name.drive / f"image_{name.camera:02d}" / "data" / f"{name.number:010d}"


def _image(root: Path, name: _Name) -> Path | None:
    stem = _image_stem(root, name)
    return next((file for suffix in (".png", ".jpg") if (file := stem.with_suffix(suffix)).is_file()), None)


def _depths(root: Path, names: list[_Name]) -> list[Depth | None]:
    """Return how each frame's depth is read: of all from the benchmark's maps, or of all from single sweeps.

    Maps are accumulated over eleven sweeps and cleaned of what the camera does not see: both kinds in one
    data set could not be compared.
    """
    maps = [_map_file(root, name) for name in names]
    if any(maps):
        return [None if file is None else _map(file) for file in maps]
    return _sweeps(root, names)


def _map_file(root: Path, name: _Name) -> Path | None:
    inside = Path(
        name.drive, "proj_depth", "groundtruth", f"image_{name.camera:02d}", f"{name.number:010d}.png"
    )
    places = (root / place.format(date=name.date) / inside for place in _TRUTH_PLACES)
    return next((file for file in places if file.is_file()), None)


def _map(file: Path) -> Depth:
    return lambda: read_uint16(file).astype(np.float32) / _UNITS_PER_METRE


def _sweeps(root: Path, names: list[_Name]) -> list[Depth | None]:
    @cache
    def calibration(date: str, camera: int) -> Calibration:
        return read_calibration(root / date, camera)

    def sweep(file: Path, name: _Name) -> Depth:
        return lambda: project(file, calibration(name.date, name.camera))

    files = [root / n.date / n.drive / "velodyne_points" / "data" / f"{n.number:010d}.bin" for n in names]
    return [sweep(file, name) if file.is_file() else None for file, name in zip(files, names, strict=True)]
