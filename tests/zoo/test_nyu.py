"""NYUv2's labelled frames, read from small files of the true format that h5py and scipy write."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune.errors import DataError, UserError
from zoo.frames import open_frames
from zoo.loaders import nyu

h5py = pytest.importorskip("h5py", reason="h5py is not installed; pip install 'fieldtune[datasets]'")
scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed; pip install 'fieldtune[datasets]'")

HEIGHT, WIDTH = 6, 8
SCENES = ["office", "bathroom", "kitchen", "office", "bathroom"]
TRAIN, TEST = [4, 2], [5, 1, 3]


def pictures() -> dict[str, np.ndarray]:
    """What the five frames show, as pictures are elsewhere: height before width."""
    rng = np.random.default_rng(3)
    count = len(SCENES)
    depth = rng.uniform(0.5, 9, (count, HEIGHT, WIDTH)).astype(np.float32)
    return {
        "images": rng.integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8),
        "depths": depth,
        "rawDepths": np.where(rng.random(depth.shape) < 0.8, depth, np.float32(0)),
        "labels": rng.integers(0, 895, (count, HEIGHT, WIDTH), np.uint16),
    }


def write(folder: Path, change: Callable[[Any], None] = lambda file: None) -> Path:
    """Write the data set as MATLAB does: 512 bytes of its own, axes reversed, strings behind references."""
    path = folder / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in pictures().items():
            file[name] = np.stack([frame.T for frame in array])
        references = np.empty((1, len(SCENES)), h5py.ref_dtype)
        for number, scene in enumerate(SCENES):
            text = file.create_dataset(
                f"#refs#/{number}", data=np.array([[ord(c)] for c in scene], np.uint16)
            )
            references[0, number] = text.ref
        file.create_dataset("sceneTypes", data=references)
        change(file)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + bytes([0, 2]) + b"IM")
    write_split(folder)
    return path


def write_split(folder: Path, train: list[int] = TRAIN, test: list[int] = TEST) -> None:
    scipy_io.savemat(
        folder / nyu.SPLITS,
        {name: np.array(numbers)[:, None] for name, numbers in (("trainNdxs", train), ("testNdxs", test))},
    )


def to_40() -> np.ndarray:
    return np.random.default_rng(4).integers(1, 41, (1, 894)).astype(np.uint8)


def to_13() -> np.ndarray:
    return np.random.default_rng(5).integers(1, 14, (1, 40)).astype(np.uint8)


def write_mapping(folder: Path, classes: int) -> None:
    scipy_io.savemat(folder / nyu.CLASSES_40, {"mapClass": to_40(), "className": np.array(["wall"], object)})
    if classes == 13:
        value = {"labels13": to_13(), "class13Names": np.array(["bed"], object)}
        scipy_io.savemat(folder / nyu.CLASSES_13, {"classMapping13": value})


def test_frames_are_turned_upright_and_the_training_split_comes_first(tmp_path: Path) -> None:
    frames, shown = open_frames(write(tmp_path)), pictures()
    assert len(frames) == 5
    for frame, one_based in zip(frames, TRAIN + TEST, strict=True):
        np.testing.assert_array_equal(frame.rgb, shown["images"][one_based - 1])
        np.testing.assert_array_equal(frame.depth, shown["rawDepths"][one_based - 1])
        assert frame.name == f"nyu_depth_v2_labeled.mat[{one_based - 1}]"
        assert not frame.sparse_depth
    assert len(frames[-len(TEST) :]) == 3


def test_the_target_is_the_scenes_place_among_all_types(tmp_path: Path) -> None:
    frames = open_frames(write(tmp_path))
    # Frames 4, 2, 5, 1, 3: office, bathroom, bathroom, office, kitchen.
    assert [float(frame.target[0]) for frame in frames] == [2, 0, 0, 2, 1]


@pytest.mark.parametrize("classes", [40, 13])
def test_classes_count_from_0_and_what_is_unlabelled_is_unknown(tmp_path: Path, classes: int) -> None:
    write_mapping(tmp_path, classes)
    frame = open_frames(write(tmp_path))[0]
    for label, found in zip(pictures()["labels"][TRAIN[0] - 1].ravel(), frame.classes.ravel(), strict=True):
        number = int(to_40()[0, label - 1]) if label else 0
        if classes == 13 and number:
            number = int(to_13()[0, number - 1])
        assert found == (number - 1 if number else 255)


def test_labels_that_a_mapping_gives_no_class_are_unknown(tmp_path: Path) -> None:
    scipy_io.savemat(tmp_path / nyu.CLASSES_40, {"mapClass": np.zeros((1, 894))})
    assert (open_frames(write(tmp_path))[1].classes == 255).all()


def test_without_a_mapping_there_are_no_classes(tmp_path: Path) -> None:
    assert open_frames(write(tmp_path))[0].classes is None


def test_nothing_but_the_frame_that_is_asked_for_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    get = h5py.Dataset.__getitem__

    def watched(self: Any, key: Any, *more: Any) -> Any:
        if self.name in ("/images", "/rawDepths", "/labels", "/depths"):
            read.append((self.name, key))
        return get(self, key, *more)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
    frames = open_frames(write(tmp_path))
    assert read == []
    assert frames[1:][0].rgb.shape == (HEIGHT, WIDTH, 3)
    assert sorted(read) == [("/images", 1), ("/labels", 1), ("/rawDepths", 1)]


def drop(name: str) -> Callable[[Any], None]:
    return lambda file: file.pop(name)


def put(name: str, array: np.ndarray) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[name]
        file[name] = array

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("images"), "has no array 'images'; is it nyu_depth_v2_labeled.mat?"),
        (drop("rawDepths"), "has no array 'rawDepths'"),
        (drop("sceneTypes"), "has no array 'sceneTypes'"),
        (put("labels", np.zeros((5, WIDTH, HEIGHT))), "labels must be uint16 with 3 axes, but is float64"),
        (put("labels", np.zeros((4, WIDTH, HEIGHT), np.uint16)), "disagree in the number or size"),
        (put("labels", np.zeros((5, HEIGHT, WIDTH), np.uint16)), "disagree in the number or size"),
        (put("images", np.zeros((5, 1, WIDTH, HEIGHT), np.uint8)), "disagree in the number or size"),
    ],
)
def test_a_file_that_is_another_is_refused_when_it_is_opened(
    tmp_path: Path, change: Callable[[Any], None], said: str
) -> None:
    path = write(tmp_path, change)
    with pytest.raises(DataError, match=re.escape(said)):
        open_frames(path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    whole = write(tmp_path).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no HDF5" * 200):
        (tmp_path / "nyu_depth_v2_labeled.mat").write_bytes(damaged)
        with pytest.raises(
            DataError, match=r"nyu_depth_v2_labeled\.mat is no complete file of MATLAB's format"
        ):
            open_frames(tmp_path / "nyu_depth_v2_labeled.mat")


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ([1, 2], [2, 3], "names a frame twice"),
        ([0, 1], [2, 3], "or frame 0"),
        ([1, 2], [3, 6], "testNdxs must hold whole numbers from 0 to 5"),
    ],
)
def test_a_split_of_another_data_set_is_refused(
    tmp_path: Path, train: list[int], test: list[int], said: str
) -> None:
    path = write(tmp_path)
    write_split(tmp_path, train, test)
    with pytest.raises(DataError, match=said):
        open_frames(path)


def test_files_beside_it_that_are_missing_or_wrong_are_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    write_mapping(tmp_path, 13)
    (tmp_path / nyu.CLASSES_40).unlink()
    with pytest.raises(
        DataError, match=r"maps the 40 classes of classMapping40\.mat, which must lie beside it"
    ):
        open_frames(path)
    scipy_io.savemat(tmp_path / nyu.CLASSES_40, {"mapping": to_40()})
    with pytest.raises(DataError, match=r"classMapping40\.mat holds no numbers mapClass"):
        open_frames(path)
    scipy_io.savemat(tmp_path / nyu.CLASSES_40, {"mapClass": to_40()[:, :100]})
    with pytest.raises(DataError, match=r"\[3\] has label \d+, but the mapping ends at 100"):
        open_frames(path)[0]
    whole = (tmp_path / nyu.SPLITS).read_bytes()
    for length in range(0, len(whole), 5):
        (tmp_path / nyu.SPLITS).write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"splits\.mat"):
            open_frames(path)
    (tmp_path / nyu.SPLITS).unlink()
    with pytest.raises(DataError, match=r"splits\.mat is missing; it says which"):
        open_frames(path)


@pytest.mark.parametrize("package", ["h5py", "scipy.io"])
def test_a_missing_package_is_named(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    name = package.partition(".")[0]
    with pytest.raises(UserError, match=rf"needs the package {name}: pip install 'fieldtune\[datasets\]'"):
        open_frames(path)
