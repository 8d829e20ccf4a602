"""A session with several tasks: labels for some of them, heads that stay, and what is said of each."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page
from tiny import tiny_frames, tiny_task, write_tiny
from tuning import FRAMES, HELD_OUT, STEPS, Case

from fieldtune.commands.tune import print_results
from ondevice.device import Hyper
from ondevice.replay import Replay
from ondevice.session import Session
from zoo.frames import Frames
from zoo.task import Task, format_task

HEADS = ("segments", "depth", "kind")
ALL = "dec*,segments*,depth*,kind*"
TRAINING = FRAMES[: len(FRAMES) - HELD_OUT]
# The target brings the sensor's labels alone, and classes only to judge by; the source brings all.
TARGET = Frames.of(
    [dataclasses.replace(frame, classes=None, target=None) for frame in TRAINING] + list(FRAMES[-HELD_OUT:])
)
SOURCE = tiny_frames(12, seed=8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    return made(tmp_path_factory, ALL)


def made(factory: pytest.TempPathFactory, update: str) -> tuple[Case, Path]:
    folder = factory.mktemp("case")
    case = Case.make(folder, heads=HEADS, update=update)
    return case, case.build(folder / "firmware")


def moved(session: Path) -> set[str]:
    """The layers whose weights have changed."""
    before, after = (Session.open(session).weights(when) for when in ("before", "after"))
    return {name.split(".")[0] for name in before if before[name].tobytes() != after[name].tobytes()}


def test_a_task_without_labels_learns_nothing_and_is_in_no_mean(
    whole: tuple[Case, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, elf = whole
    with case.start(elf) as board:
        results = case.tune(tmp_path, board.url, frames=TARGET)
    assert moved(tmp_path) == {"dec", "depth"}
    assert results["labelled_steps"] == {"segments": 0, "depth": STEPS, "kind": 0}
    assert "no frame had a label for kind: nothing was learned from it" in capsys.readouterr().err
    losses = Session.open(tmp_path).curve().losses
    assert np.isfinite(losses).all(0).tolist() == [False, True, False]
    assert np.isnan(losses).all(0).tolist() == [True, False, True]
    page = Page((tmp_path / "report.html").read_text())
    assert "This report has no curve of segments: no frame had a label for it." in page.text
    # Frames that the sensor sees nothing in have no label at all.
    assert results["skipped_frames"] == 1


def test_frames_of_the_source_teach_the_tasks_that_the_target_has_no_labels_for(
    whole: tuple[Case, Path], tmp_path: Path
) -> None:
    case, elf = whole
    options: dict[str, Any] = {"frames": TARGET, "source": SOURCE, "replay": Replay.parse("1/4")}
    with case.start(elf) as board:
        results = case.tune(tmp_path, board.url, **options)
        assert moved(tmp_path) == {"dec", "segments", "depth", "kind"}
        replayed = results["replayed_steps"]
        # Frame 5 of the source has no classes.
        unlabelled = sum(math.isnan(row[0]) for row in Session.open(tmp_path).curve().losses)
        assert STEPS - replayed <= unlabelled <= STEPS - replayed + 1
        assert results["labelled_steps"] == {"segments": STEPS - unlabelled, "depth": STEPS, "kind": replayed}
        again = case.tune(tmp_path, board.url, **options)
    assert again["labelled_steps"] == results["labelled_steps"]
    page = Page((tmp_path / "report.html").read_text())
    assert f"{unlabelled} of {STEPS} steps had no label for it." in page.text
    assert list(results["source"]["outputs"]) == list(HEADS)
    for head in HEADS:
        assert ("th", {"scope": "col"}) in page.elements
        assert page.text.count(head) >= 2


def test_with_several_samples_an_update_a_task_counts_where_it_has_a_label(tmp_path: Path) -> None:
    case = Case.make(tmp_path, heads=HEADS, update=ALL, hyper=Hyper(lr=0.02, accumulate=2))
    mixed = Frames.of([TARGET[0], FRAMES[1]] * 4 + list(FRAMES[-HELD_OUT:]))
    results = case.tune(tmp_path / "session", frames=mixed, steps=4)
    assert results["labelled_steps"] == {"segments": 2, "depth": 4, "kind": 2}
    losses = Session.open(tmp_path / "session").curve().losses
    assert np.isnan(losses).any(1).tolist() == [True, False] * 2
    assert moved(tmp_path / "session") == {"dec", "segments", "depth", "kind"}


def test_a_head_that_learns_alone_is_said_to_leave_the_others_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tiny_task(HEADS)
    still = [
        dataclasses.replace(spec, labels="none") if spec.name == "kind" else spec for spec in task.outputs
    ]
    (tmp_path / "net.task.toml").write_text(format_task(Task(task.inputs, tuple(still))))
    case = Case.make(tmp_path, update="depth*", model=write_tiny(tmp_path / "net.onnx", HEADS))
    results = case.tune(tmp_path / "session")
    assert Session.open(tmp_path / "session").curve().loss_names == ("segments", "depth")
    # The frame that the sensor sees nothing in has classes, but none of what learns heeds them.
    assert results["skipped_frames"] == 1
    assert results["labelled_steps"]["depth"] == STEPS
    outputs = results["outputs"]
    assert {head: found["unchanged"] for head, found in outputs.items()} == {
        "segments": True,
        "depth": False,
        "kind": True,
    }
    for head in ("segments", "kind"):
        assert outputs[head]["before"] == outputs[head]["after"]
    # Scripts read the first depth's metrics, wherever it stands in the task.
    assert results["output"] == "depth"
    assert results["after"] == outputs["depth"]["after"]
    capsys.readouterr()
    print_results(results, as_json=False)
    said = capsys.readouterr().out
    assert "segments, bit for bit as before:\n  untuned      accuracy" in said
    assert "depth:\n  untuned      rmse" in said
    page = Page((tmp_path / "session" / "report.html").read_text())
    assert page.text.count("All predictions have the same bits before and after.") == 2


def test_held_out_frames_are_shown_in_the_colours_of_their_classes(
    whole: tuple[Case, Path], tmp_path: Path
) -> None:
    case, elf = whole
    with case.start(elf) as board:
        case.tune(tmp_path, board.url, steps=4)
    (name,), (maps,) = zip(*Session.open(tmp_path).segmentations().items(), strict=True)
    assert name == "segments"
    assert maps.rgb.shape == (HELD_OUT, 16, 16, 3)
    assert maps.truth.shape == maps.before.shape == maps.after.shape == (HELD_OUT, 16, 16)
    assert set(np.unique(maps.truth)) <= {0, 1, 2, 255}
    page = Page((tmp_path / "report.html").read_text())
    assert "Held-out frames: segments" in page.text
    for k in range(HELD_OUT):
        right = 100 * np.mean(maps.after[k] == maps.truth[k])
        assert f"Frame {k + 1}: pixels right, " in page.text
        assert f"{right:.1f} % tuned" in page.text
    page.assert_stands_alone()


@pytest.mark.parametrize("lacking", [("classes",), ("target", "classes")])
def test_an_output_that_no_held_out_frame_tells_of_is_not_judged(
    lacking: tuple[str, ...], whole: tuple[Case, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, elf = whole
    frames = Frames.of([dataclasses.replace(frame, **dict.fromkeys(lacking)) for frame in FRAMES])
    with case.start(elf) as board:
        results = case.tune(tmp_path, board.url, frames=frames, steps=4)
    left = [head for head in HEADS if head == "depth" or (head == "kind" and "target" not in lacking)]
    assert list(results["outputs"]) == left
    assert "no held-out frame says what segments should be: it is not judged there" in capsys.readouterr().err
