"""Furnished interiors: the target domain, lived-in rooms of some 4 x 5 m in warm colours, almost all of them
within 4 m; and lofts, their larger and more colourful kin among the source domains.
"""

from dataclasses import dataclass

import numpy as np

from zoo.scenes.builder import Builder, Local, Path, material, random_phase, shell, solid
from zoo.scenes.geometry import Box, Lighting, Scene

Colours = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Palette:
    """What the paints, woods and fabrics of an interior are picked from."""

    paints: Colours
    woods: Colours
    fabrics: Colours

    def paint(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """The colour of a wall."""
        return _pick(rng, self.paints)

    def wood(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """The colour of furniture."""
        return _pick(rng, self.woods)

    def fabric(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """The colour of cushions, curtains and rugs."""
        return _pick(rng, self.fabrics)


_HOME = Palette(
    paints=(
        (0.86, 0.80, 0.66),
        (0.72, 0.80, 0.70),
        (0.82, 0.68, 0.60),
        (0.70, 0.76, 0.84),
        (0.88, 0.85, 0.78),
    ),
    woods=((0.62, 0.42, 0.26), (0.45, 0.29, 0.18), (0.76, 0.60, 0.40), (0.85, 0.82, 0.78)),
    fabrics=(
        (0.55, 0.20, 0.22),
        (0.22, 0.34, 0.52),
        (0.30, 0.42, 0.28),
        (0.66, 0.58, 0.46),
        (0.36, 0.34, 0.38),
    ),
)


def room(rng: np.random.Generator) -> tuple[Scene, Path]:
    """A furnished room and a path of head-high loops through it."""
    return _interior(rng, _HOME)


def loft(rng: np.random.Generator) -> tuple[Scene, Path]:
    """A furnished interior half as large again as a room, in any colours: it teaches what furniture is."""
    scene, path = _interior(rng, Palette(*(_any_colours(rng) for _ in range(3))))
    factor = float(rng.uniform(1.4, 1.65))
    return scene.scaled(factor), path.scaled(factor)


def _any_colours(rng: np.random.Generator) -> Colours:
    return tuple((float(r), float(g), float(b)) for r, g, b in rng.uniform(0.12, 0.95, (5, 3)))


def _interior(rng: np.random.Generator, palette: Palette) -> tuple[Scene, Path]:
    half = (float(rng.uniform(1.9, 2.5)), float(rng.uniform(2.2, 3.0)), float(rng.uniform(1.2, 1.35)))
    reach = (half[0] - 1.1, half[1] - 1.1, 0.06)
    height = float(rng.uniform(0.92, 1.02))
    path = Path((0, 0, height), reach, lap=41, turn=27, sway=0.7, pitch=-0.3, phase=random_phase(rng))
    paint = palette.paint(rng)
    walls = [material(rng, ("plain", "clouds", "grain"), (1.5, 3), paint, 0.03, 0.12) for _ in range(4)]
    accent = int(rng.integers(4))
    walls[accent] = material(rng, ("stripes", "bricks", "plain"), (0.8, 1.5), palette.paint(rng), 0.05, 0.25)
    floor = material(rng, ("planks", "planks", "tiles"), (0.8, 1.2), palette.wood(rng), 0.04, 0.35)
    ceiling = material(rng, ("plain",), (2, 3), (0.92, 0.90, 0.86), 0.02, 0.06)
    builder = Builder(rng, shell(half, floor, walls, ceiling, "wall", "ceiling"), path, clearance=0.32)
    for side in range(4):
        _furnish(builder, half, side, palette)
    _middle(builder, half, palette)
    lamp = solid(
        (0, 0, 2 * half[2] - 0.1),
        (0.22, 0.22, 0.06),
        0.3,
        material(rng, ("plain",), (1, 2), (1, 0.95, 0.8), glow=1.0),
        "decoration",
    )
    builder.thing([lamp], overlap=True)
    warm = float(rng.uniform(0.75, 0.95))
    position = (float(rng.normal(0, 0.3)), float(rng.normal(0, 0.3)), 2 * half[2] - 0.3)
    lighting = Lighting(
        position, False, (0.85, 0.85 * (warm + 1) / 2, 0.85 * warm), (0.30, 0.29, 0.30), (0.5, 0.5, 0.5), 0.0
    )
    return builder.scene(lighting), path


def _pick(
    rng: np.random.Generator, colours: tuple[tuple[float, float, float], ...]
) -> tuple[float, float, float]:
    return colours[int(rng.integers(len(colours)))]


def _wall(half: tuple[float, float, float], side: int) -> tuple[float, float, float, float]:
    """Middle of a wall, the heading of its left-to-right axis as seen from inside, and half its length."""
    return ((0, half[1], 0.0, half[0]), (half[0], 0, -np.pi / 2, half[1]),
            (0, -half[1], np.pi, half[0]), (-half[0], 0, np.pi / 2, half[1]))[side]  # fmt: skip


def _furnish(builder: Builder, half: tuple[float, float, float], side: int, palette: Palette) -> None:
    """Set pieces along a wall from left to right, and hang something above the low ones."""
    rng = builder.rng
    x, y, yaw, length = _wall(half, side)
    at = -length + builder.between(0.05, 0.3)
    while at < length - 0.5:
        make = (_bookcase, _cabinet, _sofa, _desk, _door, _plant, _shelf)[int(rng.integers(7))]
        axes = Local(x + at * np.cos(yaw), y + at * np.sin(yaw), yaw)
        parts, width = make(rng, axes, palette)
        if at + width < length - 0.05:
            low = max(part.centre[2] + part.half[2] for part in parts) < 1.2
            if builder.thing(parts) and low:
                builder.thing(_picture(rng, axes, palette, width), overlap=True)
        at += width + builder.between(0.05, 0.6)


def _middle(builder: Builder, half: tuple[float, float, float], palette: Palette) -> None:
    """A rug and perhaps a low table, wherever the path leaves room."""
    rng = builder.rng
    yaw = builder.between(-0.3, 0.3)
    rug = material(rng, ("checker", "stripes", "grain"), (0.4, 1.0), palette.fabric(rng), 0.06, 0.5)
    builder.thing(
        [solid((0, 0, 0.006), (half[0] * 0.45, half[1] * 0.4, 0.006), yaw, rug, "decoration")], overlap=True
    )
    axes = Local(builder.between(-0.4, 0.4), builder.between(-0.5, 0.5), yaw + builder.between(-0.4, 0.4))
    builder.thing(_table(rng, axes, palette, (0.45, 0.3), builder.between(0.38, 0.5)))


Piece = tuple[list[Box], float]


def _bookcase(rng: np.random.Generator, axes: Local, palette: Palette) -> Piece:
    width, depth, height = rng.uniform(0.7, 1.3), rng.uniform(0.28, 0.4), rng.uniform(1.5, 2.1)
    wood = material(rng, ("planks", "plain"), (0.6, 1), palette.wood(rng), 0.05, 0.3)
    books = material(rng, ("books",), (1.1, 1.5), (0.8, 0.62, 0.5), 0.12, 0.75)
    frame = axes.box((0, width), (-depth, 0), (0, height), wood, "furniture")
    front = axes.box((0.04, width - 0.04), (-depth - 0.01, -depth), (0.08, height - 0.05), books, "furniture")
    return [frame, front], width


def _cabinet(rng: np.random.Generator, axes: Local, palette: Palette) -> Piece:
    width, depth, height = rng.uniform(0.6, 1.4), rng.uniform(0.35, 0.5), rng.uniform(0.5, 1.1)
    wood = material(rng, ("panels", "planks"), (0.5, 0.9), palette.wood(rng), 0.06, 0.35)
    parts = [axes.box((0, width), (-depth, 0), (0, height), wood, "furniture")]
    thing = material(rng, ("plain", "stripes"), (0.2, 0.4), (0.3, 0.5, 0.5), 0.2, 0.4)
    left = rng.uniform(0.05, width - 0.3)
    parts.append(
        axes.box(
            (left, left + 0.2),
            (-depth + 0.08, -0.1),
            (height, height + rng.uniform(0.15, 0.4)),
            thing,
            "decoration",
        )
    )
    return parts, width


def _sofa(rng: np.random.Generator, axes: Local, palette: Palette) -> Piece:
    width, depth = rng.uniform(1.3, 2.0), rng.uniform(0.75, 0.9)
    cloth = material(rng, ("grain", "plain", "stripes"), (0.4, 0.8), palette.fabric(rng), 0.06, 0.35)
    cushion = material(rng, ("grain", "checker"), (0.3, 0.5), palette.fabric(rng), 0.1, 0.4)
    parts = [
        axes.box((0, width), (-depth, 0), (0.08, 0.42), cloth, "furniture"),
        axes.box((0, width), (-0.25, 0), (0.42, 0.82), cloth, "furniture"),
        axes.box((0, 0.2), (-depth, -0.25), (0.42, 0.6), cloth, "furniture"),
        axes.box((width - 0.2, width), (-depth, -0.25), (0.42, 0.6), cloth, "furniture"),
        axes.box((0.3, 0.7), (-0.42, -0.26), (0.43, 0.75), cushion, "furniture"),
    ]
    return parts, width


def _desk(rng: np.random.Generator, axes: Local, palette: Palette) -> Piece:
    width, depth = rng.uniform(1.0, 1.5), rng.uniform(0.55, 0.7)
    dark = material(rng, ("plain",), (1, 2), (0.12, 0.12, 0.14), 0.03, 0.3)
    parts = _table(rng, Local(axes.x + np.cos(axes.yaw) * width / 2 + np.sin(axes.yaw) * depth / 2,
                              axes.y + np.sin(axes.yaw) * width / 2 - np.cos(axes.yaw) * depth / 2, axes.yaw),
                   palette, (width / 2, depth / 2), 0.74)  # fmt: skip
    middle = width / 2
    parts.append(axes.box((middle - 0.28, middle + 0.28), (-0.22, -0.18), (0.84, 1.18), dark, "decoration"))
    parts.append(
        axes.box(
            (middle - 0.22, middle + 0.22), (-depth - 0.3, -depth + 0.1), (0.42, 0.48), dark, "furniture"
        )
    )
    parts.append(
        axes.box(
            (middle - 0.2, middle + 0.2), (-depth - 0.34, -depth - 0.29), (0.48, 0.95), dark, "furniture"
        )
    )
    parts.append(
        axes.box((middle - 0.03, middle + 0.03), (-depth - 0.13, -depth - 0.07), (0, 0.42), dark, "furniture")
    )
    return parts, width


def _table(
    rng: np.random.Generator, axes: Local, palette: Palette, half: tuple[float, float], height: float
) -> list[Box]:
    wood = material(rng, ("planks", "plain"), (0.5, 0.9), palette.wood(rng), 0.06, 0.3)
    parts = [axes.box((-half[0], half[0]), (-half[1], half[1]), (height - 0.04, height), wood, "furniture")]
    for x in (-half[0], half[0] - 0.05):
        for y in (-half[1], half[1] - 0.05):
            parts.append(axes.box((x, x + 0.05), (y, y + 0.05), (0, height - 0.04), wood, "furniture"))
    return parts


def _door(rng: np.random.Generator, axes: Local, palette: Palette) -> Piece:
    wood = material(rng, ("panels",), (0.9, 1.0), palette.wood(rng), 0.05, 0.3)
    trim = material(rng, ("plain",), (1, 2), (0.9, 0.9, 0.88), 0.03, 0.1)
    frame = axes.box((0, 1.0), (-0.03, 0), (0, 2.1), trim, "opening")
    return [frame, axes.box((0.06, 0.94), (-0.05, -0.02), (0.01, 2.04), wood, "opening")], 1.0


def _plant(rng: np.random.Generator, axes: Local, palette: Palette) -> Piece:
    pot = material(rng, ("plain",), (0.5, 1), (0.65, 0.35, 0.25), 0.08, 0.2)
    leaf = material(rng, ("speckle", "grain"), (0.3, 0.6), (0.25, 0.48, 0.2), 0.06, 0.7)
    top = rng.uniform(0.8, 1.5)
    turned = Local(axes.x, axes.y, axes.yaw)
    return [
        turned.box((0.12, 0.42), (-0.4, -0.1), (0, 0.32), pot, "vegetation"),
        turned.box((0.05, 0.5), (-0.48, -0.05), (0.4, top), leaf, "vegetation"),
        turned.box((0.15, 0.4), (-0.38, -0.12), (top, top + 0.22), leaf, "vegetation"),
    ], 0.55


def _shelf(rng: np.random.Generator, axes: Local, palette: Palette) -> Piece:
    """Open boards with things on them."""
    width, wood = rng.uniform(0.8, 1.2), material(rng, ("planks",), (0.5, 0.8), palette.wood(rng), 0.06, 0.3)
    parts = [axes.box((x, x + 0.04), (-0.35, 0), (0, 1.6), wood, "furniture") for x in (0, width - 0.04)]
    for height in (0.1, 0.6, 1.1, 1.58):
        parts.append(axes.box((0.04, width - 0.04), (-0.35, 0), (height - 0.03, height), wood, "furniture"))
        thing = material(rng, ("plain", "books", "stripes"), (0.4, 0.6), palette.fabric(rng), 0.15, 0.4)
        left = rng.uniform(0.08, width - 0.5)
        parts.append(
            axes.box(
                (left, left + 0.38),
                (-0.3, -0.05),
                (height, height + rng.uniform(0.15, 0.35)),
                thing,
                "decoration",
            )
        )
    return parts, width


def _picture(rng: np.random.Generator, axes: Local, palette: Palette, width: float) -> list[Box]:
    """A picture or a bright window above a low piece."""
    if rng.random() < 0.4:
        pane = material(rng, ("panels", "facade"), (0.9, 1.2), (0.85, 0.93, 1.0), 0.03, 0.3, glow=0.8)
        return [axes.box((0.1, min(width, 1.2)), (-0.03, 0), (1.25, 2.1), pane, "opening")]
    art = material(rng, ("clouds", "checker", "stripes"), (0.3, 0.8), palette.fabric(rng), 0.2, 0.7)
    wide = rng.uniform(0.3, 0.8)
    return [axes.box((0.1, 0.1 + wide), (-0.03, 0), (1.35, 1.35 + rng.uniform(0.35, 0.6)), art, "decoration")]
