"""A folder of parts is one data set, also when it was written in several goes."""

from pathlib import Path

import pytest
from tiny import tiny_frames

from fieldtune.errors import DataError
from zoo.frames import Frames, open_frames
from zoo.loaders.parts import Parts
from zoo.tof import TofGeometry

GEOMETRY = TofGeometry((57.0, 44.0), (45.0, 45.0), True)


def test_parts_written_in_several_goes_are_one_data_set_in_order(tmp_path: Path) -> None:
    frames = tiny_frames(11)
    for first, end in ((0, 5), (5, 6), (6, 11)):
        parts = Parts(tmp_path, GEOMETRY, 3)
        assert parts.count == first
        for frame in frames[first:end]:
            parts.add(frame)
        parts.flush()
    found = open_frames(tmp_path)
    assert (len(found), found.geometry) == (11, GEOMETRY)
    for index in (10, 0, 3, 7):
        assert (found[index].rgb == frames[index].rgb).all()
        a, b = found[index].tof, frames[index].tof
        assert a is not None
        assert b is not None
        assert (a.distance_mm == b.distance_mm).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"frames-{k:05d}.npz" for k in range(5)]


def test_a_frame_that_was_not_flushed_is_not_there_and_nothing_is_half_there(tmp_path: Path) -> None:
    parts = Parts(tmp_path, GEOMETRY, 3)
    for frame in tiny_frames(5):
        parts.add(frame)
    assert len(open_frames(tmp_path)) == 3


def test_parts_of_different_sizes_or_damaged_ones_are_named(tmp_path: Path) -> None:
    for size in (24, 32):
        parts = Parts(tmp_path, GEOMETRY, 2)
        for frame in Frames.of(list(tiny_frames(2, size=size))):
            parts.add(frame)
    with pytest.raises(DataError, match=r"frames-00001.npz has frames of \(32, 32, 3\)"):
        open_frames(tmp_path)
    (tmp_path / "frames-00001.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"frames-00001.npz"):
        open_frames(tmp_path)
