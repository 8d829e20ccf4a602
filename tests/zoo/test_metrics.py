import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fieldtune.errors import DataError
from zoo.frames import open_frames
from zoo.metrics import (
    class_metrics,
    delta_mtl,
    depth_metrics,
    depth_metrics_per_image,
    mean_map,
    scale_factor,
    to_depth,
)
from zoo.prepare import true_depth
from zoo.task import OutputSpec

DISPARITY = OutputSpec("out", "disparity", "berhu", "tof", fb=80.0, max_depth=20.0)
DEPTH = OutputSpec("out", "depth", "berhu", "tof", max_depth=20.0)


def test_metrics_of_three_pixels_by_hand() -> None:
    got = depth_metrics(np.array([[1.0, 3.0], [2.4, 9.0]]), np.array([[2.0, 3.0], [2.0, 0.0]]))
    assert got.pixels == 3
    assert got.rmse == pytest.approx(math.sqrt((1 + 0 + 0.16) / 3))
    assert got.abs_rel == pytest.approx((0.5 + 0 + 0.2) / 3)
    assert got.delta1 == pytest.approx(2 / 3)
    assert got.sq_rel == pytest.approx((1 / 2 + 0 + 0.16 / 2) / 3)
    assert got.rmse_log == pytest.approx(math.sqrt((math.log(2) ** 2 + 0 + math.log(1.2) ** 2) / 3))


@pytest.mark.parametrize(
    ("ratio", "deltas"),
    [
        (1.24, (1, 1, 1)),
        (1.26, (0, 1, 1)),
        (1.55, (0, 1, 1)),
        (1.57, (0, 0, 1)),
        (1.95, (0, 0, 1)),
        (1.96, (0, 0, 0)),
    ],
)
def test_deltas_are_the_shares_below_powers_of_a_quarter_too_much_or_too_little(
    ratio: float, deltas: tuple[int, int, int]
) -> None:
    truth = np.full((1, 2, 2), 4.0)
    for predicted in (truth * ratio, truth / ratio):
        got = depth_metrics(predicted, truth)
        assert (got.delta1, got.delta2, got.delta3) == deltas


def test_metrics_are_pooled_over_pixels_not_averaged_over_frames() -> None:
    truth = np.ones((2, 4, 4))
    truth[1] = 0
    truth[1, 0, 0] = 1
    predicted = np.stack([np.ones((4, 4)), np.full((4, 4), 2.0)])
    assert depth_metrics(predicted, truth).abs_rel == pytest.approx(1 / 17)


def per_image(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """abs_rel, sq_rel, RMSE, RMSE of logarithms and deltas, image by image as monodepth2 averages them."""
    rows = []
    for prediction, depth in zip(predicted, truth, strict=True):
        valid = depth > 0
        if not valid.any():
            continue
        gt, pred = depth[valid], prediction[valid]
        threshold = np.maximum(gt / pred, pred / gt)
        rows.append(
            [
                np.mean(np.abs(gt - pred) / gt),
                np.mean((gt - pred) ** 2 / gt),
                np.sqrt(np.mean((gt - pred) ** 2)),
                np.sqrt(np.mean((np.log(gt) - np.log(pred)) ** 2)),
                *(np.mean(threshold < 1.25**power) for power in (1, 2, 3)),
            ]
        )
    return np.mean(rows, 0)


def test_means_over_images_are_those_of_formulas_for_one_image() -> None:
    rng = np.random.default_rng(6)
    truth = rng.uniform(0.5, 10, (7, 9, 11))
    truth[rng.random(truth.shape) < np.linspace(0, 0.95, 7)[:, None, None]] = 0
    truth[3] = 0
    predicted = np.where(truth > 0, truth, 5) * rng.lognormal(0, 0.3, truth.shape)
    got = depth_metrics_per_image(predicted, truth)
    found = [got.abs_rel, got.sq_rel, got.rmse, got.rmse_log, got.delta1, got.delta2, got.delta3]
    np.testing.assert_allclose(found, per_image(predicted, truth), rtol=1e-12)
    assert got.pixels == np.count_nonzero(truth)
    assert got.rmse != pytest.approx(depth_metrics(predicted, truth).rmse, rel=1e-3)


def test_a_pixel_counts_if_its_truth_is_known_and_only_then() -> None:
    truth = np.array([[[2.0, 0.0, 4.0]]])
    # FastDepth's evaluation takes pixels with truth or prediction above 0: the second's error is infinite.
    for got in (
        depth_metrics(np.array([[[2.0, 7.0, 1e-3]]]), truth),
        depth_metrics_per_image(np.array([[[2.0, 7.0, 1e-3]]]), truth),
    ):
        assert got.pixels == 2
        assert got.abs_rel == pytest.approx((0 + 3.999 / 4) / 2)
        assert math.isfinite(got.rmse_log)


def test_a_prediction_of_nothing_is_taken_as_the_greatest_depth_and_counts() -> None:
    np.testing.assert_allclose(
        to_depth(np.array([0.0, -3.0, 2.0, 4.0, 80.0]), DISPARITY), [20, 20, 20, 20, 1]
    )
    np.testing.assert_allclose(to_depth(np.array([0.0, -3.0, 2.0, 25.0]), DEPTH), [1e-3, 1e-3, 2, 20])
    with pytest.raises(DataError, match='"class", which has no depth'):
        to_depth(np.zeros(3), OutputSpec("out", "class", "cross_entropy", "truth"))


def test_a_network_that_has_diverged_shows_in_every_metric() -> None:
    predicted = to_depth(np.array([40.0, np.nan]), DISPARITY)
    got = depth_metrics(predicted, np.array([2.0, 2.0]))
    assert math.isnan(got.rmse)
    assert math.isnan(got.abs_rel)
    assert got.delta1 == 0.5


def test_the_mean_map_uses_known_pixels_only_and_falls_back_on_the_mean_of_all() -> None:
    truths = np.array([[[1.0, 0.0, 0.0]], [[3.0, 5.0, 0.0]]])
    np.testing.assert_allclose(mean_map(truths), [[2, 5, 3]])


def test_the_scale_factor_is_the_median_ratio_of_known_pixels() -> None:
    assert scale_factor(np.array([1.0, 2.0, 1.0, 7.0]), np.array([3.0, 4.0, 10.0, 0.0])) == 3.0


def test_classes_are_compared_where_they_are_known() -> None:
    truth = np.array([[0, 0, 1, 1], [2, 2, 2, 9]])
    predicted = np.array([[0, 1, 1, 1], [2, 2, 0, 4]])
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.uint8)
    got = class_metrics(predicted, truth, mask)
    assert got.pixels == 7
    assert got.accuracy == pytest.approx(5 / 7)
    assert got.miou == pytest.approx((1 / 3 + 2 / 3 + 2 / 3) / 3)


def test_classes_that_are_only_predicted_count_as_missed_and_absent_ones_do_not() -> None:
    truth, mask = np.array([0, 0, 0, 0]), np.ones(4, np.uint8)
    assert class_metrics(np.array([0, 0, 0, 7]), truth, mask).miou == pytest.approx((3 / 4 + 0) / 2)
    assert class_metrics(truth, truth, mask).miou == 1


def test_delta_mtl_is_the_mean_relative_gain_in_per_cent() -> None:
    # Depth RMSE 10 % worse, mIoU 5 % better, accuracy equal.
    got = delta_mtl([0.55, 0.42, 0.9], [0.5, 0.4, 0.9], [True, False, False])
    assert got == pytest.approx((-10 + 5 + 0) / 3)
    assert delta_mtl([0.4], [0.5], [True]) == pytest.approx(20)
    assert math.isnan(delta_mtl([math.nan, 1], [1, 1], [True, True]))


def test_delta_mtl_needs_one_twin_a_task() -> None:
    for multi, single, lower in (([], [], []), ([1.0], [1.0, 2.0], [True]), ([1.0], [1.0], [])):
        with pytest.raises(DataError, match="a metric of each task is needed"):
            delta_mtl(multi, single, lower)
    for twin in (0.0, math.nan, math.inf):
        with pytest.raises(DataError, match="must be finite and not 0"):
            delta_mtl([1.0], [twin], [True])


def test_nothing_known_and_shapes_that_differ_are_refused() -> None:
    with pytest.raises(DataError, match="nothing to compare"):
        depth_metrics(np.ones((2, 2)), np.zeros((2, 2)))
    with pytest.raises(DataError, match="nothing to compare"):
        depth_metrics_per_image(np.ones((1, 2, 2)), np.zeros((1, 2, 2)))
    with pytest.raises(DataError, match="must agree"):
        depth_metrics(np.ones((2, 2, 1)), np.ones((2, 2)))
    with pytest.raises(DataError, match="mean map"):
        mean_map(np.zeros((3, 2, 2)))
    with pytest.raises(DataError, match="nothing to compare"):
        class_metrics(np.zeros(3, int), np.zeros(3, int), np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="must agree"):
        class_metrics(np.zeros(3, int), np.zeros(2, int), np.zeros(3, np.uint8))


def test_the_rooms_mean_map_has_the_published_error(room_npz: Path) -> None:
    truths = [true_depth(frame, 48, 48) for frame in open_frames(room_npz)]
    test = np.stack(truths[-100:])
    got = depth_metrics(np.broadcast_to(mean_map(truths[:250]), test.shape), test)
    assert (round(got.rmse, 3), round(got.abs_rel, 3), round(got.delta1, 3)) == (0.373, 0.208, 0.596)


def test_metrics_are_the_references(reference: ModuleType) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    disparity = rng.uniform(-5, 120, (6, 1, 9, 9)).astype(np.float32)
    truth = np.where(rng.random((6, 1, 9, 9)) < 0.7, rng.uniform(0.3, 25, (6, 1, 9, 9)), 0).astype(np.float32)
    expected = reference.metrics(lambda x: x, torch.tensor(disparity), torch.tensor(truth)).numpy()
    got = depth_metrics(to_depth(disparity, DISPARITY), truth)
    np.testing.assert_allclose([got.rmse, got.abs_rel, got.delta1], expected, rtol=1e-5)
