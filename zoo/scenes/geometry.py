"""Scenes of boxes and the rays cast into them.

World axes: x and y level, z up, metres. A box is centred, has half sizes and turns about the vertical. Faces
are numbered 2 * axis + (1 on the positive side). Box 0 is the shell: it is seen from inside.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Int = NDArray[np.intp]

CLASSES = (
    "floor", "wall", "ceiling", "sky", "opening", "furniture", "decoration",
    "building", "vehicle", "vegetation", "structure", "cargo",
)  # fmt: skip
CLASS = {name: index for index, name in enumerate(CLASSES)}
FLOOR_FACE = 4


@dataclass(frozen=True)
class Material:
    """A surface: `pattern` of `textures.NAMES`, metres a tile, and the colours (0..1) at the pattern's 0 and
    1.
    """

    pattern: int
    size: float
    dark: tuple[float, float, float]
    light: tuple[float, float, float]
    glow: float = 0.0  # light of its own: lamps and windows


@dataclass(frozen=True)
class Box:
    """A turned box with one material and class for each of its six faces."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw: float
    materials: tuple[Material, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Lighting:
    """Ambient light and one lamp (a point) or sun (a direction, `distant`); colours 0..1; haze in 1/m."""

    position: tuple[float, float, float]
    distant: bool
    colour: tuple[float, float, float]
    ambient: tuple[float, float, float]
    sky: tuple[float, float, float]
    haze: float


class Scene:
    """The boxes of a scene as arrays; row 0 is the shell."""

    def __init__(self, boxes: list[Box], lighting: Lighting) -> None:
        self.boxes = boxes
        materials = [material for box in boxes for material in box.materials]
        self.lighting = lighting
        self.centre = np.array([box.centre for box in boxes], np.float32)
        self.half = np.array([box.half for box in boxes], np.float32)
        self.cos = np.array([np.cos(box.yaw) for box in boxes], np.float32)
        self.sin = np.array([np.sin(box.yaw) for box in boxes], np.float32)
        self.classes = np.array([box.classes for box in boxes], np.uint8)
        shape = (len(boxes), 6)
        self.pattern = np.array([m.pattern for m in materials], np.intp).reshape(shape)
        self.size = np.array([m.size for m in materials], np.float32).reshape(shape)
        self.dark = np.array([m.dark for m in materials], np.float32).reshape(*shape, 3)
        self.light = np.array([m.light for m in materials], np.float32).reshape(*shape, 3)
        self.glow = np.array([m.glow for m in materials], np.float32).reshape(shape)
        self.corners = self._corners()

    def scaled(self, factor: float) -> "Scene":
        """Return the scene `factor` times as large: the same picture from a path as much larger."""
        x, y, z = self.lighting.position
        lamp = (x, y, z) if self.lighting.distant else (factor * x, factor * y, factor * z)
        return Scene([_scaled(box, factor) for box in self.boxes], replace(self.lighting, position=lamp))

    def _corners(self) -> Float:
        """World corners of every box, (n, 8, 3)."""
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T.astype(np.float32)
        local = signs[None] * self.half[:, None]
        x = self.cos[:, None] * local[..., 0] - self.sin[:, None] * local[..., 1]
        y = self.sin[:, None] * local[..., 0] + self.cos[:, None] * local[..., 1]
        return np.stack([x, y, local[..., 2]], -1) + self.centre[:, None]

    def to_local(self, box: Int | int, vectors: Float) -> tuple[Float, Float, Float]:
        """Turn world vectors (..., 3) into the axes of `box` (an index or one index a vector)."""
        cos, sin = self.cos[box], self.sin[box]
        x, y = vectors[..., 0], vectors[..., 1]
        return cos * x + sin * y, cos * y - sin * x, vectors[..., 2]


def _scaled(box: Box, factor: float) -> Box:
    x, y, z = (factor * value for value in box.centre)
    dx, dy, dz = (factor * value for value in box.half)
    materials = tuple(replace(material, size=factor * material.size) for material in box.materials)
    return replace(box, centre=(x, y, z), half=(dx, dy, dz), materials=materials)


@dataclass(frozen=True)
class Hits:
    """What each ray meets: distance in units of its direction, box, face and the point in the box's axes."""

    distance: Float
    box: Int
    face: Int
    local: Float


def _slabs(scene: Scene, box: int, origin: Float, directions: Float) -> tuple[list[Float], list[Float]]:
    """Entry and exit distances of the three pairs of planes of a box."""
    start = scene.to_local(box, origin - scene.centre[box])
    near, far = [], []
    for axis, along in enumerate(scene.to_local(box, directions)):
        inverse = 1 / (along + np.float32(1e-9))
        middle, reach = -start[axis] * inverse, np.abs(scene.half[box, axis] * inverse)
        near.append(middle - reach)
        far.append(middle + reach)
    return near, far


def cast(scene: Scene, origin: Float, directions: Float, windows: list[tuple[int, slice, slice]]) -> Hits:
    """Cast rays (h, w, 3) from one `origin`; `windows` names the boxes and the part of the rays that can meet
    each.
    """
    _, far = _slabs(scene, 0, origin, directions)
    distance = np.minimum(np.minimum(far[0], far[1]), far[2])
    axis = np.where(distance == far[0], 0, np.where(distance == far[1], 1, 2))
    index = np.zeros(distance.shape, np.intp)
    for box, rows, columns in windows:
        near, far = _slabs(scene, box, origin, directions[rows, columns])
        entry = np.maximum(np.maximum(near[0], near[1]), near[2])
        leave = np.minimum(np.minimum(far[0], far[1]), far[2])
        meets = (entry > 1e-3) & (entry <= leave) & (entry < distance[rows, columns])
        distance[rows, columns] = np.where(meets, entry, distance[rows, columns])
        index[rows, columns] = np.where(meets, box, index[rows, columns])
        side = np.where(entry == near[0], 0, np.where(entry == near[1], 1, 2))
        axis[rows, columns] = np.where(meets, side, axis[rows, columns])
    points = (origin + distance[..., None] * directions).astype(np.float32, copy=False)
    local = np.stack(scene.to_local(index, points - scene.centre[index]), -1)
    positive = np.take_along_axis(local, axis[..., None], -1)[..., 0] > 0
    return Hits(distance, index, 2 * axis + positive, local)


def occluded(scene: Scene, points: Float, targets: Float) -> NDArray[np.bool_]:
    """Whether a box (not the shell) stands between each of `points` (n, 3) and its target (n, 3).

    Points must stand a little off the surface that they belong to.
    """
    directions = targets - points
    blocked = np.zeros(len(points), bool)
    for box in range(1, len(scene.half)):
        if scene.glow[box].max() > 0:
            continue  # a lamp does not shade itself
        near, far = _slabs(scene, box, points, directions)
        entry = np.maximum(np.maximum(near[0], near[1]), near[2])
        leave = np.minimum(np.minimum(far[0], far[1]), far[2])
        blocked |= (entry <= leave) & (leave > 0) & (entry < 1)
    return blocked
