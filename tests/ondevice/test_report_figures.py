"""Charts and images show the numbers that they are given."""

import statistics

import matplotlib
import numpy as np
import pytest
from recorded import plan

from ondevice import report_figures as figures
from ondevice.report_memory import peak, placed_tensors


def test_colours_are_those_of_the_colour_map_and_end_with_the_scale() -> None:
    values = np.array([[1.0, 1.5, 2.0, 9.0, -9.0, np.nan, 1.5, np.inf]])
    known = np.array([[True, True, True, True, True, True, False, True]])
    rgb = figures.coloured(values, known, 1.0, 2.0, "viridis")
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(1.0, 2.0), "viridis")
    expected = scale.to_rgba(np.array([1.0, 1.5, 2.0, 2.0, 1.0]), bytes=True)[:, :3]
    np.testing.assert_array_equal(rgb[0, :5], expected)
    assert rgb[0, 5:7].tolist() == [list(figures.UNKNOWN_RGB)] * 2
    np.testing.assert_array_equal(rgb[0, 7], expected[2])


@pytest.mark.parametrize("colours", [figures.DEPTH_COLOURS, figures.ERROR_COLOURS])
def test_unknown_is_far_from_every_colour_of_a_scale(colours: str) -> None:
    scale = matplotlib.colormaps[colours](np.linspace(0, 1, 256), bytes=True)[:, :3].astype(int)
    assert np.abs(scale - figures.UNKNOWN_RGB).max(-1).min() > 40


def test_the_running_median_is_the_median_around_each_value() -> None:
    values = np.random.default_rng(0).normal(size=40)
    median = figures.running_median(values, 7)
    for k in range(40):
        assert median[k] == statistics.median(values[max(k - 3, 0) : k + 4])


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.43), (0.0, 1e-9), (-2.5, 7.1), (0.0, 12_345.0)])
def test_a_linear_axis_holds_its_values_and_few_ticks(low: float, high: float) -> None:
    axis = figures.linear_axis("loss", low, high)
    assert 0 <= axis.share(low) <= axis.share(high) <= 1
    assert 3 <= len(axis.ticks) <= 8
    assert all(-1e-9 <= axis.share(tick) <= 1 + 1e-9 for tick in axis.ticks)


@pytest.mark.parametrize(("low", "high"), [(0.04, 1.7), (1e-7, 3e4), (1.0, 100.0), (0.9, 19.0), (2e-3, 1e-1)])
def test_a_logarithmic_axis_holds_its_values_and_few_ticks(low: float, high: float) -> None:
    axis = figures.log_axis("loss", low, high)
    assert 0 <= axis.share(low) < axis.share(high) <= 1
    assert 2 <= len(axis.ticks) <= 14
    assert all(-1e-9 <= axis.share(tick) <= 1 + 1e-9 for tick in axis.ticks)


def test_the_peak_is_the_step_with_the_most_live_bytes() -> None:
    tensors = placed_tensors(plan())
    live = [sum(t.bytes for t in tensors if t.first <= step <= t.last) for step in range(25)]
    assert peak(tensors) == (live.index(max(live)), max(live))
