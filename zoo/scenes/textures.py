"""Procedural surface patterns: tileable grey textures with a pyramid against aliasing."""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

SIDE = 64  # texels along each side of a tile
LEVELS = 7  # 64 texels down to one


def _noise(rng: np.random.Generator, cells: int) -> Float:
    """Tileable smooth noise in [0, 1]: three octaves of blurred random grids."""
    total = np.zeros((SIDE, SIDE))
    for octave in range(3):
        count = min(cells << octave, SIDE)
        grid = np.repeat(np.repeat(rng.random((count, count)), SIDE // count, 0), SIDE // count, 1)
        width = SIDE // count
        for axis in (0, 1):
            grid = np.mean([np.roll(grid, shift, axis) for shift in range(width)], 0)
        total += grid / 2**octave
    total -= total.min()
    return np.asarray(total / total.max(), np.float32)


def _grid(rng: np.random.Generator, columns: int, rows: int, joint: int, stagger: bool) -> Float:
    """Bricks, planks or tiles: cells of slightly different shade between dark joints."""
    y, x = np.mgrid[:SIDE, :SIDE]
    height, width = SIDE // rows, SIDE // columns
    row = y // height
    x = (x + (row % 2) * (width // 2 if stagger else 0)) % SIDE
    shade = (0.55 + 0.45 * rng.random((rows, columns)))[row, x // width]
    seam = (x % width < joint) | (y % height < joint)
    return np.where(seam, 0.0, shade).astype(np.float32)


def _facade(rng: np.random.Generator) -> Float:
    """Two by two windows in a wall; the panes differ in brightness."""
    tile = 0.25 * _noise(rng, 8)
    for row in range(2):
        for column in range(2):
            top, left = 32 * row + 7, 32 * column + 9
            tile[top : top + 17, left : left + 14] = 0.75 + 0.25 * rng.random()
            tile[top + 8, left : left + 14] = 0.4
    return tile


def _books(rng: np.random.Generator) -> Float:
    """Four shelves of upright spines."""
    tile = np.zeros((SIDE, SIDE), np.float32)
    for shelf in range(4):
        column = 0
        while column < SIDE:
            width = int(rng.integers(2, 6))
            height = int(rng.integers(9, 14))
            tile[16 * shelf + 2 : 16 * shelf + 2 + height, column : column + width] = 0.3 + 0.7 * rng.random()
            column += width
    return tile


def _stripes(rng: np.random.Generator) -> Float:
    column = 0.5 + 0.5 * np.sin(np.arange(SIDE) * (2 * np.pi * 8 / SIDE))
    return np.asarray(column[None, :] * 0.8 + 0.2 * _noise(rng, 8), np.float32)


def _checker(rng: np.random.Generator) -> Float:
    y, x = np.mgrid[:SIDE, :SIDE] // 16
    return np.asarray(((x + y) % 2) * 0.8 + 0.2 * _noise(rng, 8), np.float32)


_PATTERNS: dict[str, Callable[[np.random.Generator], Float]] = {
    "plain": lambda rng: 0.5 + 0.15 * (_noise(rng, 4) - 0.5),
    "clouds": lambda rng: _noise(rng, 2),
    "grain": lambda rng: _noise(rng, 16),
    "speckle": lambda rng: rng.random((SIDE, SIDE)).astype(np.float32),
    "bricks": lambda rng: _grid(rng, columns=4, rows=8, joint=1, stagger=True),
    "planks": lambda rng: _grid(rng, columns=1, rows=8, joint=1, stagger=False),
    "tiles": lambda rng: _grid(rng, columns=2, rows=2, joint=2, stagger=False),
    "panels": lambda rng: _grid(rng, columns=2, rows=1, joint=3, stagger=False),
    "facade": _facade,
    "books": _books,
    "stripes": _stripes,
    "checker": _checker,
}
NAMES = tuple(_PATTERNS)


@functools.cache
def bank() -> Float:
    """Return every pattern at every level, float32 (pattern, level, SIDE, SIDE) in [0, 1].

    Level k averages blocks of 2**k texels; all levels keep the full size so that one index reaches any of
    them.
    """
    rng = np.random.default_rng(20)
    pyramid = np.empty((len(NAMES), LEVELS, SIDE, SIDE), np.float32)
    for index, make in enumerate(_PATTERNS.values()):
        tile = make(rng)
        for level in range(LEVELS):
            size = 1 << level
            blocks = tile.reshape(SIDE // size, size, SIDE // size, size).mean((1, 3))
            pyramid[index, level] = np.repeat(np.repeat(blocks, size, 0), size, 1)
    return pyramid
