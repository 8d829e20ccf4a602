"""Rendered data: frames with metric depth, a class for each pixel, 8x8 ToF readings and where to steer, from
nothing but a seed.

Domains far apart in scale and look. What our weights are pre-trained on: `street`, `hall` and `corridor`
(some ten metres and more) and `loft`, which is furnished like a room, half as large again and in any
colours. What the demo fine-tunes to, never seen in pre-training: `room` (some two metres).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fieldtune.errors import DataError
from zoo.frames import Frame, Frames
from zoo.scenes import camera, indoors, outdoors, sensor
from zoo.scenes.builder import Path
from zoo.scenes.geometry import CLASS, CLASSES, Scene
from zoo.scenes.steering import STEERING, steering

__all__ = ["CLASSES", "DEMO_SCENE", "DOMAINS", "SOURCE_DOMAINS", "STEERING", "DemoScene", "render"]

DOMAINS: dict[str, Callable[[np.random.Generator], tuple[Scene, Path]]] = {
    "street": outdoors.street,
    "hall": outdoors.hall,
    "corridor": outdoors.corridor,
    "loft": indoors.loft,
    "room": indoors.room,
}
SOURCE_DOMAINS = ("street", "hall", "corridor", "loft")


def render(domain: str, seed: int, count: int, size: int = 96) -> Frames:
    """Return `count` frames of `size` x `size` pixels along a path through one scene; each is rendered when
    it is asked for.

    The same domain, seed, frame number and size give the same frame. Depth is z-depth in metres, 0 where
    there is only sky; `classes` index :data:`CLASSES`, `target` indexes :data:`STEERING`; the ToF reading is
    in the sensor's own zone order, see :data:`sensor.GEOMETRY`.

    Raises:
        DataError: there is no such domain.
    """
    if domain not in DOMAINS:
        raise DataError(f"there is no domain '{domain}' to render; choose one of {', '.join(DOMAINS)}")
    scene, path = DOMAINS[domain](np.random.default_rng([_key(domain), seed]))

    def load(number: int) -> Frame:
        rng = np.random.default_rng([_key(domain), seed, 1 + number])
        pose = path.pose(number)
        hits = camera.look(scene, pose, size)
        classes = scene.classes[hits.box, hits.face]
        depth = np.where(classes == CLASS["sky"], 0, hits.distance).astype(np.float32)
        rgb = camera.expose(camera.paint(scene, pose, hits), rng)
        tof = sensor.measure(depth, rng)
        target = np.array([steering(depth)], np.float32)
        return Frame(rgb, depth, classes, tof, f"{domain} {seed}, frame {number}", target)

    return Frames(load, range(count), sensor.GEOMETRY)


def _key(domain: str) -> int:
    """Seeds of one domain must not repeat another domain's; the order of DOMAINS must not matter."""
    return int.from_bytes(domain.encode(), "little") % 2**32


@dataclass(frozen=True)
class DemoScene:
    """What `fieldtune demo` does: the scene, how many frames it trains on (the next `test` are held out), and
    how.
    """

    domain: str
    seed: int
    train: int
    test: int
    steps: int
    lr: float


DEMO_SCENE = DemoScene(domain="room", seed=0, train=60, test=50, steps=60, lr=0.05)
