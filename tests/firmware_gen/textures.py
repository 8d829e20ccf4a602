"""Images of six textures from two cameras: a task to learn from one and to adapt to the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 32
CLASSES = 6


@dataclass(frozen=True)
class Samples:
    """Images (n, SIDE, SIDE, 3) of pixels 0..255 and their classes (n,)."""

    images: NDArray[np.uint8]
    classes: NDArray[np.int64]


def draw(count: int, seed: int, *, second_camera: bool) -> Samples:
    """Return textures in random colours, sizes, positions and angles.

    The second camera has a colour cast, little contrast, a dark corner and its picture lies on its side.
    """
    random = np.random.default_rng(seed)
    classes = random.integers(0, CLASSES, count)
    images = np.stack([_texture(int(kind), random) for kind in classes])
    if second_camera:
        rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
        light = 1 - 0.6 * rows * columns
        cast = np.array([0.5, 0.75, 0.4])
        images = (0.1 + images[:, ::-1, :, ::-1] * cast) * light[..., None]
    images = images + random.normal(0, 0.03, images.shape)
    return Samples((255 * images.clip(0, 1)).astype(np.uint8), classes)


def _texture(kind: int, random: np.random.Generator) -> NDArray[np.float64]:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    angle = random.normal(0, 0.2) + (np.pi / 2 if kind == 1 else np.pi / 4 if kind == 2 else 0)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    across = np.cos(angle) * rows - np.sin(angle) * columns
    waves, phase, shift = random.uniform(3, 6), *random.uniform(0, 2 * np.pi, 2)
    first, second = np.sin(2 * np.pi * waves * along + phase), np.sin(2 * np.pi * waves * across + shift)
    if kind < 3:  # stripes: upright, level, slanted
        height = first
    elif kind == 3:  # squares
        height = np.sign(first) * np.sign(second)
    elif kind == 4:  # dots
        height = 2 * ((first + second) > 0.9) - 1.0
    else:  # rings
        y, x = random.uniform(0.2, 0.8, 2)
        height = np.sin(2 * np.pi * waves * np.hypot(rows - y, columns - x) + phase)
    dark, bright = random.uniform(0, 0.45, 3), random.uniform(0.55, 1, 3)
    share = (height[..., None] + 1) / 2
    return dark + share * (bright - dark)
