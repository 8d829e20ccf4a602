"""Where the camera is and what it sees: poses along a smooth path, pinhole rays, an image from what the rays
meet.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.scenes import textures
from zoo.scenes.geometry import CLASS, FLOOR_FACE, Float, Hits, Scene, cast, occluded

FIELD_OF_VIEW = 50.0  # degrees, both ways: somewhat wider than the ToF sensor's 45
_NEAR = 0.02


@dataclass(frozen=True)
class Pose:
    """Position [m] and the angles [rad] about the vertical, up and sideways."""

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float

    def axes(self) -> tuple[Float, Float, Float]:
        """World vectors of forward, right and down, each of length 1."""
        cy, sy, cp, sp = np.cos(self.yaw), np.sin(self.yaw), np.cos(self.pitch), np.sin(self.pitch)
        forward = np.array([cy * cp, sy * cp, sp], np.float32)
        level = np.array([sy, -cy, 0], np.float32)
        down = np.cross(forward, level)
        cr, sr = np.float32(np.cos(self.roll)), np.float32(np.sin(self.roll))
        return forward, cr * level + sr * down, cr * down - sr * level


def focal_length(size: int) -> float:
    """Focal length in pixels of an image `size` pixels wide."""
    return size / 2 / float(np.tan(np.radians(FIELD_OF_VIEW / 2)))


def rays(pose: Pose, size: int) -> Float:
    """Directions (size, size, 3) through the pixel centres; their part along the camera's axis is 1, so
    distance = z-depth.
    """
    forward, right, down = pose.axes()
    steps = ((np.arange(size) + 0.5 - size / 2) / focal_length(size)).astype(np.float32)
    directions: Float = forward + steps[None, :, None] * right + steps[:, None, None] * down
    return directions


def _windows(scene: Scene, pose: Pose, size: int) -> list[tuple[int, slice, slice]]:
    """For every box in view, the rectangle of pixels that its corners span, nearest boxes first."""
    forward, right, down = pose.axes()
    corners = scene.corners - np.array(pose.position, np.float32)
    depth = corners @ forward
    scale = focal_length(size) / np.maximum(depth, _NEAR)
    u, v = size / 2 + (corners @ right) * scale, size / 2 + (corners @ down) * scale
    crosses = depth.min(1) < _NEAR  # the projection of a box that reaches behind the camera says nothing
    left = np.where(crosses, 0, np.clip(np.floor(u.min(1)), 0, size)).astype(int)
    top = np.where(crosses, 0, np.clip(np.floor(v.min(1)), 0, size)).astype(int)
    stop = np.where(crosses, size, np.clip(np.ceil(u.max(1)) + 1, 0, size)).astype(int)
    bottom = np.where(crosses, size, np.clip(np.ceil(v.max(1)) + 1, 0, size)).astype(int)
    seen = (depth.max(1) > _NEAR) & (stop > left) & (bottom > top)
    seen[0] = False  # the shell is cast first
    order = np.flatnonzero(seen)
    order = order[np.argsort(depth[order].min(1), kind="stable")]
    return [(int(k), slice(top[k], bottom[k]), slice(left[k], stop[k])) for k in order]


def look(scene: Scene, pose: Pose, size: int) -> Hits:
    """What each of the size x size pixels of the camera at `pose` sees."""
    return cast(scene, np.array(pose.position, np.float32), rays(pose, size), _windows(scene, pose, size))


def paint(scene: Scene, pose: Pose, hits: Hits) -> Float:
    """Colours (size, size, 3), about 0..1: pattern, lamp or sun with shadow, dark corners, haze."""
    size = len(hits.distance)
    lighting = scene.lighting
    origin, directions = np.array(pose.position, np.float32), rays(pose, size)
    points = origin + hits.distance[..., None] * directions
    normals = _normals(scene, hits)
    if lighting.distant:
        to_lamp = np.broadcast_to(np.array(lighting.position, np.float32), points.shape)
        reach = 60.0
    else:
        to_lamp = np.array(lighting.position, np.float32) - points
        reach = 1.0
    length = np.sqrt((to_lamp**2).sum(-1))
    cosine = np.maximum((normals * to_lamp).sum(-1) / length, 0)
    if not lighting.distant:
        cosine = cosine * 1.6 / (1 + (length / (0.35 * np.max(scene.half[0]) + 0.5)) ** 2) + 0.1
    cosine = cosine * _sunlit(scene, points, normals, to_lamp * reach)
    height = points[..., 2] - (scene.centre[0, 2] - scene.half[0, 2])
    inside = (hits.box > 0) | (hits.face != FLOOR_FACE)
    contact = np.where(inside, 1 - 0.35 * np.exp(-height / 0.25), 1.0)
    light = np.array(lighting.ambient, np.float32) + cosine[..., None] * np.array(lighting.colour, np.float32)
    glow = scene.glow[hits.box, hits.face][..., None]
    colour = _albedo(scene, hits, focal_length(size)) * (light * contact[..., None] * (1 - glow) + glow)
    haze = np.exp(-lighting.haze * hits.distance)[..., None]
    sky = np.array(lighting.sky, np.float32) * (1 - 0.35 * np.clip(directions[..., 2:], -0.2, 1))
    is_sky = (scene.classes[hits.box, hits.face] == CLASS["sky"])[..., None]
    return np.where(is_sky, sky, colour * haze + sky * (1 - haze)).astype(np.float32)


def _normals(scene: Scene, hits: Hits) -> Float:
    """Unit normals towards the viewer, (h, w, 3)."""
    axis = hits.face // 2
    sign = np.where((hits.face % 2 == 1) ^ (hits.box == 0), 1, -1).astype(np.float32)
    cos, sin = scene.cos[hits.box], scene.sin[hits.box]
    x = np.where(axis == 0, cos, np.where(axis == 1, -sin, 0))
    y = np.where(axis == 0, sin, np.where(axis == 1, cos, 0))
    return np.stack([x * sign, y * sign, (axis == 2) * sign], -1).astype(np.float32)


def _sunlit(scene: Scene, points: Float, normals: Float, to_lamp: Float) -> Float:
    """0.15 in the shade, 1 in the light; found for every second pixel, which is half the cost of the image
    otherwise.
    """
    coarse = (points + 0.02 * normals)[::2, ::2]
    targets = coarse + to_lamp[::2, ::2]
    shade = occluded(scene, coarse.reshape(-1, 3), targets.reshape(-1, 3)).reshape(coarse.shape[:2])
    full = np.repeat(np.repeat(np.where(shade, np.float32(0.15), np.float32(1)), 2, 0), 2, 1)
    return full[: len(points), : len(points)]


def _albedo(scene: Scene, hits: Hits, focal: float) -> Float:
    """The colour of the material at each hit, from the level of the pattern that matches a pixel's
    footprint.
    """
    axis, size = hits.face // 2, scene.size[hits.box, hits.face]
    u = np.where(axis == 0, hits.local[..., 1], hits.local[..., 0]) + 0.37 * hits.box
    v = np.where(axis == 2, hits.local[..., 1], -hits.local[..., 2])
    texels = textures.SIDE / size
    level = np.log2(np.maximum(hits.distance / focal * texels, 1)) + 0.5
    value = textures.bank()[
        scene.pattern[hits.box, hits.face],
        np.minimum(level, textures.LEVELS - 1).astype(np.intp),
        np.floor(v * texels).astype(np.intp) % textures.SIDE,
        np.floor(u * texels).astype(np.intp) % textures.SIDE,
    ][..., None]
    dark, light = scene.dark[hits.box, hits.face], scene.light[hits.box, hits.face]
    colour: Float = dark + (light - dark) * value
    return colour


def expose(colours: Float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the sensor delivers: automatic exposure, vignette, noise, 8 bits."""
    gain = (0.42 / max(float(colours.mean()), 0.05)) ** 0.7
    steps = np.linspace(-1, 1, len(colours), dtype=np.float32) ** 2
    vignette = 1 - 0.12 * (steps[:, None] + steps[None, :])[..., None]
    image = colours * np.float32(gain) * vignette
    image = image + rng.standard_normal(image.shape, np.float32) * np.float32(0.012)
    pixels: NDArray[np.uint8] = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels
