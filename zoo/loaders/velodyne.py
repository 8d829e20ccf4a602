"""KITTI's raw lidar sweeps, projected into a camera's rectified image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError

_BYTES_A_POINT = 16


@dataclass(frozen=True, eq=False)
class Calibration:
    """From the lidar to a camera: `projection` (3, 4) takes (x, y, z, 1) [m] to (u, v, 1) times depth."""

    height: int
    width: int
    projection: NDArray[np.float64]


def read_calibration(folder: Path, camera: int) -> Calibration:
    """Read ``calib_cam_to_cam.txt`` and ``calib_velo_to_cam.txt`` of a day's recordings.

    Raises:
        DataError: a file is missing or does not hold what it should.
    """
    cameras, lidar = folder / "calib_cam_to_cam.txt", folder / "calib_velo_to_cam.txt"
    width, height = _numbers(cameras, f"S_rect_{camera:02d}", (2,))
    rectify, to_camera = np.eye(4), np.eye(4)
    rectify[:3, :3] = _numbers(cameras, "R_rect_00", (3, 3))
    to_camera[:3] = np.column_stack([_numbers(lidar, "R", (3, 3)), _numbers(lidar, "T", (3,))])
    projection = _numbers(cameras, f"P_rect_{camera:02d}", (3, 4)) @ rectify @ to_camera
    return Calibration(int(height), int(width), projection)


def project(sweep: Path, calibration: Calibration) -> NDArray[np.float32]:
    """Return the depth that one sweep measured, in metres, (height, width), 0 = unknown.

    Pixels are KITTI's, which count from 1; of several points in a pixel the nearest counts.

    Raises:
        DataError: the file cannot be read or is no sweep.
    """
    points = _points(sweep)
    u, v, depth = calibration.projection @ np.append(points[:, :3], np.ones((len(points), 1)), 1).T
    # What lies behind the camera is not in the image, but would be projected into it.
    before = depth > 0
    u, v, depth = u[before] / depth[before], v[before] / depth[before], depth[before]
    column, row = np.rint(u) - 1, np.rint(v) - 1
    inside = (column >= 0) & (column < calibration.width) & (row >= 0) & (row < calibration.height)
    pixels = row[inside].astype(np.int64), column[inside].astype(np.int64)
    found = np.full((calibration.height, calibration.width), np.inf)
    np.minimum.at(found, pixels, depth[inside])
    return np.where(np.isfinite(found), found, 0).astype(np.float32)


def _points(path: Path) -> NDArray[np.float64]:
    """Return x (forward), y (left), z (up) in metres and the reflectance of each point."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if len(data) % _BYTES_A_POINT:
        raise DataError(f"{path} is no complete sweep: {len(data)} bytes are no multiple of {_BYTES_A_POINT}")
    points = np.frombuffer(data, "<f4").reshape(-1, 4).astype(np.float64)
    if not np.isfinite(points).all():
        raise DataError(f"{path} is no sweep: a coordinate is not finite")
    return points


def _numbers(path: Path, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the numbers of the line ``key: 1.0 2.0 ...``."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        line = next(rest for name, colon, rest in (line.partition(":") for line in lines) if name == key)
        return np.array(line.split(), np.float64).reshape(shape)
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}; raw sweeps need KITTI's calibration"
        ) from error
    except (StopIteration, ValueError) as error:
        raise DataError(
            f"{path} must have a line '{key}:' with {np.prod(shape)} numbers; is it KITTI's calibration?"
        ) from error
