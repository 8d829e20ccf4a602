"""KITTI's raw data and depth benchmark, read from small folders of the true layout."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldtune.errors import DataError
from zoo.frames import open_frames
from zoo.loaders.npz import write_npz
from zoo.loaders.velodyne import project, read_calibration
from zoo.prepare import true_depth

DATE = "2011_09_26"
DRIVE = f"{DATE}_drive_0001_sync"
OTHER = f"{DATE}_drive_0002_sync"
HEIGHT, WIDTH = 37, 124
# Those of KITTI's own files, for an image of a tenth of the size.
CAMERAS = f"""calib_time: 09-Jan-2012 13:57:47
corner_dist: 9.950000e-02
R_rect_00: 9.999239e-01 9.837760e-03 -7.445048e-03 -9.869795e-03 9.999421e-01 -4.278459e-03 7.402527e-03 \
4.351614e-03 9.999631e-01
S_rect_02: {WIDTH:e} {HEIGHT:e}
P_rect_02: 7.215377e+01 0.000000e+00 6.095593e+01 4.485728e+00 0.000000e+00 7.215377e+01 1.728540e+01 \
2.163791e-02 0.000000e+00 0.000000e+00 1.000000e+00 2.745884e-03
S_rect_03: {WIDTH:e} {HEIGHT:e}
P_rect_03: 7.215377e+01 0.000000e+00 6.095593e+01 -3.395242e+01 0.000000e+00 7.215377e+01 1.728540e+01 \
2.199936e-01 0.000000e+00 0.000000e+00 1.000000e+00 2.729905e-03
"""
LIDAR = """calib_time: 15-Mar-2012 11:37:16
R: 7.533745e-03 -9.999714e-01 -6.166020e-04 1.480249e-02 7.280733e-04 -9.998902e-01 9.998621e-01 \
7.523790e-03 1.480755e-02
T: -4.069766e-03 -7.631618e-02 -2.717806e-01
delta_f: 0.000000e+00 0.000000e+00
"""


def image(root: Path, drive: str, number: int, camera: int = 2, suffix: str = ".png") -> Path:
    path = root / DATE / drive / f"image_{camera:02d}" / "data" / f"{number:010d}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), number, np.uint8)).save(path)
    return path


def depth_map(place: Path, drive: str, number: int, camera: int = 2) -> np.ndarray:
    """Write a map with a twentieth of its pixels known, in 256ths of a metre, and return it."""
    rng = np.random.default_rng(number)
    stored = np.where(rng.random((HEIGHT, WIDTH)) < 0.05, rng.integers(500, 16000, (HEIGHT, WIDTH)), 0)
    path = place / drive / "proj_depth" / "groundtruth" / f"image_{camera:02d}" / f"{number:010d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stored.astype(np.uint16)).save(path)
    return stored


def sweep(root: Path, drive: str, number: int, points: np.ndarray) -> Path:
    path = root / DATE / drive / "velodyne_points" / "data" / f"{number:010d}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.column_stack([points, np.full(len(points), 0.3)]).astype("<f4").tofile(path)
    return path


def calibrate(root: Path) -> None:
    (root / DATE).mkdir(exist_ok=True)
    (root / DATE / "calib_cam_to_cam.txt").write_text(CAMERAS)
    (root / DATE / "calib_velo_to_cam.txt").write_text(LIDAR)


def scene(count: int = 3000) -> np.ndarray:
    """Points all around the car, some of them far, at the height of the sensor or hardly above the road."""
    rng = np.random.default_rng(8)
    return np.column_stack(
        [rng.uniform(-40, 40, count), rng.uniform(-25, 25, count), rng.uniform(-1.7, 2, count)]
    ).astype(np.float32)


# --- maps of the depth benchmark


@pytest.mark.parametrize("place", ["train", "val", ".", DATE])
def test_a_map_is_in_256ths_of_a_metre_wherever_drives_were_unpacked(tmp_path: Path, place: str) -> None:
    image(tmp_path, DRIVE, 5)
    stored = depth_map(tmp_path / place, DRIVE, 5)
    frames = open_frames(tmp_path)
    assert len(frames) == 1
    assert (frames[0].rgb == 5).all()
    np.testing.assert_array_equal(frames[0].depth, (stored / 256).astype(np.float32))


def test_of_a_folder_frames_with_image_and_depth_are_taken_and_val_comes_last(tmp_path: Path) -> None:
    for number in (4, 5, 6):
        image(tmp_path, DRIVE, number, suffix=".jpg")
        image(tmp_path, OTHER, 10 + number)
    image(tmp_path, OTHER, 17, camera=3)
    depth_map(tmp_path / "val", DRIVE, 5)
    depth_map(tmp_path / "val", DRIVE, 99)
    for number, camera in ((15, 2), (16, 2), (17, 3)):
        depth_map(tmp_path / "train", OTHER, number, camera)
    frames = open_frames(tmp_path)
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [15, 16, 17, 5]


def test_a_list_gives_the_order_and_frames_without_a_map_are_unknown(tmp_path: Path) -> None:
    for number, camera in ((3, 2), (7, 3), (12, 2)):
        image(tmp_path, DRIVE, number, camera)
    depth_map(tmp_path / "train", DRIVE, 7, camera=3)
    depth_map(tmp_path / "train", DRIVE, 3)
    (tmp_path / "split.txt").write_text(
        f"{DATE}/{DRIVE} 7 r\n\n"
        f"{DATE}/{DRIVE} 0000000012 l\n"
        f"{DATE}/{DRIVE}/image_02/data/0000000003.png {DRIVE}/proj_depth/groundtruth/x.png 721.5377\n"
        f"{DATE}/{DRIVE}/image_03/data/0000000007.jpg\n"
    )
    frames = open_frames(tmp_path / "split.txt")
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [7, 12, 3, 7]
    assert [bool(frame.depth.any()) for frame in frames] == [True, False, True, True]


def test_depth_of_points_makes_a_pixel_known_wherever_one_lies(tmp_path: Path) -> None:
    image(tmp_path, DRIVE, 5)
    stored = depth_map(tmp_path / "train", DRIVE, 5)
    frame = open_frames(tmp_path)[0]
    depth = true_depth(frame, 1, 4)
    for column in range(4):
        cell = stored[:, 31 * column : 31 * (column + 1)]
        assert depth[0, column] == pytest.approx(cell[cell > 0].mean() / 256, rel=1e-6)
    write_npz(tmp_path / "kept.npz", [frame])
    np.testing.assert_allclose(true_depth(open_frames(tmp_path / "kept.npz")[0], 1, 4), depth, rtol=1e-3)


def test_the_selected_validation_frames_bring_image_and_depth(tmp_path: Path) -> None:
    for folder in ("image", "groundtruth_depth", "velodyne_raw"):
        (tmp_path / folder).mkdir()
    for number in (20, 9):
        rgb, depth = np.full((4, 6, 3), number, np.uint8), np.full((4, 6), 256 * number, np.uint16)
        tail = f"{number:010d}_image_02.png"
        Image.fromarray(rgb).save(tmp_path / "image" / f"{DRIVE}_image_{tail}")
        Image.fromarray(depth).save(tmp_path / "groundtruth_depth" / f"{DRIVE}_groundtruth_depth_{tail}")
    frames = open_frames(tmp_path)
    assert [(int(f.rgb[0, 0, 0]), float(f.depth[0, 0]), f.sparse_depth) for f in frames] == [
        (9, 9, True),
        (20, 20, True),
    ]
    next((tmp_path / "image").iterdir()).unlink()
    with pytest.raises(DataError, match=r"_image_\d+_image_02\.png is missing, which belongs to"):
        open_frames(tmp_path)


# --- raw sweeps


def projected(points: np.ndarray, camera: int) -> dict[tuple[int, int], float]:
    """Depth by pixel, point by point: lidar to camera 0, rectified, to the pixel that counts from 1."""
    cameras = dict(line.split(":", 1) for line in CAMERAS.splitlines())
    lidar = dict(line.split(":", 1) for line in LIDAR.splitlines())

    def matrix(text: str, columns: int) -> list[list[float]]:
        numbers = [float(word) for word in text.split()]
        return [numbers[k : k + columns] for k in range(0, len(numbers), columns)]

    rotation, shift = matrix(lidar["R"], 3), matrix(lidar["T"], 1)
    rectify, projection = matrix(cameras["R_rect_00"], 3), matrix(cameras[f"P_rect_{camera:02d}"], 4)
    nearest: dict[tuple[int, int], float] = {}
    for x, y, z in points.astype(float):
        if x < 0:
            continue
        seen = [r[0] * x + r[1] * y + r[2] * z + t[0] for r, t in zip(rotation, shift, strict=True)]
        flat = [sum(a * b for a, b in zip(row, seen, strict=True)) for row in rectify]
        u, v, depth = (sum(a * b for a, b in zip(row, [*flat, 1.0], strict=True)) for row in projection)
        if depth <= 0:
            continue
        row, column = round(v / depth) - 1, round(u / depth) - 1
        if 0 <= row < HEIGHT and 0 <= column < WIDTH:
            nearest[row, column] = min(depth, nearest.get((row, column), math.inf))
    return nearest


@pytest.mark.parametrize("camera", [2, 3])
def test_a_sweep_is_projected_into_the_cameras_image_and_the_nearest_point_counts(
    tmp_path: Path, camera: int
) -> None:
    calibrate(tmp_path)
    points = scene()
    depth = project(sweep(tmp_path, DRIVE, 0, points), read_calibration(tmp_path / DATE, camera))
    expected = projected(points, camera)
    assert depth.shape == (HEIGHT, WIDTH)
    assert 200 < len(expected) < np.count_nonzero(points[:, 0] >= 0)
    assert {(int(r), int(c)) for r, c in np.argwhere(depth > 0)} == set(expected)
    for (row, column), metres in expected.items():
        assert depth[row, column] == pytest.approx(metres, rel=1e-5)


def test_without_maps_sweeps_are_the_truth_and_with_any_they_are_not(tmp_path: Path) -> None:
    calibrate(tmp_path)
    for number in (1, 2):
        image(tmp_path, DRIVE, number)
        sweep(tmp_path, DRIVE, number, scene()[number * 500 :])
    frames = open_frames(tmp_path)
    expected = projected(scene()[1000:], 2)
    assert len(frames) == 2
    assert np.count_nonzero(frames[1].depth) == len(expected)
    assert frames[1].sparse_depth
    stored = depth_map(tmp_path / "train", DRIVE, 1)
    frames = open_frames(tmp_path)
    assert len(frames) == 1
    np.testing.assert_array_equal(frames[0].depth * 256, stored)


# --- what is wrong or missing


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (f"{DATE}/{DRIVE} 5\n", "line 1 names no frame of KITTI"),
        (f"\n{DATE}/{DRIVE}/image_00/data/0000000005.png\n", "line 2 names no frame of KITTI"),
        (f"{DATE}/{DRIVE} 6 l\n", "0000000006, which exists neither as .png nor as .jpg"),
        (f"{DATE}/{DRIVE} 5 l\n", "none of the 1 frames has true depth"),
        ("\xff", "is no text"),
    ],
)
def test_a_wrong_list_is_refused_when_it_is_opened(tmp_path: Path, text: str, said: str) -> None:
    image(tmp_path, DRIVE, 5)
    (tmp_path / "split.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=rf"split\.txt.*{re.escape(said)}"):
        open_frames(tmp_path / "split.txt")


def test_a_folder_without_any_depth_is_refused(tmp_path: Path) -> None:
    image(tmp_path, DRIVE, 5)
    with pytest.raises(DataError, match=r"no image of a drive .* has true depth"):
        open_frames(tmp_path)


def test_wrong_files_behind_frames_are_named(tmp_path: Path) -> None:
    image(tmp_path, DRIVE, 5)
    file = sweep(tmp_path, DRIVE, 5, scene())
    with pytest.raises(DataError, match=r"calib_cam_to_cam\.txt: No such file.*; raw sweeps need"):
        open_frames(tmp_path)[0]
    calibrate(tmp_path)
    assert open_frames(tmp_path)[0].depth.any()
    for text, key in ((CAMERAS.replace("S_rect_02", "S_02"), "S_rect_02"), ("R_rect_00: 1 2\n", "S_rect_02")):
        (tmp_path / DATE / "calib_cam_to_cam.txt").write_text(text)
        with pytest.raises(DataError, match=rf"must have a line '{key}:' with 2 numbers"):
            open_frames(tmp_path)[0]
    calibrate(tmp_path)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"is no complete sweep: 47997 bytes are no multiple of 16"):
        open_frames(tmp_path)[0]
    sweep(tmp_path, DRIVE, 5, np.full((2, 3), np.nan))
    with pytest.raises(DataError, match="a coordinate is not finite"):
        open_frames(tmp_path)[0]
    small = np.zeros((4, 6), np.uint16)
    depth_map(tmp_path / "train", DRIVE, 5)
    Image.fromarray(small).save(next(tmp_path.glob("train/**/*.png")))
    with pytest.raises(DataError, match=r"has \(37, 124\) pixels, but its depth has \(4, 6\)"):
        open_frames(tmp_path)[0]
