import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldtune.errors import DataError
from zoo.frames import Frame, Frames, open_frames
from zoo.loaders.arrays import read_rgb
from zoo.loaders.npz import write_npz
from zoo.tof import TofFrame, TofGeometry

DOCS = Path(__file__).resolve().parents[2] / "docs" / "your_data.md"
RNG = np.random.default_rng(7)


def full_frame(number: int) -> Frame:
    rng = np.random.default_rng(number)
    return Frame(
        rgb=rng.integers(0, 256, (12, 16, 3), np.uint8),
        depth=(rng.integers(0, 5000, (12, 16)) / 1000).astype(np.float32),
        classes=rng.integers(0, 4, (12, 16), np.uint8),
        tof=TofFrame(rng.integers(0, 4000, (8, 8), np.int16), np.full((8, 8), 5, np.uint8)),
        target=np.array([number, 0.5], np.float32),
        name=f"frame {number}",
    )


def assert_same(a: Frame, b: Frame) -> None:
    for field in ("rgb", "depth", "classes", "target"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert (a.tof is None) == (b.tof is None)
    if a.tof is not None and b.tof is not None:
        np.testing.assert_array_equal(a.tof.distance_mm, b.tof.distance_mm)
        np.testing.assert_array_equal(a.tof.status, b.tof.status)


def test_slices_keep_order_and_geometry_and_read_nothing() -> None:
    read: list[int] = []

    def load(number: int) -> Frame:
        read.append(number)
        return full_frame(number)

    geometry = TofGeometry(flip_vertical=True)
    frames = Frames(load, range(10), geometry)
    test = frames[-4:]
    assert (len(test), len(test[1:]), read) == (4, 3, [])
    assert (test[0].name, test[1:][-1].name) == ("frame 6", "frame 9")
    assert test[1:].geometry is geometry
    assert [frame.name for frame in frames[:3]] == ["frame 0", "frame 1", "frame 2"]
    with pytest.raises(IndexError):
        test[4]


def test_a_frame_refuses_arrays_of_another_type_or_size() -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(DataError, match=r"shot: depth must be float32 \(4, 6\), but is float64 \(4, 6\)"):
        Frame(rgb, depth=np.zeros((4, 6)), name="shot")
    with pytest.raises(DataError, match=r"classes must be uint8 \(4, 6\), but is uint8 \(6, 4\)"):
        Frame(rgb, classes=np.zeros((6, 4), np.uint8))
    with pytest.raises(DataError, match=r"\(height, width, 3\), but has \(4, 6\)"):
        Frame(rgb[..., 0])


# --- .npz


def test_what_write_npz_writes_open_frames_reads(tmp_path: Path) -> None:
    frames = [full_frame(number) for number in range(5)]
    geometry = TofGeometry(
        camera_fov_deg=(57.0, 44.0),
        tof_fov_deg=(45.0, 44.5),
        flip_horizontal=True,
        valid_status=(5,),
        max_range_m=3.0,
    )
    write_npz(tmp_path / "set.npz", frames, geometry)
    back = open_frames(tmp_path / "set.npz")
    assert len(back) == 5
    assert back.geometry == geometry
    for a, b in zip(frames, back, strict=True):
        assert_same(a, b)
    assert back[3].name == "set.npz[3]"


def test_only_rgb_is_needed_and_zones_then_span_the_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", rgb=np.zeros((2, 4, 6, 3), np.uint8))
    frames = open_frames(tmp_path / "set.npz")
    assert frames.geometry == TofGeometry()
    assert (frames[1].depth, frames[1].classes, frames[1].tof, frames[1].target) == (None, None, None, None)


def test_depth_that_millimetres_cannot_hold_becomes_unknown(tmp_path: Path) -> None:
    depth = np.array([[65.535, 65.6, 0.0, 1.2344]], np.float32)
    write_npz(tmp_path / "set.npz", [Frame(np.zeros((1, 4, 3), np.uint8), depth=depth)])
    back = open_frames(tmp_path / "set.npz")[0].depth
    assert back is not None
    np.testing.assert_allclose(back, [[65.535, 0, 0, 1.234]], rtol=1e-6)


LAYOUT = {
    "rgb": np.zeros((3, 4, 6, 3), np.uint8),
    "depth_mm": np.zeros((3, 4, 6), np.uint16),
    "classes": np.zeros((3, 4, 6), np.uint8),
    "tof_distance_mm": np.zeros((3, 8, 8), np.int16),
    "tof_target_status": np.zeros((3, 8, 8), np.uint8),
    "target": np.zeros((3, 1), np.float32),
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rgb": None}, "no array 'rgb'"),
        (
            {"rgb": np.zeros((3, 4, 6, 3), np.float32)},
            "rgb must be uint8 (frames, height, width, 3), but is float32",
        ),
        (
            {"rgb": np.zeros((3, 3, 4, 6), np.uint8)},
            "(frames, height, width, 3), but is uint8 (3, 3, 4, 6)",
        ),
        ({"rgb": np.zeros((0, 4, 6, 3), np.uint8)}, "(0, 4, 6), but is uint16 (3, 4, 6)"),
        (
            {"depth_mm": np.zeros((2, 4, 6), np.uint16)},
            "depth_mm must be uint16 (3, 4, 6), but is uint16 (2, 4, 6)",
        ),
        ({"depth_mm": np.zeros((3, 6, 4), np.uint16)}, "depth_mm must be uint16 (3, 4, 6)"),
        ({"depth_mm": np.zeros((3, 4, 6), np.float32)}, "depth_mm must be uint16"),
        ({"classes": np.zeros((3, 4), np.uint8)}, "classes must be uint8 (3, 4, 6), but is uint8 (3, 4)"),
        ({"tof_distance_mm": np.zeros((3, 4, 4), np.int16)}, "tof_distance_mm must be int16 (3, 8, 8)"),
        ({"tof_target_status": np.zeros((4, 8, 8), np.uint8)}, "tof_target_status must be uint8 (3, 8, 8)"),
        ({"tof_target_status": None}, "together"),
        ({"target": np.zeros(3, np.float32)}, "target must be float32 (3, values), but is float32 (3,)"),
        ({"sparse_depth": np.zeros(3, np.uint8)}, "sparse_depth must be bool (3), but is uint8 (3,)"),
        ({"camera_fov_deg": np.array(57.0)}, "camera_fov_deg must hold 2 number(s), but is float64 ()"),
        ({"camera_fov_deg": np.array([57.0, 44.0])}, "together"),
        ({"tof_max_range_m": np.array([1.0, 2.0])}, "tof_max_range_m must hold 1 number(s)"),
        ({"tof_flip_vertical": np.array([True, False])}, "tof_flip_vertical must hold 1 number(s)"),
        ({"tof_valid_status": np.array("5")}, "tof_valid_status must hold some number(s)"),
        ({"rgb": np.array([None])}, "is no complete"),
    ],
)
def test_arrays_that_disagree_with_the_layout_are_named(
    tmp_path: Path, change: dict[str, np.ndarray | None], said: str
) -> None:
    arrays = {key: array for key, array in (LAYOUT | change).items() if array is not None}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=rf"set\.npz.*{re.escape(said)}"):
        open_frames(tmp_path / "set.npz")


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-40], lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"no zip"]
)
def test_a_damaged_npz_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write_npz(tmp_path / "set.npz", [full_frame(0)])
    (tmp_path / "set.npz").write_bytes(damage((tmp_path / "set.npz").read_bytes()))
    with pytest.raises(DataError, match=r"set\.npz is no complete \.npz"):
        open_frames(tmp_path / "set.npz")


def test_any_damaged_byte_of_an_array_file_is_a_data_error_or_harmless(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((2, 2, 3), np.uint8))
    data = (tmp_path / "whole.npy").read_bytes()
    outcomes = set()
    for position in range(len(data)):
        for value in (0, 10, 40, 44, 98, 255):
            damaged = bytearray(data)
            damaged[position] = value
            (tmp_path / "damaged.npy").write_bytes(damaged)
            try:
                outcomes.add(read_rgb(tmp_path / "damaged.npy").shape)
            except DataError:
                outcomes.add(DataError)
    assert outcomes == {(2, 2, 3), DataError}


def test_flipped_bytes_in_an_npz_are_noticed(tmp_path: Path) -> None:
    write_npz(tmp_path / "set.npz", [full_frame(0)])
    data = bytearray((tmp_path / "set.npz").read_bytes())
    data[200:220] = bytes(20)
    (tmp_path / "set.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"set\.npz is no complete \.npz"):
        open_frames(tmp_path / "set.npz")


def test_a_single_array_is_no_data_set(tmp_path: Path) -> None:
    with (tmp_path / "set.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(DataError, match="single array"):
        open_frames(tmp_path / "set.npz")


def test_frames_that_differ_cannot_be_written_and_nothing_is(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    bare = Frame(full_frame(0).rgb)
    with pytest.raises(DataError, match="only 1 of 2 frames have depth_mm"):
        write_npz(path, [full_frame(0), bare])
    with pytest.raises(DataError, match="rgb has the shape"):
        write_npz(path, [bare, Frame(np.zeros((3, 3, 3), np.uint8))])
    with pytest.raises(DataError, match="no frames"):
        write_npz(path, [])
    assert list(tmp_path.iterdir()) == []


# --- IDSIA-µMDE


def write_idsia(folder: Path, depths: list[np.ndarray], suffix: str = ".png") -> np.ndarray:
    rgb = RNG.integers(0, 256, (48, 48, 3), np.uint8)
    lines = []
    for number, depth in enumerate(depths):
        image, measured, disparity, fb = (f"{part}/{number}" for part in ("img", "depth", "disp", "fb"))
        for name in (image, measured, disparity, fb):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(folder / f"{image}.npy", rgb)
        else:
            Image.fromarray(rgb).save(folder / f"{image}{suffix}")
        np.save(folder / f"{measured}.npy", depth)
        np.save(folder / f"{disparity}.npy", (80 / depth).astype(np.float32))
        np.save(folder / f"{fb}.npy", np.float32(80))
        lines.append(f"{image}{suffix},{measured}.npy,{disparity}.npy,{fb}.npy\n")
    (folder / "train.csv").write_text("".join(lines))
    return rgb


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_idsia_depth_becomes_a_tof_reading_with_unseen_zones_marked(tmp_path: Path, suffix: str) -> None:
    depth = np.full((8, 8), 1.2346, np.float32)
    depth[0, :6] = [4.0, 5.5, -9.999, np.nan, 3.9, 0.001]
    rgb = write_idsia(tmp_path, [depth, depth + 1], suffix)
    frames = open_frames(tmp_path)
    assert len(frames) == 2
    np.testing.assert_array_equal(frames[0].rgb, rgb)
    tof = frames[0].tof
    assert tof is not None
    assert frames[0].depth is None
    assert tof.status[0].tolist() == [255, 255, 255, 255, 5, 5, 5, 5]
    assert tof.distance_mm[0].tolist() == [0, 0, 0, 0, 3900, 1, 1235, 1235]
    assert (tof.status[1:] == 5).all()


def test_a_folder_with_several_lists_asks_for_one(tmp_path: Path) -> None:
    write_idsia(tmp_path, [np.ones((8, 8), np.float32)] * 2)
    first = (tmp_path / "train.csv").read_text().splitlines()[0]
    (tmp_path / "test.csv").write_text(first + "\n\n")
    with pytest.raises(DataError, match=r"several lists \(test\.csv, train\.csv\); name one"):
        open_frames(tmp_path)
    assert len(open_frames(tmp_path / "test.csv")) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("img/0.png,depth/0.npy\n", "line 1 has 2 columns; 4 are expected"),
        ("img/0.png,depth/9.npy,disp/0.npy,fb/0.npy\n", "9.npy, which does not exist"),
        ("\x00\xff", "train.csv"),
    ],
)
def test_a_wrong_idsia_list_is_refused_when_it_is_opened(tmp_path: Path, text: str, said: str) -> None:
    write_idsia(tmp_path, [np.ones((8, 8), np.float32)])
    (tmp_path / "train.csv").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=re.escape(said)):
        open_frames(tmp_path)


def test_wrong_files_behind_an_idsia_list_are_named(tmp_path: Path) -> None:
    write_idsia(tmp_path, [np.ones((8, 8), np.float32)] * 4)
    (tmp_path / "img/0.png").write_bytes((tmp_path / "img/0.png").read_bytes()[:100])
    np.save(tmp_path / "depth/1.npy", np.ones((48, 48), np.float32))
    (tmp_path / "depth/2.npy").write_bytes((tmp_path / "depth/2.npy").read_bytes()[:-9])
    (tmp_path / "depth/3.npy").write_bytes(b"")
    frames = open_frames(tmp_path)
    for number, said in enumerate(
        [
            r"0\.png is no complete image",
            r"1\.npy must be a float array \(8, 8\) in metres, but is float32 \(48, 48\)",
            r"2\.npy is no complete",
            r"3\.npy is no complete",
        ]
    ):
        with pytest.raises(DataError, match=said):
            frames[number]


# --- TUM RGB-D


def write_tum(folder: Path, colour_times: list[float], depth_times: list[float]) -> None:
    for list_name, times in (("rgb", colour_times), ("depth", depth_times)):
        (folder / list_name).mkdir(parents=True)
        lines = ["# timestamp filename"]
        for number, time in enumerate(times):
            name = f"{list_name}/{time:.6f}.png"
            pixels = (
                np.full((6, 8, 3), number, np.uint8)
                if list_name == "rgb"
                else np.full((6, 8), 5000 + number, np.uint16)
            )
            Image.fromarray(pixels).save(folder / name)
            lines.append(f"{time:.6f} {name}")
        (folder / f"{list_name}.txt").write_text("\n".join(lines) + "\n")


def test_tum_pairs_each_colour_image_with_the_nearest_depth_within_20_ms(tmp_path: Path) -> None:
    write_tum(tmp_path, [10.000, 10.033, 10.100, 10.133], [9.995, 10.012, 10.040, 10.079, 10.1525])
    frames = open_frames(tmp_path)
    pairs = [(int(frame.rgb[0, 0, 0]), round(float(frame.depth[0, 0]) * 5000) - 5000) for frame in frames]
    assert pairs == [(0, 0), (1, 2), (3, 4)]
    assert frames[0].depth.dtype == np.float32
    assert (frames[0].depth == 1.0).all()


def test_tum_lists_that_do_not_match_are_refused(tmp_path: Path) -> None:
    write_tum(tmp_path, [10.0], [11.0])
    with pytest.raises(DataError, match="within 20 ms"):
        open_frames(tmp_path)
    (tmp_path / "depth.txt").write_text("10.0 depth/absent.png\n")
    with pytest.raises(DataError, match=r"line 1 names .*absent\.png"):
        open_frames(tmp_path)
    (tmp_path / "depth.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match=r"depth\.txt names no files"):
        open_frames(tmp_path)
    (tmp_path / "depth.txt").write_text("soon depth/x.png\n")
    with pytest.raises(DataError, match=r"line 1 is not of the form 'timestamp filename'"):
        open_frames(tmp_path)
    (tmp_path / "depth.txt").unlink()
    with pytest.raises(DataError, match=r"depth\.txt: No such file"):
        open_frames(tmp_path)


def test_tum_images_of_another_kind_or_size_are_named(tmp_path: Path) -> None:
    write_tum(tmp_path, [10.0, 11.0], [10.0, 11.0])
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "depth/10.000000.png")
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(tmp_path / "depth/11.000000.png")
    frames = open_frames(tmp_path)
    with pytest.raises(DataError, match="16-bit grey PNG"):
        frames[0]
    with pytest.raises(DataError, match=r"\(3, 4\) pixels.*both must agree"):
        frames[1]


# --- anything else


def test_a_path_that_is_no_data_set_says_what_would_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set at .*absent"):
        open_frames(tmp_path / "absent")
    with pytest.raises(DataError, match=r"\.npz file.*rgb\.txt"):
        open_frames(tmp_path)


def test_the_documents_example_runs_and_gives_the_data_set_that_it_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, DOCS.name, "exec"), scope)
    frames = open_frames(tmp_path / "my_frames.npz")
    assert len(frames) > 0
    assert frames[0].tof is not None
