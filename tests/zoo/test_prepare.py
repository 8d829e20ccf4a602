from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.errors import DataError, ModelError
from zoo.frames import Frame, open_frames
from zoo.prepare import label, measured_depth, network_input, true_depth
from zoo.task import OutputSpec
from zoo.tof import TofFrame, TofGeometry

DISPARITY = OutputSpec("out", "disparity", "berhu", "tof", fb=80.0, max_depth=20.0)
DEPTH = OutputSpec("out", "depth", "l1", "truth", max_depth=20.0)
SEGMENTATION = OutputSpec("out", "segmentation", "cross_entropy", "truth")
SPAN = TofGeometry()


def grey(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[..., None], 3, -1).astype(np.uint8)


def with_depth(depth: np.ndarray) -> Frame:
    return Frame(np.zeros((*depth.shape, 3), np.uint8), depth=depth.astype(np.float32))


def with_tof(millimetres: int, status: int = 5) -> Frame:
    tof = TofFrame(np.full((8, 8), millimetres, np.int16), np.full((8, 8), status, np.uint8))
    return Frame(np.zeros((16, 16, 3), np.uint8), tof=tof)


# --- the network's input


def mean_over(image: np.ndarray, top: float, bottom: float, left: float, right: float) -> float:
    """The mean over a rectangle of a piecewise constant image, pixel by pixel."""
    total = 0.0
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            h = max(0.0, min(bottom, row + 1) - max(top, row))
            w = max(0.0, min(right, column + 1) - max(left, column))
            total += h * w * float(image[row, column])
    return total / ((bottom - top) * (right - left))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(1, 13), st.integers(1, 13), st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_input_is_the_mean_over_each_pixels_area_at_any_ratio(
    h: int, w: int, height: int, width: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)
    got = network_input(Frame(image), height, width)
    assert (got.shape, got.dtype) == ((height, width, 3), np.uint8)
    for i in range(height):
        for j in range(width):
            area = (i * h / height, (i + 1) * h / height, j * w / width, (j + 1) * w / width)
            exact = mean_over(image[..., 1], *area)
            assert abs(got[i, j, 1] - exact) <= 0.5 + 1e-9


@pytest.mark.parametrize("ratio", [2, 6, 10])
def test_input_rounds_halves_to_even(ratio: int) -> None:
    # Half of each area is n, half n + 1: a tie at every ratio, also where 1 / ratio is no binary fraction.
    image = np.tile(np.repeat(np.arange(8), ratio)[None, :], (ratio, 1))
    image[: ratio // 2] += 1
    assert network_input(Frame(grey(image)), 1, 8)[0, :, 0].tolist() == [0, 2, 2, 4, 4, 6, 6, 8]


def test_a_frame_of_the_networks_size_is_passed_on_unchanged() -> None:
    image = np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8)
    np.testing.assert_array_equal(network_input(Frame(image), 48, 48), image)


# --- depth


def test_true_depth_averages_what_is_known_and_needs_half_of_the_area() -> None:
    depth = np.array([[1, 0, 0, 0], [3, 0, 0, 5], [2, 2, 0, 0], [2, 4, 0, 0]])
    np.testing.assert_allclose(true_depth(with_depth(depth), 2, 2), [[2, 0], [2.5, 0]])


def test_true_depth_at_a_ratio_that_is_no_integer() -> None:
    # Areas of 1.5 pixels: two thirds of the first, one half and the other half, two thirds of the last.
    got = true_depth(with_depth(np.array([[1.0, 4.0, 0.0]])), 1, 2)
    np.testing.assert_allclose(got, [[(1 + 0.5 * 4) / 1.5, 0]])


def test_depth_of_a_frame_without_any_is_refused_and_measured_depth_then_takes_the_zones() -> None:
    with pytest.raises(DataError, match="no true depth"):
        true_depth(with_tof(1500), 4, 4)
    np.testing.assert_allclose(measured_depth(with_tof(1500), 4, 4, SPAN), 1.5)
    np.testing.assert_allclose(measured_depth(with_tof(1500, status=255), 4, 4, SPAN), 0)
    np.testing.assert_allclose(measured_depth(with_depth(np.full((4, 4), 2.0)), 2, 2, SPAN), 2)


@pytest.mark.parametrize(
    ("crop", "size", "box"),
    [
        ("garg", (375, 1242), (153, 371, 44, 1197)),
        ("garg", (370, 1224), (151, 366, 43, 1180)),  # 366.9999993 and 43.999997: everyone cuts them off
        ("eigen", (375, 1242), (124, 342, 44, 1197)),
        ("nyu", (480, 640), (45, 471, 41, 601)),
    ],
)
def test_true_depth_is_judged_in_the_published_part_of_the_frame(
    crop: str, size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    got = measured_depth(with_depth(np.full(size, 3.0)), *size, SPAN, crop)
    rows, columns = np.nonzero(got)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == box
    assert np.count_nonzero(got) == (box[1] - box[0]) * (box[3] - box[2])
    whole = measured_depth(with_depth(np.full(size, 3.0)), *size, SPAN)
    assert whole.all()


def test_sparse_depth_makes_a_pixel_known_where_a_single_point_lies() -> None:
    depth = np.zeros((8, 8), np.float32)
    depth[1, 1], depth[2, 3], depth[7, 7] = 2, 4, 5
    frame = with_depth(depth)
    assert not true_depth(frame, 2, 2).any()
    np.testing.assert_allclose(true_depth(replace(frame, sparse_depth=True), 2, 2), [[3, 0], [0, 5]])


# --- labels


def test_disparity_is_fb_over_depth_and_takes_nothing_as_nearer_than_5_cm() -> None:
    for millimetres, disparity in [(2000, 40.0), (50, 1600.0), (20, 1600.0)]:
        target, mask = label(with_tof(millimetres), DISPARITY, (6, 6, 1), SPAN) or pytest.fail("unknown")
        assert (target.shape, target.dtype, mask.shape, mask.dtype) == (
            (6, 6, 1),
            np.float32,
            (6, 6, 1),
            np.uint8,
        )
        np.testing.assert_allclose(target, disparity)
        assert (mask == 1).all()


def test_zones_are_interpolated_in_the_networks_own_unit() -> None:
    frame = with_tof(1000)
    assert frame.tof is not None
    frame.tof.distance_mm[:, 4:] = 3000
    disparity, _ = label(frame, DISPARITY, (1, 7, 1), SPAN) or pytest.fail("unknown")
    assert disparity[0, 3, 0] == pytest.approx((80 / 1 + 80 / 3) / 2)
    depth, _ = label(frame, OutputSpec("out", "depth", "l1", "tof"), (1, 7, 1), SPAN) or pytest.fail(
        "unknown"
    )
    assert depth[0, 3, 0] == pytest.approx(2.0)


def test_a_frame_of_which_nothing_is_known_has_no_label() -> None:
    assert label(with_tof(1000, status=255), DISPARITY, (6, 6, 1), SPAN) is None
    assert label(with_depth(np.zeros((4, 4))), DEPTH, (2, 2, 1), SPAN) is None
    unknown = Frame(np.zeros((2, 2, 3), np.uint8), classes=np.full((2, 2), 255, np.uint8))
    assert label(unknown, SEGMENTATION, (1, 1, 3), SPAN) is None
    value = Frame(np.zeros((2, 2, 3), np.uint8), target=np.array([np.nan], np.float32))
    assert label(value, OutputSpec("out", "value", "mse", "truth"), (1, 1, 1), SPAN) is None
    assert label(value, OutputSpec("out", "class", "cross_entropy", "truth"), (1, 1, 3), SPAN) is None


def test_truth_labels_count_only_where_depth_is_known() -> None:
    frame = with_depth(np.array([[2.0, 0.0], [4.0, 8.0]]))
    target, mask = label(frame, DEPTH, (2, 2, 1), SPAN) or pytest.fail("unknown")
    assert (target[..., 0].tolist(), mask[..., 0].tolist()) == ([[2, 0], [4, 8]], [[1, 0], [1, 1]])
    spec = OutputSpec("out", "disparity", "berhu", "truth", fb=80.0)
    target, mask = label(frame, spec, (2, 2, 1), SPAN) or pytest.fail("unknown")
    assert (target[..., 0].tolist(), mask[..., 0].tolist()) == ([[40, 0], [20, 10]], [[1, 0], [1, 1]])


def test_segmentation_takes_the_class_with_the_largest_area_among_the_known() -> None:
    classes = np.array([[0, 2, 2, 255], [1, 2, 255, 255], [1, 1, 0, 3], [1, 1, 255, 3]], np.uint8)
    frame = Frame(np.zeros((4, 4, 3), np.uint8), classes=classes)
    target, mask = label(frame, SEGMENTATION, (2, 2, 4), SPAN) or pytest.fail("unknown")
    assert (target.dtype, target.shape) == (np.int32, (2, 2, 1))
    assert (target[..., 0].tolist(), mask[..., 0].tolist()) == ([[2, 0], [1, 3]], [[1, 0], [1, 1]])
    with pytest.raises(DataError, match="class 3, but the network tells only 3"):
        label(frame, SEGMENTATION, (2, 2, 3), SPAN)
    with pytest.raises(DataError, match="no classes"):
        label(with_tof(1000), SEGMENTATION, (2, 2, 4), SPAN)


def test_class_and_value_take_the_frames_target() -> None:
    rgb = np.zeros((2, 2, 3), np.uint8)
    spec = OutputSpec("out", "class", "cross_entropy", "truth")
    frame = Frame(rgb, target=np.array([2], np.float32))
    target, mask = label(frame, spec, (1, 1, 3), SPAN) or pytest.fail("unknown")
    assert (target.tolist(), target.dtype, mask.tolist()) == ([[[2]]], np.int32, [[[1]]])
    for wrong in (3.0, -1.0, 0.5):
        with pytest.raises(DataError, match="class"):
            label(Frame(rgb, target=np.array([wrong], np.float32)), spec, (1, 1, 3), SPAN)

    spec = OutputSpec("out", "value", "mse", "truth")
    frame = Frame(rgb, target=np.array([1.5, np.nan], np.float32))
    target, mask = label(frame, spec, (1, 1, 2), SPAN) or pytest.fail("unknown")
    assert (target.tolist(), mask.tolist()) == ([[[1.5, 0]]], [[[1, 0]]])
    with pytest.raises(DataError, match="target of 2 numbers, but the network has 3"):
        label(frame, spec, (1, 1, 3), SPAN)
    with pytest.raises(DataError, match="no target"):
        label(with_tof(1000), spec, (1, 1, 1), SPAN)


def test_a_depth_output_with_several_channels_is_refused() -> None:
    with pytest.raises(ModelError, match="2 channels"):
        label(with_tof(1000), DISPARITY, (6, 6, 2), SPAN)
    with pytest.raises(DataError, match="no ToF reading"):
        label(with_depth(np.ones((4, 4))), DISPARITY, (2, 2, 1), SPAN)


# --- against the reference script, on its 350 real frames


def test_inputs_depth_and_labels_of_the_room_are_the_references(
    room_npz: Path, reference: ModuleType
) -> None:
    room = open_frames(room_npz)
    x, depth, disparity = (tensor.numpy() for tensor in reference.frames(room_npz))
    assert len(room) == len(x)
    for frame, image, true, target in zip(room, x, depth, disparity, strict=True):
        # The reference does not round the averaged pixel.
        assert (
            np.abs(network_input(frame, 48, 48) / 255.0 - image.transpose(1, 2, 0)).max() <= 0.5 / 255 + 1e-6
        )
        np.testing.assert_allclose(true_depth(frame, 48, 48), true[0], rtol=1e-6)
        got = label(frame, DISPARITY, (48, 48, 1), room.geometry)
        assert got is not None
        np.testing.assert_array_equal(got[1][..., 0] == 1, target[0] != -1)
        np.testing.assert_allclose(np.where(got[1], got[0], -1)[..., 0], target[0], rtol=1e-6)
