"""What the firmware makes of a picture and of zones is what the host makes of them, bit for bit."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fleet import HERE, RUNTIME, compile_program

from zoo.frames import Frame
from zoo.prepare import label, network_input
from zoo.task import OutputSpec
from zoo.tof import TofFrame, TofGeometry, zone_weights

DEPTH = OutputSpec("depth", "depth", "berhu", "tof", max_depth=6.0)
DISPARITY = OutputSpec("disparity", "disparity", "berhu", "tof", fb=80.0, max_depth=20.0)
GEOMETRIES = {
    "spanning": TofGeometry(),
    "wide": TofGeometry((57.0, 44.0), (44.5, 44.5), True, True, (5, 6, 9), 3.9995),
    "mirrored": TofGeometry((44.0, 57.0), (45.0, 45.0), True, False, (5, 255), 100.0),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [HERE / "sample_driver.c", RUNTIME / "field" / "sample.c"]
    return compile_program(sources, tmp_path_factory.mktemp("sample") / "driver", "scalar", specialise=True)


def run(program: Path, words: list[object], data: bytes) -> bytes:
    done = subprocess.run([program, *map(str, words)], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def readings(count: int) -> list[TofFrame]:
    """Readings with all statuses, and distances from far below to far above the range."""
    random = np.random.default_rng(11)
    found = []
    for k in range(count):
        distance = random.integers(-100, 4300, (8, 8)).astype(np.int16)
        distance.flat[:5] = (0, 1, 49, 3999, 4000)
        status = np.where(random.random((8, 8)) < 0.03 * k, random.integers(0, 256, (8, 8)), 5)
        found.append(TofFrame(distance, status.astype(np.uint8)))
    return found


def between(pixels: int, axis: int, geometry: TofGeometry) -> bytes:
    found = zone_weights(pixels, axis, geometry)
    rows = zip(found.zones, found.weights, strict=True)
    return b"".join(u.astype("<f8").tobytes() + bytes(k.tolist()) for k, u in rows)


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("spec", [DEPTH, DISPARITY], ids=lambda spec: spec.kind)
def test_labels_and_masks_are_those_of_the_host(
    program: Path, spec: OutputSpec, geometry: TofGeometry
) -> None:
    height, width = 37, 48
    status = np.isin(np.arange(256), geometry.valid_status)
    tables = np.packbits(status, bitorder="little").tobytes() + bytes(4)
    tables += between(height, 1, geometry) + between(width, 0, geometry)
    end = math.ceil(geometry.max_range_m * 1000)
    masks = []
    for tof in readings(12):
        data = tables + tof.distance_mm.tobytes() + tof.status.tobytes()
        answer = run(program, ["label", height, width, spec.fb or 0, end], data)
        values, mask, count = np.split(
            np.frombuffer(answer, np.uint8), [4 * height * width, 5 * height * width]
        )
        frame = Frame(np.zeros((4, 4, 3), np.uint8), tof=tof)
        wanted = label(frame, spec, (height, width, 1), geometry)
        assert wanted is not None
        assert values.tobytes() == wanted[0].tobytes()
        assert mask.tobytes() == wanted[1].tobytes()
        assert int(count.view("<u4")[0]) == mask.sum()
        masks.append(mask.mean())
    assert min(masks) < 0.5 < max(masks)  # there is something to tell apart


@pytest.mark.parametrize("shape", [(96, 96), (48, 48), (61, 83), (30, 20), (240, 320)], ids=str)
def test_the_input_is_the_hosts_mean_over_areas(program: Path, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(5)
    # Few grey levels, so that many means are ties.
    rgb = random.choice(np.array([0, 1, 2, 255], np.uint8), (*shape, 3))
    answer = run(program, ["input", *shape, 48, 40], rgb.tobytes())
    assert answer == network_input(Frame(rgb), 48, 40).tobytes()
