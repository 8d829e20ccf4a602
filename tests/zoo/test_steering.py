from pathlib import Path

import numpy as np
import pytest

from zoo.frames import open_frames
from zoo.scenes import STEERING, render
from zoo.scenes.__main__ import main
from zoo.scenes.steering import MIRRORED, steering


def _thirds(left: float, ahead: float, right: float) -> np.ndarray:  # type: ignore[type-arg]
    """A depth image of three upright walls, above a floor that is near."""
    depth = np.repeat(np.array([left, ahead, right], np.float32), 16)[None].repeat(48, 0)
    depth[24:] = 0.5
    return depth


@pytest.mark.parametrize(
    ("depths", "command"),
    [
        ((3.0, 2.0, 2.5), "left"),
        ((2.0, 3.0, 2.5), "ahead"),
        ((2.0, 2.5, 3.0), "right"),
        ((1.6, 1.2, 1.5), "stop"),
        ((0.0, 9.0, 9.0), "left"),  # sky is farther than anything
        ((2.0, 2.0, 2.0), "ahead"),
    ],
)
def test_the_farthest_third_is_taken_if_it_is_far_enough(
    depths: tuple[float, float, float], command: str
) -> None:
    assert STEERING[steering(_thirds(*depths))] == command


def test_a_thin_pole_in_a_third_closes_it_but_a_speck_does_not() -> None:
    pole, speck = _thirds(5, 3, 3), _thirds(5, 3, 3)
    pole[:, 4:7] = 1
    speck[10:14, 4:7] = 1
    assert STEERING[steering(pole)] == "ahead"
    assert STEERING[steering(speck)] == "left"


def test_a_mirrored_image_gets_the_mirrored_command() -> None:
    random = np.random.default_rng(0)
    commands = set()
    for _ in range(50):
        depth = _thirds(*random.uniform(1, 2.5, 3))
        commands.add(steering(depth))
        assert steering(depth[:, ::-1]) == MIRRORED[steering(depth)]
    assert commands == {0, 1, 2, 3}


def test_rooms_ask_for_each_command_about_equally_often() -> None:
    targets = [frame.target for seed in range(15) for frame in render("room", seed, 70, size=24)[::7]]
    shares = np.bincount(np.concatenate(targets).astype(int), minlength=4) / len(targets)
    assert shares.min() > 0.15
    assert shares.max() < 0.35


def test_the_command_writes_what_the_renderer_gives(tmp_path: Path) -> None:
    out = tmp_path / "room.npz"
    assert main(["--seeds", "3-4", "--frames", "2", "--every", "5", "-o", str(out)]) == 0
    frames = open_frames(out)
    expected = [frame for seed in (3, 4) for frame in render("room", seed, 10)[::5]]
    assert len(frames) == len(expected)
    for frame, original in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.rgb, original.rgb)
        assert frame.classes is not None
        assert original.classes is not None
        np.testing.assert_array_equal(frame.classes, original.classes)
        assert frame.target is not None
        assert frame.target == original.target
        assert frame.tof is not None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(("--seeds", "4-2"), "no range"), (("--frames", "0"), "1 or more"), (("--domain", "sea"), "'sea'")],
)
def test_the_command_answers_bad_input_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str], complaint: str
) -> None:
    try:
        code = main([*arguments, "-o", str(tmp_path / "x.npz")])
    except SystemExit as left:  # of argparse
        code = left.code
    assert code == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
