import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.errors import DataError
from zoo.tof import TofFrame, TofGeometry, project_zones, valid_zones

ALL = np.ones((8, 8), bool)
NARROW = TofGeometry(camera_fov_deg=(57.0, 57.0), tof_fov_deg=(44.5, 44.5))


def reading(distance: int = 1000, status: int = 5) -> TofFrame:
    return TofFrame(np.full((8, 8), distance, np.int16), np.full((8, 8), status, np.uint8))


def test_only_zones_with_a_good_status_and_a_distance_in_range_are_valid() -> None:
    tof = reading()
    tof.status[0] = [0, 1, 4, 5, 6, 9, 12, 255]
    tof.distance_mm[1] = [-5, 0, 1, 3999, 4000, 4001, 32767, 20]
    valid = valid_zones(tof, TofGeometry())
    assert valid[0].tolist() == [False, False, False, True, False, True, False, False]
    assert valid[1].tolist() == [False, False, True, True, False, False, False, True]
    assert valid[2:].all()
    assert valid_zones(tof, TofGeometry(valid_status=(6,), max_range_m=2.0)).sum() == 1


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_without_fields_of_view_the_map_is_torchs_bilinear_interpolation(h: int, w: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.1, 1600, (8, 8)).astype(np.float32)
    valid = rng.random((8, 8)) < 0.9
    up = lambda a: torch.nn.functional.interpolate(  # noqa: E731
        torch.tensor(a)[None, None], size=(h, w), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    known = up(valid.astype(np.float32)) > 0.999
    got, got_known = project_zones(values, valid, TofGeometry(), h, w)
    np.testing.assert_array_equal(got_known, known)
    np.testing.assert_allclose(
        got[known], up(np.where(valid, values, 0).astype(np.float32))[known], rtol=2e-5
    )
    assert not got[~known].any()


def test_an_invalid_zone_leaves_no_trace_in_the_pixels_that_count() -> None:
    valid = ALL.copy()
    valid[3, 4] = False
    values = np.ones((8, 8))
    values[3, 4] = math.nan
    depth, known = project_zones(values, valid, TofGeometry(), 48, 48)
    assert (depth[known] == 1).all()
    # The zone is 6 pixels wide and reaches, with weight above 0, to half a zone further on each side.
    rows, columns = np.nonzero(~known)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (15, 26, 21, 32)
    assert (~known).sum() == 12 * 12


# Zone edges of a 44.5 degree sensor in pixels of a 57 degree camera 48 pixels wide, computed by hand.
EDGES = [5.92, 10.75, 15.31, 19.70, 24.00, 28.30, 32.69, 37.25, 42.08]


@pytest.mark.parametrize("axis", [0, 1])
def test_zone_edges_fall_where_the_pinhole_camera_puts_them(axis: int) -> None:
    number = np.broadcast_to(np.arange(8.0), (8, 8))
    zone, known = project_zones(number if axis else number.T, ALL, NARROW, 480, 480)
    profile, seen = np.take(zone, 240, 1 - axis), np.take(known, 240, 1 - axis)
    covered = np.nonzero(seen)[0]
    crossings = [(profile[seen] < k - 0.5).sum() + covered[0] for k in range(1, 8)]
    found = np.array([covered[0], *crossings, covered[-1] + 1]) / 10
    np.testing.assert_allclose(found, EDGES, atol=0.06)


def test_zone_numbers_come_out_at_their_projected_centres() -> None:
    values = np.tile(np.arange(8.0), (8, 1))
    zone, _ = project_zones(values, ALL, NARROW, 48, 4800)
    focal = 2400 / math.tan(math.radians(57 / 2))
    for k in range(8):
        u = 2400 + focal * math.tan(math.radians((k - 3.5) * 44.5 / 8))
        assert zone[24, int(u)] == pytest.approx(k, abs=0.01)


def test_a_wall_tilted_about_the_vertical_is_found_where_it_is() -> None:
    # z = 2 / (1 - 0.5 tan(angle)): inverse depth is linear in the pixel, nearly so too in the angle.
    angles = np.radians((np.arange(8) - 3.5) * 44.5 / 8)
    inverse = np.tile((1 - 0.5 * np.tan(angles)) / 2, (8, 1))
    got, known = project_zones(inverse, ALL, NARROW, 48, 48)
    slope = (np.arange(48) + 0.5 - 24) / 24 * math.tan(math.radians(57 / 2))
    inner = known[24] & (np.abs(slope) < abs(math.tan(angles[0])))
    np.testing.assert_allclose(got[24][inner], ((1 - 0.5 * slope) / 2)[inner], atol=5e-4)


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("vertical", [False, True])
def test_flips_bring_a_near_corner_zone_to_the_opposite_side(horizontal: bool, vertical: bool) -> None:
    values, valid = np.full((8, 8), 3.0), ALL.copy()
    values[0, 0], valid[7, 7] = 0.5, False
    depth, known = project_zones(
        values, valid, TofGeometry(flip_horizontal=horizontal, flip_vertical=vertical), 48, 48
    )
    row, column = (-1 if vertical else 0), (-1 if horizontal else 0)
    assert depth[row, column] == 0.5
    assert not known[-1 - row, -1 - column]
    assert (depth[-1 - row, column], depth[row, -1 - column]) == (3.0, 3.0)


def test_impossible_readings_and_geometries_are_refused() -> None:
    with pytest.raises(DataError, match=r"distance_mm must be int16 \(8, 8\), but is int16 \(4, 4\)"):
        TofFrame(np.zeros((4, 4), np.int16), np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"status must be uint8"):
        TofFrame(np.zeros((8, 8), np.int16), np.zeros((8, 8), np.int16))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="together"):
        TofGeometry(camera_fov_deg=(57.0, 44.0))
    with pytest.raises(DataError, match="tof_fov_deg"):
        TofGeometry(camera_fov_deg=(57.0, 44.0), tof_fov_deg=(0.0, 45.0))
    with pytest.raises(DataError, match="max_range_m"):
        TofGeometry(max_range_m=0.0)
