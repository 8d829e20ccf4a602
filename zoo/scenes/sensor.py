"""A multizone ToF sensor of the kind of ST's VL53L5CX, looking along the camera's axis."""

import numpy as np
from numpy.typing import NDArray

from zoo.scenes.camera import FIELD_OF_VIEW, focal_length
from zoo.tof import ZONES, TofFrame, TofGeometry

_FIELD = 45.0  # degrees, both ways
_NOISE = 0.02  # of the distance, one standard deviation
_LOST = 0.01  # share of readings that fail without a cause that the scene shows
_VALID, _SIGMA, _CONSISTENCY, _BLURRED, _NONE = 5, 3, 4, 12, 255  # target_status of ST's UM2884

GEOMETRY = TofGeometry(
    camera_fov_deg=(FIELD_OF_VIEW, FIELD_OF_VIEW),
    tof_fov_deg=(_FIELD, _FIELD),
    flip_horizontal=True,  # the lens turns the image about; the driver does not turn it back
    flip_vertical=True,
)


def measure(depth: NDArray[np.float32], rng: np.random.Generator) -> TofFrame:
    """Return what the sensor reports of a square z-depth image (0 = nothing there).

    A zone reports the median of its solid angle (its driver converts to the distance along the axis) with 2 %
    noise; no target beyond 4 m. Where near and far share a zone it is sometimes blurred.
    """
    size = len(depth)
    angles = np.radians((np.arange(ZONES + 1) - ZONES / 2) * _FIELD / ZONES)
    edges = np.round(size / 2 + focal_length(size) * np.tan(angles)).astype(int)
    distance = np.empty((ZONES, ZONES))
    spread = np.empty((ZONES, ZONES))
    for row in range(ZONES):
        band = np.where(depth[edges[row] : edges[row + 1]] > 0, depth[edges[row] : edges[row + 1]], 1e3)
        for column in range(ZONES):
            zone = np.sort(band[:, edges[column] : edges[column + 1]], axis=None)
            distance[row, column] = zone[len(zone) // 2]
            spread[row, column] = zone[-len(zone) // 8] / zone[len(zone) // 8]
    return _report(distance, spread, rng)


def _report(distance: NDArray[np.float64], spread: NDArray[np.float64], rng: np.random.Generator) -> TofFrame:
    noisy = distance * (1 + _NOISE * rng.standard_normal(distance.shape))
    chance = rng.random(distance.shape)
    status = np.full(distance.shape, _VALID)
    status[(spread > 1.5) & (chance < 0.3)] = _BLURRED
    status[chance > 1 - _LOST] = _CONSISTENCY
    status[(noisy > 3.6) & (chance > 0.9)] = _SIGMA
    none = ~(noisy < GEOMETRY.max_range_m)
    status[none] = _NONE
    millimetres = np.where(none, 0, noisy * 1000 + 0.5)
    turned = slice(None, None, -1)
    return TofFrame(
        millimetres.astype(np.int16)[turned, turned].copy(), status.astype(np.uint8)[turned, turned].copy()
    )
