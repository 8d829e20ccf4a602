"""Putting a scene together: materials by chance, things made of boxes, a path that stays clear of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zoo.scenes import textures
from zoo.scenes.camera import Pose
from zoo.scenes.geometry import CLASS, Box, Lighting, Material, Scene

Colour = tuple[float, float, float]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Path:
    """A closed curve with ever new headings: sums of slow sines, so that no two laps look alike.

    Args:
        centre: middle of the curve [m].
        reach: half extent of the curve along x, y and z [m].
        lap: frames until the position returns.
        turn: frames until the camera has looked all round.
        sway: how far the heading swings about its steady turn [rad].
        pitch: mean of the angle up [rad].
        phase: six phases [rad].
    """

    centre: Vector
    reach: Vector
    lap: float
    turn: float
    sway: float
    pitch: float
    phase: tuple[float, ...]

    def pose(self, frame: int | float) -> Pose:
        """Return where the camera is at a frame number."""
        a, b, c, d, e, f = self.phase
        t, s = 2 * np.pi * frame / self.lap, 2 * np.pi * frame / self.turn
        x = self.centre[0] + self.reach[0] * (0.8 * np.cos(t + a) + 0.2 * np.cos(2.3 * t + b))
        y = self.centre[1] + self.reach[1] * (0.8 * np.sin(t + a) + 0.2 * np.sin(1.7 * t + c))
        z = self.centre[2] + self.reach[2] * np.sin(1.3 * t + d)
        yaw = s + e + self.sway * np.sin(2.1 * t + f)
        pitch = self.pitch + 0.05 * np.sin(1.9 * t + b)
        return Pose(
            (float(x), float(y), float(z)), float(yaw), float(pitch), float(0.03 * np.sin(2.7 * t + c))
        )

    def scaled(self, factor: float) -> "Path":
        """Return the path through the scene that is `factor` times as large."""
        x, y, z = (factor * value for value in self.centre)
        dx, dy, dz = (factor * value for value in self.reach)
        return replace(self, centre=(x, y, z), reach=(dx, dy, dz))

    def places(self) -> NDArray[np.float64]:
        """Where the camera will be, densely, (n, 3)."""
        return np.array([self.pose(frame).position for frame in np.arange(0, 12 * self.lap, self.lap / 60)])


def random_phase(rng: np.random.Generator) -> tuple[float, ...]:
    """Six phases for a Path."""
    return tuple(float(p) for p in rng.uniform(0, 2 * np.pi, 6))


class Builder:
    """Collects the boxes of a scene; a thing that stands in the camera's way or in another thing is left
    out.
    """

    def __init__(self, rng: np.random.Generator, shell: Box, path: Path, clearance: float) -> None:
        self.rng = rng
        self.boxes = [shell]
        self._places = path.places()
        self._clearance = clearance
        self._footprints: list[tuple[float, float, float, float]] = []

    def thing(self, parts: Sequence[Box], overlap: bool = False) -> bool:
        """Add a thing made of `parts`, unless it is in the way; `overlap` lets it touch other things."""
        if any(self._in_the_way(part) for part in parts):
            return False
        footprint = _footprint(parts)
        if not overlap:
            if any(_intersect(footprint, other) for other in self._footprints):
                return False
            self._footprints.append(footprint)
        self.boxes.extend(parts)
        return True

    def _in_the_way(self, box: Box) -> bool:
        offset = self._places - box.centre
        cos, sin = np.cos(box.yaw), np.sin(box.yaw)
        local = np.stack(
            [cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0], offset[:, 2]],
            1,
        )
        return bool((np.abs(local) < np.array(box.half) + self._clearance).all(1).any())

    def scene(self, lighting: Lighting) -> Scene:
        """Return what has been collected."""
        return Scene(self.boxes, lighting)

    def between(self, low: float, high: float) -> float:
        """A random number."""
        return float(self.rng.uniform(low, high))


def _footprint(parts: Sequence[Box]) -> tuple[float, float, float, float]:
    corners = []
    for part in parts:
        cos, sin = abs(np.cos(part.yaw)), abs(np.sin(part.yaw))
        dx, dy = cos * part.half[0] + sin * part.half[1], sin * part.half[0] + cos * part.half[1]
        corners.append((part.centre[0] - dx, part.centre[1] - dy, part.centre[0] + dx, part.centre[1] + dy))
    low, high = np.min(corners, 0), np.max(corners, 0)
    return float(low[0]), float(low[1]), float(high[2]), float(high[3])


def _intersect(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def material(
    rng: np.random.Generator, patterns: Sequence[str], size: tuple[float, float], colour: Colour,
    spread: float = 0.08, contrast: float = 0.5, glow: float = 0.0,
) -> Material:  # fmt: skip
    """A material of one of `patterns` about a colour; the pattern's dark is `contrast` darker than its
    light.
    """
    light = np.clip(np.array(colour) + rng.normal(0, spread) + rng.normal(0, spread / 2, 3), 0.03, 1)
    dark = np.clip(light * (1 - contrast) + rng.normal(0, spread / 4, 3), 0.02, 1)
    name = patterns[int(rng.integers(len(patterns)))]
    return Material(
        textures.NAMES.index(name), float(rng.uniform(*size)), _colour(dark), _colour(light), glow
    )


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def solid(
    centre: Vector, half: Vector, yaw: float, surface: Material, kind: str, top: Material | None = None
) -> Box:
    """A box of one material and class, its top perhaps of another material."""
    upper = top or surface
    return Box(centre, half, yaw, (surface, surface, surface, surface, surface, upper), (CLASS[kind],) * 6)


def shell(
    half: Vector, floor: Material, walls: Sequence[Material], above: Material, sides: str, roof: str
) -> Box:
    """The box that the scene happens in: it stands on z = 0; `sides` and `roof` are classes."""
    classes = (CLASS[sides],) * 4 + (CLASS["floor"], CLASS[roof])
    return Box((0.0, 0.0, half[2]), half, 0.0, (*walls, floor, above), classes)


class Local:
    """Axes of a thing: x along its front, y into its depth, z up from `base`; makes boxes in the world's
    axes.
    """

    def __init__(self, x: float, y: float, yaw: float, base: float = 0.0) -> None:
        self.x, self.y, self.yaw, self.base = x, y, yaw, base

    def box(
        self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], surface: Material, kind:
        str, top: Material | None = None,
    ) -> Box:  # fmt: skip
        """A box between two values on each axis."""
        cx, cy = (x[0] + x[1]) / 2, (y[0] + y[1]) / 2
        cos, sin = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        centre = (self.x + cos * cx - sin * cy, self.y + sin * cx + cos * cy, self.base + (z[0] + z[1]) / 2)
        return solid(
            centre, ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2, (z[1] - z[0]) / 2), self.yaw, surface, kind, top
        )
