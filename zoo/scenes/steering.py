"""Where to steer in a scene: what each frame's `target` says."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

STEERING = ("left", "ahead", "right", "stop")
MIRRORED = (2, 1, 0, 3)  # what becomes of each command in a mirrored image

_ROWS = (1 / 6, 1 / 2)  # in rooms, whose camera looks down, from the horizon to the floor 3 m ahead
_NEAREST = 0.1  # share of a third's pixels that may be nearer than its clearance
_ENOUGH_M = 1.7


def steering(depth: NDArray[np.float32]) -> int:
    """Return the index in :data:`STEERING` of the third of the image with the farthest clearance.

    Clearance is the depth that nine tenths of a third's pixels reach, in the rows from a sixth to half of the
    image's height: what stands in the way, but not the floor before the camera. "stop" where no third is
    clear for 1.7 m; of thirds that are equally clear, ahead and then left.

    Args:
        depth: (h, w) in metres, 0 = sky, which is clear. If w can be divided by 3, a mirrored image gets the
            mirrored answer, but where left and right are equally clear.
    """
    height, width = depth.shape
    rows = depth[round(_ROWS[0] * height) : round(_ROWS[1] * height)]
    far = np.where(rows > 0, rows, np.inf)
    edges = [round(k * width / 3) for k in range(4)]
    left, ahead, right = (
        float(np.quantile(far[:, start:stop], _NEAREST, method="lower")) for start, stop in pairwise(edges)
    )
    clearance = {"ahead": ahead, "left": left, "right": right}
    best = max(clearance, key=lambda side: clearance[side])
    return STEERING.index(best if clearance[best] >= _ENOUGH_M else "stop")
