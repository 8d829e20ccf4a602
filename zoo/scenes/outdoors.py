"""The source domains: streets, halls and corridors, five to ten times the scale of a room, in the colours of
stone and sky.
"""

import numpy as np

from zoo.scenes.builder import Builder, Local, Path, material, random_phase, shell, solid
from zoo.scenes.geometry import Box, Lighting, Scene

_STONE = ((0.62, 0.60, 0.57), (0.50, 0.52, 0.55), (0.70, 0.66, 0.60), (0.42, 0.42, 0.44))
_PLASTER = (
    (0.78, 0.72, 0.62),
    (0.62, 0.42, 0.34),
    (0.72, 0.72, 0.74),
    (0.58, 0.60, 0.52),
    (0.50, 0.36, 0.30),
)
_PAINT = (
    (0.70, 0.15, 0.12),
    (0.15, 0.25, 0.50),
    (0.85, 0.85, 0.86),
    (0.12, 0.13, 0.14),
    (0.80, 0.62, 0.15),
    (0.2, 0.42, 0.3),
)


def _pick(
    rng: np.random.Generator, colours: tuple[tuple[float, float, float], ...]
) -> tuple[float, float, float]:
    return colours[int(rng.integers(len(colours)))]


def street(rng: np.random.Generator) -> tuple[Scene, Path]:
    """A street between houses, with parked cars and trees, seen from eye level or from a low flight."""
    half_width = float(rng.uniform(7, 12))
    height = float(rng.uniform(4.6, 5.4))
    reach = (float(rng.uniform(8, 22)), 0.5 * half_width, 0.1 * height)
    turn = float(rng.choice([-1, 1]) * rng.uniform(20, 60))
    pitch = float(rng.uniform(-0.35, -0.25))
    path = Path((0, 0, height), reach, float(rng.uniform(40, 90)), turn, 0.8, pitch, random_phase(rng))
    asphalt = material(rng, ("speckle", "grain", "tiles"), (1, 4), _pick(rng, _STONE), 0.08, 0.3)
    sky = material(rng, ("plain",), (10, 20), (0.6, 0.7, 0.9))
    ground = shell((120, 120, 60), asphalt, [sky] * 4, sky, "sky", "sky")
    builder = Builder(rng, ground, path, clearance=1.2)
    for side in (-1, 1):
        _houses(builder, side, half_width)
        _kerb(builder, side, half_width)
    azimuth, haze = rng.uniform(0, 2 * np.pi), float(rng.uniform(0.001, 0.012))
    sun = (float(np.cos(azimuth) * 0.6), float(np.sin(azimuth) * 0.6), float(rng.uniform(0.5, 0.9)))
    strength = float(rng.uniform(0.2, 0.9))
    blue = float(rng.uniform(0.85, 1.0))
    lighting = Lighting(
        sun,
        True,
        (strength, strength * 0.96, strength * 0.88),
        (0.42, 0.44, 0.48),
        (0.75 * blue, 0.83 * blue, 0.95),
        haze,
    )
    return builder.scene(lighting), path


def _houses(builder: Builder, side: int, half_width: float) -> None:
    """Terraces and gaps along one side, a second row behind, and a house across each end."""
    rng = builder.rng
    along = -60.0
    while along < 60:
        length, depth, height = rng.uniform(6, 16), rng.uniform(6, 12), rng.uniform(4, 16)
        setback = rng.uniform(0, 2.5)
        wall = material(
            rng, ("facade", "facade", "bricks", "panels"), (3, 7), _pick(rng, _PLASTER), 0.08, 0.5
        )
        roof = material(rng, ("tiles", "planks"), (1, 3), (0.45, 0.28, 0.22), 0.08, 0.3)
        y = side * (half_width + setback + depth / 2)
        house = solid(
            (along + length / 2, y, height / 2),
            (length / 2, depth / 2, height / 2),
            0,
            wall,
            "building",
            roof,
        )
        builder.thing([house])
        along += length + (rng.uniform(2, 9) if rng.random() < 0.4 else 0.0)
    end = material(rng, ("facade", "bricks"), (3, 7), _pick(rng, _PLASTER), 0.08, 0.5)
    builder.thing(
        [solid((side * rng.uniform(45, 70), 0, 6), (4, 2 * half_width, 6), 0, end, "building")], overlap=True
    )


def _kerb(builder: Builder, side: int, half_width: float) -> None:
    """A pavement with trees and poles, and a row of parked cars."""
    rng = builder.rng
    pave = material(rng, ("tiles", "bricks"), (0.8, 2), _pick(rng, _STONE), 0.08, 0.3)
    inner = half_width - rng.uniform(1.5, 3)
    middle, half = side * (half_width + inner) / 2, (half_width - inner) / 2
    builder.boxes.append(solid((0, middle, 0.07), (60, half, 0.07), 0, pave, "floor"))
    for along in np.arange(-40, 40, 6.0):
        kind = rng.random()
        x = float(along + rng.uniform(-1.5, 1.5))
        if kind < 0.45:
            axes = Local(x, side * (inner - 1.1), 0.04 * rng.normal() + (np.pi if rng.random() < 0.5 else 0))
            builder.thing(_car(rng, axes))
        elif kind < 0.7:
            builder.thing(_tree(rng, x, side * (inner + 0.6)))
        elif kind < 0.85:
            steel = material(rng, ("plain",), (1, 2), (0.35, 0.37, 0.38))
            builder.thing([solid((x, side * (inner + 0.4), 2.5), (0.09, 0.09, 2.5), 0, steel, "structure")])


def _car(rng: np.random.Generator, axes: Local) -> list[Box]:
    paint = material(rng, ("plain",), (2, 4), _pick(rng, _PAINT), 0.05, 0.15)
    glass = material(rng, ("plain", "panels"), (1, 2), (0.16, 0.19, 0.23), 0.03, 0.3)
    rubber = material(rng, ("plain",), (1, 2), (0.07, 0.07, 0.07), 0.01, 0.2)
    length, tall = rng.uniform(1.9, 2.4), rng.uniform(1.35, 1.9)
    parts = [
        axes.box((-length, length), (-0.85, 0.85), (0.3, 0.85), paint, "vehicle"),
        axes.box((-0.75 * length, 0.4 * length), (-0.75, 0.75), (0.85, tall), glass, "vehicle", top=paint),
    ]
    for x in (-0.65 * length, 0.65 * length):
        parts.append(axes.box((x - 0.3, x + 0.3), (-0.88, 0.88), (0, 0.6), rubber, "vehicle"))
    return parts


def _tree(rng: np.random.Generator, x: float, y: float) -> list[Box]:
    bark = material(rng, ("stripes", "grain"), (0.5, 1), (0.35, 0.27, 0.2), 0.04, 0.4)
    leaf = material(rng, ("speckle", "grain"), (1, 3), (0.3, 0.45, 0.2), 0.07, 0.7)
    trunk, crown = rng.uniform(1.6, 3), rng.uniform(1, 2.2)
    return [
        solid((x, y, trunk / 2), (0.18, 0.18, trunk / 2), rng.uniform(0, 1), bark, "vegetation"),
        solid(
            (x, y, trunk + 0.7 * crown), (crown, crown, 0.8 * crown), rng.uniform(0, 1), leaf, "vegetation"
        ),
        solid(
            (x, y, trunk + 1.5 * crown),
            (0.6 * crown, 0.6 * crown, 0.7 * crown),
            rng.uniform(0, 1),
            leaf,
            "vegetation",
        ),
    ]


def hall(rng: np.random.Generator) -> tuple[Scene, Path]:
    """A factory or station hall with columns, racks, crates and containers, seen from a low flight."""
    half = (float(rng.uniform(5.5, 10)), float(rng.uniform(7, 15)), float(rng.uniform(3.8, 5.5)))
    height = float(rng.uniform(2.9, 3.4))
    share = float(rng.uniform(0.4, 0.7))
    reach = (half[0] * share, half[1] * share, 0.1 * height)
    turn = float(rng.choice([-1, 1]) * rng.uniform(20, 50))
    path = Path(
        (0, 0, height),
        reach,
        float(rng.uniform(35, 80)),
        turn,
        0.8,
        float(rng.uniform(-0.35, -0.25)),
        random_phase(rng),
    )
    walls = [
        material(
            rng,
            ("bricks", "panels", "plain", "facade", "clouds", "stripes"),
            (2, 8),
            _pick(rng, _STONE),
            0.1,
            0.35,
        )
        for _ in range(4)
    ]
    floor = material(
        rng,
        ("clouds", "tiles", "speckle", "panels", "checker", "plain"),
        (2, 6),
        _pick(rng, _STONE),
        0.1,
        0.3,
    )
    roof = material(rng, ("panels", "stripes", "plain"), (2, 6), (0.55, 0.57, 0.6), 0.12, 0.3)
    builder = Builder(rng, shell(half, floor, walls, roof, "wall", "ceiling"), path, clearance=1.0)
    _columns(builder, half)
    for _ in range(int(rng.integers(10, 45))):
        x, y = rng.uniform(-half[0], half[0]), rng.uniform(-half[1], half[1])
        chance = rng.random()  # most things stand along a wall
        if chance < 0.45:
            x = np.sign(x) * (half[0] - rng.uniform(0.8, 2.0))
        elif chance < 0.8:
            y = np.sign(y) * (half[1] - rng.uniform(0.8, 2.0))
        _cargo(builder, float(x), float(y), half)
    _gates(builder, half)
    lamp = (
        float(rng.uniform(-0.4, 0.4) * half[0]),
        float(rng.uniform(-0.4, 0.4) * half[1]),
        2 * half[2] - 0.5,
    )
    tint = float(rng.uniform(0.85, 1.1))
    ambient = float(rng.uniform(0.25, 0.5))
    lighting = Lighting(
        lamp,
        False,
        (0.8, 0.82, min(0.82 * tint, 1)),
        (ambient,) * 3,
        (0.6, 0.63, 0.66),
        float(rng.uniform(0, 0.006)),
    )
    return builder.scene(lighting), path


def _columns(builder: Builder, half: tuple[float, float, float]) -> None:
    rng = builder.rng
    if rng.random() < 0.4:
        return
    surface = material(rng, ("plain", "grain", "stripes"), (1, 3), _pick(rng, _STONE), 0.1, 0.25)
    thick, pitch = rng.uniform(0.2, 0.5), rng.uniform(4, 8)
    for x in (-half[0] / 2, half[0] / 2):
        for y in np.arange(-half[1] + pitch / 2, half[1], pitch):
            builder.thing([solid((x, float(y), half[2]), (thick, thick, half[2]), 0, surface, "structure")])


def _cargo(builder: Builder, x: float, y: float, half: tuple[float, float, float]) -> None:
    """A container, a pile of crates, a rack or a machine."""
    rng = builder.rng
    axes = Local(x, y, float(rng.choice([0, np.pi / 2])) + 0.15 * float(rng.normal()))
    paint = material(rng, ("stripes", "panels", "plain", "planks"), (0.8, 3), _pick(rng, _PAINT), 0.1, 0.35)
    wood = material(rng, ("planks", "bricks"), (0.8, 2), (0.62, 0.48, 0.32), 0.08, 0.4)
    kind, tall = rng.random(), float(rng.uniform(0.8, 1.5 * half[2]))
    if kind < 0.3:
        length, wide = rng.uniform(1.5, 4), rng.uniform(0.8, 1.3)
        parts = [axes.box((-length, length), (-wide, wide), (0, min(tall, 3.2)), paint, "cargo")]
    elif kind < 0.6:
        side, lift = rng.uniform(0.5, 1.3), rng.uniform(0.5, 1.3)
        upper = ((-0.7 * side, 0.9 * side), (-0.8 * side, 0.7 * side), (2 * lift, 3.4 * lift))
        parts = [
            axes.box((-side, side), (-side, side), (0, 2 * lift), wood, "cargo"),
            axes.box(*upper, wood, "cargo"),
        ]
    elif kind < 0.8:
        length = rng.uniform(1.2, 2.6)
        parts = [
            axes.box((s - 0.08, s + 0.08), (-0.6, 0.6), (0, tall), paint, "structure")
            for s in (-length, length)
        ]
        for level in np.arange(0.2, tall - 0.3, 1.4):
            parts.append(axes.box((-length, length), (-0.6, 0.6), (level, level + 0.1), paint, "structure"))
            parts.append(
                axes.box(
                    (-0.8 * length, rng.uniform(0, 0.9) * length),
                    (-0.5, 0.5),
                    (level + 0.1, level + rng.uniform(0.5, 1.2)),
                    wood,
                    "cargo",
                )
            )
    else:
        parts = [
            axes.box((-1.2, 1.2), (-0.9, 0.9), (0, 1.3), paint, "cargo"),
            axes.box((-0.4, 1.0), (-0.7, 0.5), (1.3, 1.3 + tall / 3), paint, "cargo"),
        ]
    builder.thing(parts)


def _gates(builder: Builder, half: tuple[float, float, float]) -> None:
    """Doors and high windows on the long walls."""
    rng = builder.rng
    door = material(rng, ("stripes", "panels"), (1, 3), _pick(rng, _PAINT), 0.1, 0.3)
    pane = material(rng, ("panels", "facade"), (2, 4), (0.85, 0.9, 0.95), 0.05, 0.4, glow=0.8)
    for side in (-1, 1):
        for y in np.arange(-half[1] + 3, half[1] - 3, rng.uniform(5, 9)):
            if rng.random() < 0.5:
                low, wide = half[2] * 1.3, rng.uniform(0.8, 1.8)
                builder.thing(
                    [solid((side * half[0], float(y), low + 0.6), (0.06, wide, 0.7), 0, pane, "opening")],
                    overlap=True,
                )
            else:
                tall, wide = rng.uniform(1.1, 1.8), rng.uniform(0.6, 2)
                builder.thing(
                    [solid((side * half[0], float(y), tall), (0.08, wide, tall), 0, door, "opening")],
                    overlap=True,
                )


def corridor(rng: np.random.Generator) -> tuple[Scene, Path]:
    """A long wide passage with doors, pillars along the walls and carts."""
    half = (float(rng.uniform(2.8, 4.5)), float(rng.uniform(8, 25)), float(rng.uniform(1.8, 2.8)))
    height = float(rng.uniform(1.65, 1.9))
    reach = (0.5 * half[0], 0.75 * half[1], 0.2)
    turn = float(rng.choice([-1, 1]) * rng.uniform(25, 70))
    path = Path(
        (0, 0, height),
        reach,
        float(rng.uniform(60, 120)),
        turn,
        0.9,
        float(rng.uniform(-0.35, -0.25)),
        random_phase(rng),
    )
    side = material(
        rng, ("plain", "bricks", "panels", "clouds"), (2, 5), _pick(rng, _STONE + _PLASTER), 0.1, 0.25
    )
    end = material(rng, ("plain", "facade"), (2, 4), _pick(rng, _PLASTER), 0.1, 0.3)
    floor = material(rng, ("tiles", "checker", "plain", "speckle"), (1, 3), _pick(rng, _STONE), 0.12, 0.35)
    roof = material(rng, ("panels", "tiles", "plain"), (1.5, 4), (0.75, 0.76, 0.76), 0.1, 0.2)
    builder = Builder(
        rng, shell(half, floor, [side, side, end, end], roof, "wall", "ceiling"), path, clearance=0.7
    )
    door = material(rng, ("panels", "planks"), (1, 2.2), _pick(rng, _PAINT + _PLASTER), 0.1, 0.3)
    pillar = material(rng, ("plain", "bricks"), (1, 2), _pick(rng, _STONE), 0.12, 0.2)
    step = float(rng.uniform(4, 7))
    for y in np.arange(-half[1] + 2, half[1] - 2, step):
        for wall in (-1, 1):
            if rng.random() < 0.6:
                builder.thing(
                    [solid((wall * half[0], float(y), 1.1), (0.07, 0.6, 1.1), 0, door, "opening")],
                    overlap=True,
                )
            if rng.random() < 0.5:
                at = (wall * (half[0] - 0.2), float(y + step / 2), half[2])
                builder.thing([solid(at, (0.25, 0.3, half[2]), 0, pillar, "structure")])
            if rng.random() < 0.35:
                crate = material(
                    rng, ("planks", "panels", "stripes"), (0.6, 1.5), _pick(rng, _PAINT + _PLASTER), 0.1, 0.4
                )
                tall = float(rng.uniform(0.3, 1.0))
                at = (wall * (half[0] - 0.7), float(y + rng.uniform(1, 3)), tall)
                builder.thing(
                    [
                        solid(
                            at,
                            (0.45, float(rng.uniform(0.4, 1.2)), tall),
                            0.1 * float(rng.normal()),
                            crate,
                            "cargo",
                        )
                    ]
                )
    lamp = (0.0, float(rng.uniform(-0.5, 0.5) * half[1]), 2 * half[2] - 0.2)
    ambient = float(rng.uniform(0.3, 0.55))
    lighting = Lighting(
        lamp, False, (0.75, 0.75, 0.72), (ambient, ambient, ambient * 1.02), (0.5, 0.5, 0.5), 0.0
    )
    return builder.scene(lighting), path
