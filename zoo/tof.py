"""The multizone time-of-flight sensor: what it reports, and where in the image each zone looks.

Eight by eight zones, each with a distance and a status (ST VL53L5CX / VL53L8CX, user manual UM2884). A zone
sees a solid angle, not a pixel, so a label map interpolates between zone centres, and only between valid
zones: no interpolated value contains a distance that the sensor did not vouch for.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError

ZONES = 8

# Interpolated validity above which a pixel counts. Not 1: the weights of four valid zones sum to 1 only up to
# rounding, and a pixel that lies on a zone's centre has weights of some 1e-16 on that zone's neighbours.
KNOWN_SHARE = 0.999


@dataclass(frozen=True, eq=False)
class TofFrame:
    """One reading: distance_mm int16 (8, 8) and target status uint8 (8, 8), in the sensor's own zone order.

    Raises:
        DataError: an array has another shape or type.
    """

    distance_mm: NDArray[np.int16]
    status: NDArray[np.uint8]

    def __post_init__(self) -> None:
        for name, array, dtype in (
            ("distance_mm", self.distance_mm, np.int16),
            ("status", self.status, np.uint8),
        ):
            if array.shape != (ZONES, ZONES) or array.dtype != dtype:
                raise DataError(
                    f"ToF {name} must be {np.dtype(dtype)} (8, 8), but is {array.dtype} {array.shape}; "
                    "zones are rows by columns"
                )


@dataclass(frozen=True)
class TofGeometry:
    """How the zones lie in the image, and which of them to believe.

    Args:
        camera_fov_deg: field of view of the frames as they are stored, (horizontal, vertical) in degrees.
        tof_fov_deg: the sensor's, likewise. Both are given or neither; with neither the zones span the image.
        flip_horizontal: zone column 0 looks to the right side of the image.
        flip_vertical: zone row 0 looks to the lower side of the image.
        valid_status: the target_status codes that count. ST's driver header calls 5 and 9 "ranging OK"; 6 (no
            wrap-around check yet) can be added by who prefers more labels to better ones.
        max_range_m: a zone at or beyond this distance is not valid.

    Both optical axes are taken as one: a baseline of 2 cm shifts a zone by under a pixel of 48 beyond 1 m.

    Raises:
        DataError: one field of view without the other, or a value that no sensor has.
    """

    camera_fov_deg: tuple[float, float] | None = None
    tof_fov_deg: tuple[float, float] | None = None
    flip_horizontal: bool = False
    flip_vertical: bool = False
    valid_status: tuple[int, ...] = (5, 9)
    max_range_m: float = 4.0

    def __post_init__(self) -> None:
        if (self.camera_fov_deg is None) != (self.tof_fov_deg is None):
            raise DataError("a ToF geometry needs camera_fov_deg and tof_fov_deg together, or neither")
        for name, fov in (("camera_fov_deg", self.camera_fov_deg), ("tof_fov_deg", self.tof_fov_deg)):
            if fov is not None and not all(0 < angle < 180 for angle in fov):
                raise DataError(f"{name} must be two angles between 0 and 180 degrees, but is {fov}")
        if not self.max_range_m > 0:
            raise DataError(f"max_range_m must be above 0, but is {self.max_range_m}")


def valid_zones(tof: TofFrame, geometry: TofGeometry) -> NDArray[np.bool_]:
    """Return which zones hold a distance to believe, bool (8, 8) in the sensor's zone order.

    Valid means: the status is one of `geometry.valid_status` and 0 < distance < `geometry.max_range_m`.
    """
    distance = tof.distance_mm
    in_range = (distance > 0) & (distance < geometry.max_range_m * 1000)
    return np.isin(tof.status, geometry.valid_status) & in_range


def project_zones(
    values: NDArray[np.floating],
    valid: NDArray[np.bool_],
    geometry: TofGeometry,
    height: int,
    width: int,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Spread zone values over the pixels of an image, bilinearly between the centres of valid zones.

    Give the values in the unit that the network learns (a disparity interpolates differently from a depth).

    Args:
        values: (8, 8), any unit, in the sensor's zone order; where `valid` is False they are not looked at.
        valid: bool (8, 8), as :func:`valid_zones` returns it.
        geometry: flips and fields of view.
        height: rows of the map; the map shows the whole camera frame at any resolution.
        width: columns of the map.

    Returns:
        map float32 (height, width), 0 where not valid, and valid bool (height, width): the pixel lies in the
        sensor's field and every zone that contributes to it is valid. In the outer half of a border zone that
        zone's value continues.
    """
    rows, columns = zone_weights(height, 1, geometry), zone_weights(width, 0, geometry)
    known = _mixed(valid.astype(np.float64), rows, columns) > KNOWN_SHARE
    mixed = _mixed(np.where(valid, values, 0).astype(np.float64), rows, columns)
    return np.where(known, mixed, 0).astype(np.float32), known


@dataclass(frozen=True, eq=False)
class ZoneWeights:
    """From which two zones each of n rows or columns of an image is mixed, along one axis.

    `zones` (n, 2) in the sensor's own order, `weights` (n, 2), both 0 outside of the sensor's field.
    """

    zones: NDArray[np.intp]
    weights: NDArray[np.float64]


def zone_weights(pixels: int, axis: int, geometry: TofGeometry) -> ZoneWeights:
    """Return how zone centres are interpolated along an image axis: 0 is horizontal, 1 vertical."""
    coordinates = _zone_coordinates(pixels, axis, geometry)
    from_centre = np.clip(coordinates - 0.5, 0, ZONES - 1)
    first = np.minimum(np.floor(from_centre).astype(np.intp), ZONES - 2)
    zones = np.stack([first, first + 1], -1)
    inside = (coordinates >= 0) & (coordinates <= ZONES)
    weights = np.where(inside[:, None], 1 - np.abs(from_centre[:, None] - zones), 0)
    flipped = geometry.flip_vertical if axis else geometry.flip_horizontal
    return ZoneWeights(ZONES - 1 - zones if flipped else zones, weights)


def _mixed(zones: NDArray[np.float64], rows: ZoneWeights, columns: ZoneWeights) -> NDArray[np.float64]:
    """Interpolate along the rows, then along the columns.

    The order of the operations is part of what a label is: runtime/field/sample.c has the same.
    """
    (a, b), (u, v) = rows.zones.T, rows.weights.T[..., None]
    narrow = zones[a] * u + zones[b] * v
    (a, b), (u, v) = columns.zones.T, columns.weights.T
    mixed: NDArray[np.float64] = narrow[:, a] * u + narrow[:, b] * v
    return mixed


def _zone_coordinates(pixels: int, axis: int, geometry: TofGeometry) -> NDArray[np.float64]:
    """Return where each pixel's centre lies along one image axis, in zones: the sensor's field is [0, 8].

    `axis` is 0 for horizontal, 1 for vertical. With fields of view: a pinhole camera (pixel to angle by the
    arc tangent) and zones of equal angle.
    """
    centres = (np.arange(pixels) + 0.5) / pixels
    if geometry.camera_fov_deg is None or geometry.tof_fov_deg is None:
        return centres * ZONES
    half_width = math.tan(math.radians(geometry.camera_fov_deg[axis]) / 2)
    angles = np.degrees(np.arctan((2 * centres - 1) * half_width))
    return (angles / geometry.tof_fov_deg[axis] + 0.5) * ZONES
