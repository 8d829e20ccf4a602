"""A board that watches with its depth sensor off notices a new scene; its bits are those of the host."""

from pathlib import Path

import numpy as np
import pytest
from quick_board import quick_board
from tiny import tiny_frames, write_tiny

from fieldtune.errors import UserError
from firmware_gen.field import Buffer
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.alone import DepthPower, check_work
from ondevice.device import Hyper
from ondevice.drift import Drift, describe
from ondevice.field import FieldBoard, Work
from ondevice.recording import write_recording
from ondevice.workbench import open_board
from zoo.frames import Frame, Frames
from zoo.prepare import network_input

OFF, ON, ROUND = 2.0, 4.0, 6
SIZE = 18  # no multiple of the grid


def scenes() -> Frames:
    """Forty pictures of one scene, then twenty of another: the same with the light turned down to a third."""
    random = np.random.default_rng(4)
    frames = []
    for k, frame in enumerate(tiny_frames(60)):
        base = np.indices((24, 24)).sum(0)[..., None] * 4.0 + random.normal(0, 6, (24, 24, 3))
        rgb = (base / 3 if k >= 40 else base).clip(0, 255).astype(np.uint8)
        frames.append(Frame(rgb, tof=frame.tof))
    return Frames.of(frames)


def rehearsed(frames: Frames) -> tuple[int, int, list[int], float]:
    """Return pictures watched, samples taken, where the sensor went on, and the drift at last."""
    twin, watched, taken, began, watching, left = Drift(), 0, 0, [], False, ROUND
    for k, frame in enumerate(frames):
        features = twin.see(network_input(frame, SIZE, SIZE))
        if watching:
            watched += 1
            if twin.drift > np.float32(ON):
                watching, left = False, ROUND
                began.append(k)
            continue
        twin.learn(features)
        taken, left = taken + 1, left - 1
        if left == 0:
            watching, left = twin.drift < np.float32(OFF), ROUND
    return watched, taken, began, float(twin.drift)


def test_the_sensor_is_off_while_nothing_is_new_and_on_when_the_scene_changes(tmp_path: Path) -> None:
    frames = scenes()
    watched, taken, began, drift = rehearsed(frames)
    assert watched > 20
    assert began[0] in range(40, 50)  # not before the change, and soon after it
    assert len(began) == 1
    network = load_network(write_tiny(tmp_path / "tiny.onnx", size=SIZE))
    plan = plan_network(network, quick_board("native"), parse_update("depth"), buffer=Buffer(ROUND))
    write_recording(tmp_path / "recording.bin", frames)
    with open_board(plan, tmp_path / "firmware", recording=tmp_path / "recording.bin") as device:
        board = FieldBoard(device)
        device.set_hyper(Hyper(0.01))
        board.start(Work(0, ROUND, 3, drift_on=ON, drift_off=OFF))
        while (now := board.progress()).samples + now.watched < len(frames):
            pass
        while board.progress().phase not in ("collecting", "watching"):
            pass
        done = board.stop()
        assert (done.watched, done.samples, done.drift) == (watched, taken, drift)
        assert done.sensor_off == watched / len(frames)
        board.start(Work(1, 0, 0))  # nothing to watch for
        while not (now := board.progress()).at_rest:
            pass
        assert now.watched == 0


def test_a_description_is_the_mean_of_each_cell_and_channel() -> None:
    random = np.random.default_rng(2)
    picture = random.integers(0, 256, (8, 12, 3)).astype(np.uint8)
    cells = picture.reshape(4, 2, 4, 3, 3).mean((1, 3))
    np.testing.assert_allclose(describe(picture), cells.reshape(-1), rtol=1e-6)


def test_pictures_of_the_same_kind_drift_by_about_one_and_others_by_far_more() -> None:
    random = np.random.default_rng(8)
    draw = lambda light: random.normal(light, 9, (16, 16, 3)).clip(0, 255).astype(np.uint8)  # noqa: E731
    drift = Drift()
    for _ in range(60):
        drift.learn(drift.see(draw(120)))
    for _ in range(60):
        drift.see(draw(120))
    assert 0.7 < drift.drift < 1.4
    for _ in range(12):
        drift.see(draw(150))
    assert drift.drift > 20


def test_thresholds_are_checked_and_savings_are_what_the_figures_say(tmp_path: Path) -> None:
    network = load_network(write_tiny(tmp_path / "tiny.onnx"))
    plan = plan_network(network, quick_board("native"), parse_update("depth"), buffer=Buffer(ROUND))
    with pytest.raises(UserError, match="the lower first"):
        check_work(Work(1, 2, drift_on=2.0, drift_off=4.0), plan, None)
    assert DepthPower(200.0, 15.0).saved(30) == 0.4
