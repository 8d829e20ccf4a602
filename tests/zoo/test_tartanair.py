"""TartanAir's trajectories, read from small folders of the true layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldtune.errors import DataError
from zoo.frames import open_frames

PARTS = ("depth", "seg")


def trajectory(folder: Path, numbers: tuple[int, ...], parts: tuple[str, ...] = PARTS) -> Path:
    rng = np.random.default_rng(sum(numbers))
    for part in ("image", *parts):
        (folder / f"{part}_left").mkdir(parents=True)
    for number in numbers:
        Image.fromarray(np.full((4, 6, 3), number, np.uint8)).save(
            folder / f"image_left/{number:06d}_left.png"
        )
        if "depth" in parts:
            depth = rng.uniform(1, 60, (4, 6)).astype(np.float32)
            np.save(folder / f"depth_left/{number:06d}_left_depth.npy", depth)
        if "seg" in parts:
            np.save(folder / f"seg_left/{number:06d}_left_seg.npy", np.full((4, 6), number + 100, np.uint8))
    (folder / "pose_left.txt").write_text("0 0 0 0 0 0 1\n")
    return folder


def test_a_trajectory_brings_image_depth_and_classes(tmp_path: Path) -> None:
    folder = trajectory(tmp_path / "P000", (10, 9))
    frames = open_frames(folder)
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [9, 10]
    stored = np.load(folder / "depth_left/000010_left_depth.npy")
    np.testing.assert_array_equal(frames[1].depth, stored)
    assert (frames[1].classes == 110).all()
    assert not frames[1].sparse_depth


@pytest.mark.parametrize("above", ["", "Easy", "ocean/Easy", "ocean/ocean/Hard"])
def test_all_trajectories_below_a_folder_follow_each_other(tmp_path: Path, above: str) -> None:
    trajectory(tmp_path / above / "P001", (1, 2))
    trajectory(tmp_path / above / "P000", (3,))
    assert [int(frame.rgb[0, 0, 0]) for frame in open_frames(tmp_path)] == [3, 1, 2]


def test_parts_that_were_not_downloaded_are_not_there(tmp_path: Path) -> None:
    frame = open_frames(trajectory(tmp_path / "P000", (0,), ("seg",)))[0]
    assert (frame.depth, int(frame.classes[0, 0])) == (None, 100)
    assert open_frames(trajectory(tmp_path / "P001", (0,), ("depth",)))[0].classes is None


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_sky_has_no_depth(tmp_path: Path, dtype: type) -> None:
    folder = trajectory(tmp_path / "P000", (0,))
    depth = np.full((4, 6), 2.5, dtype)
    depth[0, :4] = [10000, np.inf, np.nan, 999]
    np.save(folder / "depth_left/000000_left_depth.npy", depth)
    got = open_frames(folder)[0].depth
    assert got.dtype == np.float32
    assert got[0].tolist() == [0, 0, 0, 999, 2.5, 2.5]


def test_missing_and_wrong_files_are_named(tmp_path: Path) -> None:
    folder = trajectory(tmp_path / "P000", (0, 1))
    np.save(folder / "depth_left/000000_left_depth.npy", np.ones((4, 6), np.uint16))
    np.save(folder / "seg_left/000001_left_seg.npy", np.ones((4, 6), np.int32))
    with pytest.raises(
        DataError, match=r"000000_left_depth\.npy must be a float array in metres, but is uint16"
    ):
        open_frames(folder)[0]
    with pytest.raises(DataError, match=r"classes must be uint8 \(4, 6\), but is int32"):
        open_frames(folder)[1]
    (folder / "seg_left/000000_left_seg.npy").unlink()
    with pytest.raises(
        DataError, match=r"000000_left_seg\.npy is missing; seg_left must have an array for each"
    ):
        open_frames(folder)
    (tmp_path / "P001" / "image_left").mkdir(parents=True)
    with pytest.raises(DataError, match=r"P001.image_left holds no images"):
        open_frames(tmp_path / "P001")
