import numpy as np
import pytest

from fieldtune.errors import DataError
from zoo.frames import Frame
from zoo.scenes import CLASSES, DEMO_SCENE, DOMAINS, SOURCE_DOMAINS, camera, render, sensor
from zoo.scenes.builder import material, shell, solid
from zoo.scenes.camera import Pose, look
from zoo.scenes.geometry import CLASS, Lighting, Scene
from zoo.tof import TofGeometry, project_zones, valid_zones

PLAIN = material(np.random.default_rng(0), ("plain",), (1, 2), (0.5, 0.5, 0.5))
DARK = Lighting((0, 0, 2), False, (0, 0, 0), (1, 1, 1), (0, 0, 0), 0)


def _room_with(*boxes: tuple[tuple[float, float, float], tuple[float, float, float], float]) -> Scene:
    walls = shell((5, 5, 2), PLAIN, [PLAIN] * 4, PLAIN, "wall", "ceiling")
    return Scene(
        [walls, *(solid(centre, half, yaw, PLAIN, "furniture") for centre, half, yaw in boxes)], DARK
    )


def _level(yaw: float) -> Pose:
    return Pose((0, 0, 2), yaw, 0, 0)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_frame_depends_on_its_seed_and_number_alone(domain: str) -> None:
    frame, again = render(domain, 5, 4)[3], render(domain, 5, 9)[1:][2]
    other = render(domain, 6, 4)[3]
    np.testing.assert_array_equal(frame.rgb, again.rgb)
    np.testing.assert_array_equal(frame.depth, again.depth)
    assert frame.tof is not None
    assert again.tof is not None
    np.testing.assert_array_equal(frame.tof.distance_mm, again.tof.distance_mm)
    assert (frame.rgb != other.rgb).mean() > 0.5


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_camera_never_enters_a_thing(domain: str) -> None:
    for seed in range(3):
        for frame in render(domain, seed, 120, size=16)[::8]:
            assert frame.depth is not None
            assert frame.depth[frame.depth > 0].min() > 0.15, frame.name


def test_a_wall_ahead_has_one_depth_wherever_the_pixel() -> None:
    hits = look(_room_with(), _level(0), 48)
    ahead = _room_with().classes[hits.box, hits.face] == CLASS["wall"]
    assert ahead.sum() > 1000
    middle = hits.distance[20:28]
    np.testing.assert_allclose(middle, 5, rtol=1e-5)


def test_floor_depth_is_height_over_slope() -> None:
    hits = look(_room_with(), _level(0.3), 48)
    slope = (np.arange(48) + 0.5 - 24) / camera.focal_length(48)
    floor = np.broadcast_to(2 / slope[40:, None], (8, 48))
    seen = hits.face[40:] == 4
    assert seen.any()
    np.testing.assert_allclose(hits.distance[40:][seen], floor[seen], rtol=1e-4)


def test_a_turned_box_shows_the_corner_that_points_at_the_camera() -> None:
    hits = look(_room_with(((3, 0, 2), (0.5, 0.5, 0.5), np.pi / 4)), _level(0), 97)
    assert hits.box[48, 48] == 1
    assert hits.distance[48, 48] == pytest.approx(3 - np.sqrt(0.5), abs=0.01)


def test_the_window_of_a_box_cuts_nothing_off() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        centre = (float(rng.uniform(0.7, 3)), float(rng.uniform(-2, 2)), float(rng.uniform(1, 3)))
        scene = _room_with((centre, (0.4, 0.9, 0.3), float(rng.uniform(0, 3))))
        pose = Pose((0, 0, 2), float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.4, 0.4)), 0.2)
        every = [(1, slice(None), slice(None))]
        origin = np.array(pose.position, np.float32)
        whole = camera.cast(scene, origin, camera.rays(pose, 40), every)
        np.testing.assert_array_equal(look(scene, pose, 40).box, whole.box)


def test_a_box_under_the_lamp_shades_the_floor() -> None:
    lamp = Lighting((2.5, 0, 3.8), False, (1, 1, 1), (0.1, 0.1, 0.1), (0, 0, 0), 0)
    bare = Scene([shell((5, 5, 2), PLAIN, [PLAIN] * 4, PLAIN, "wall", "ceiling")], lamp)
    table = Scene([*_boxes(bare), solid((2.5, 0, 1.5), (0.5, 0.5, 0.02), 0, PLAIN, "furniture")], lamp)
    pose = Pose((0, 0, 2), 0, -0.6, 0)
    brightness = []
    for scene in (bare, table):
        hits = look(scene, pose, 48)
        floor = (hits.box == 0) & (hits.face == 4)
        point = hits.distance[..., None] * camera.rays(pose, 48) + np.array(pose.position)
        under = floor & (np.abs(point[..., 0] - 2.5) < 0.3) & (np.abs(point[..., 1]) < 0.3)
        assert under.any()
        brightness.append(camera.paint(scene, pose, hits)[under].mean())
    assert brightness[1] < 0.6 * brightness[0]


def _boxes(_: Scene) -> list:  # type: ignore[type-arg]
    return [shell((5, 5, 2), PLAIN, [PLAIN] * 4, PLAIN, "wall", "ceiling")]


def _depths(domain: str) -> np.ndarray:  # type: ignore[type-arg]
    values = []
    for seed in range(6):
        for frame in render(domain, seed, 60, size=32)[::10]:
            assert frame.depth is not None
            values.append(frame.depth[frame.depth > 0])
    return np.concatenate(values)


def test_rooms_are_within_reach_of_the_sensor_and_sources_far_beyond() -> None:
    room = _depths("room")
    assert 1.5 < room.mean() < 2.6
    assert (room < 4).mean() > 0.85
    source = np.concatenate([_depths(domain) for domain in SOURCE_DOMAINS])
    assert source.mean() > 3 * room.mean()


def test_classes_are_named_and_only_the_sky_has_no_depth() -> None:
    for domain in DOMAINS:
        for frame in render(domain, 2, 30)[::10]:
            assert frame.classes is not None
            assert frame.depth is not None
            assert frame.classes.max() < len(CLASSES)
            np.testing.assert_array_equal(frame.depth == 0, frame.classes == CLASS["sky"])


def _flat(depth: float, seed: int = 0) -> Frame:
    plane = np.full((96, 96), depth, np.float32)
    return Frame(
        np.zeros((96, 96, 3), np.uint8), plane, tof=sensor.measure(plane, np.random.default_rng(seed))
    )


def test_tof_noise_is_two_percent_of_the_distance() -> None:
    readings = []
    for seed in range(30):
        tof = _flat(2.0, seed).tof
        assert tof is not None
        readings.append(tof.distance_mm[tof.status == 5])
    values = np.concatenate(readings)
    assert values.mean() == pytest.approx(2000, rel=0.005)
    assert values.std() == pytest.approx(40, rel=0.1)


@pytest.mark.parametrize("depth", [4.5, 0.0])
def test_tof_sees_no_target_beyond_four_metres_or_in_the_sky(depth: float) -> None:
    tof = _flat(depth).tof
    assert tof is not None
    assert (tof.status == 255).all()
    assert (tof.distance_mm == 0).all()


def test_some_good_readings_carry_a_bad_status() -> None:
    room = render("room", 0, 40)
    status = np.stack([frame.tof.status for frame in room[::4] if frame.tof is not None])
    assert 0.5 < (status == 5).mean() < 0.995


def test_labels_made_from_the_reading_lie_where_the_depth_is() -> None:
    """The projection of zoo.tof, flips and both fields of view, is the inverse of what the sensor does."""
    errors, mirrored = [], []
    for seed in range(4):
        for frame in render("room", seed, 40)[::8]:
            assert frame.tof is not None
            assert frame.depth is not None
            for geometry, found in ((sensor.GEOMETRY, errors), (_unflipped(), mirrored)):
                valid = valid_zones(frame.tof, geometry)
                label, known = project_zones(frame.tof.distance_mm / 1000, valid, geometry, 96, 96)
                found.append(np.abs(label - frame.depth)[known] / frame.depth[known])
    assert np.median(np.concatenate(errors)) < 0.03
    assert np.median(np.concatenate(mirrored)) > 0.1


def _unflipped() -> TofGeometry:
    return TofGeometry(sensor.GEOMETRY.camera_fov_deg, sensor.GEOMETRY.tof_fov_deg)


def test_an_unknown_domain_is_refused_with_the_list() -> None:
    with pytest.raises(DataError, match=", ".join(DOMAINS)):
        render("forest", 0, 1)


def test_the_demo_trains_and_tests_on_an_unseen_domain() -> None:
    assert DEMO_SCENE.domain not in SOURCE_DOMAINS
    assert DEMO_SCENE.steps <= 60
    assert DEMO_SCENE.test >= 50
