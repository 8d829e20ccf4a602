"""Which steps train on source frames, on which of them, and what a session says of the source domain."""

import os
import signal
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_frames
from tuning import FRAMES, HELD_OUT, STEPS, Case, outcome, started_boards

from fieldtune.errors import DataError, UserError
from ondevice.device import Hyper
from ondevice.replay import Replay, source_samples
from ondevice.session import Session
from ondevice.training_data import inputs, sample
from zoo.frames import Frame, Frames
from zoo.prepare import true_depth

SOURCE = tiny_frames(12, seed=8)
REPLAYED, JUDGED = SOURCE[: 12 - HELD_OUT], SOURCE[12 - HELD_OUT :]
QUARTER = Replay(Fraction(1, 4))
SHARES = st.fractions(0, 1, max_denominator=100).filter(lambda share: 0 < share < 1)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    # Gradients over several samples and velocities are what a resumed session could lose.
    hyper = Hyper(lr=0.02, momentum=0.5, accumulate=2)
    return Case.make(tmp_path_factory.mktemp("replay"), hyper=hyper)


@pytest.fixture(scope="module")
def elf(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return case.build(tmp_path_factory.mktemp("firmware") / "native")


@pytest.fixture(scope="module")
def undisturbed(case: Case, elf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    session = tmp_path_factory.mktemp("undisturbed") / "session"
    with case.start(elf) as board:
        case.tune(session, board.url, source=SOURCE, replay=QUARTER)
    return session


def sent_frames(case: Case, session: Path, known: Frames) -> list[int | None]:
    """The frame of every step, found among `known` by its pixels; None for others."""
    made = [inputs(frame, case.network.needed_task(), case.plan.graph)["image"] for frame in known]
    found: list[int | None] = []
    for _, sent in Session.open(session).samples():
        hits = [k for k, own in enumerate(made) if np.array_equal(own, sent["image"])]
        found.append(hits[0] if hits else None)
    return found


# --- which steps


@pytest.mark.parametrize(
    ("text", "share"), [("1/4", Fraction(1, 4)), ("0.25", Fraction(1, 4)), (".5", Fraction(1, 2))]
)
def test_a_share_is_a_fraction_or_a_decimal(text: str, share: Fraction) -> None:
    assert Replay.parse(text, 3) == Replay(share, 3)


@pytest.mark.parametrize(
    "text", ["0", "0/4", "1", "4/4", "5/4", "1.0", "-1/4", "1/0", "1e-999999999", "nan", "", "¼"]
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--replay is '.*'; give the share of steps .* such as 1/4 or 0\.25"):
        Replay.parse(text)


@given(SHARES, st.integers(0, 500), st.integers(0, 500))
def test_replayed_steps_are_evenly_spread(share: Fraction, first: int, length: int) -> None:
    replay = Replay(share)
    within = replay.count(first + length) - replay.count(first)
    assert abs(within - length * share) < 1
    assert abs(replay.count(length) - length * share) <= Fraction(1, 2)


@given(SHARES.filter(lambda share: share <= Fraction(1, 2)), st.integers(1, 20))
def test_a_session_ends_with_a_frame_of_the_target(share: Fraction, rounds: int) -> None:
    replay, steps = Replay(share), rounds * share.denominator
    assert replay.count(steps) == replay.count(steps - 1)


def test_every_fourth_step_takes_a_source_frame_and_the_target_keeps_its_order(
    case: Case, undisturbed: Path
) -> None:
    target = sent_frames(case, undisturbed, FRAMES[: len(FRAMES) - HELD_OUT])
    assert [k for k, index in enumerate(target) if index is None] == list(range(1, STEPS, 4))
    order = [index for index in target if index is not None]
    sighted = [k for k in range(len(FRAMES) - HELD_OUT) if k != 4]
    assert order == (sighted * 2)[: len(order)]
    results = Session.open(undisturbed).results()
    assert results is not None
    assert results["replayed_steps"] == STEPS - len(order) == QUARTER.count(STEPS)


def test_frames_that_are_replayed_are_never_those_that_are_judged(case: Case, undisturbed: Path) -> None:
    replayed = sent_frames(case, undisturbed, REPLAYED)
    assert sum(index is not None for index in replayed) == QUARTER.count(STEPS)
    assert {*sent_frames(case, undisturbed, JUDGED)} == {None}
    results = Session.open(undisturbed).results()
    assert results is not None
    assert results["source"]["frames"] == HELD_OUT


def test_each_round_replays_every_source_frame_once_in_an_order_that_the_seed_fixes(case: Case) -> None:
    def order(seed: int) -> list[int]:
        stream = source_samples(REPLAYED, case.network.needed_task(), case.plan.graph, seed)
        return [index for _, (index, _) in zip(range(16), stream, strict=False)]

    assert order(0) == order(0) != order(1)
    assert sorted(order(0)[:8]) == sorted(order(0)[8:]) == list(range(8))


# --- on what


def without(frames: Sequence[Frame], *fields: str) -> Frames:
    kept = {"depth", "classes", "tof", "target"} - {*fields}
    return Frames.of([Frame(f.rgb, **{name: getattr(f, name) for name in kept}) for f in frames])


def first_labels(case: Case, frames: Frames) -> list[Any]:
    stream = source_samples(frames, case.network.needed_task(), case.plan.graph, 0)
    return [ready["depth.label"] for _, (_, ready) in zip(range(4), stream, strict=False)]


def test_source_frames_teach_their_true_depth_and_else_what_the_sensor_saw(case: Case) -> None:
    task, graph = case.network.needed_task(), case.plan.graph
    assert task.outputs[0].labels == "tof"
    stream = source_samples(REPLAYED, task, graph, 0)
    for _, (index, ready) in zip(range(4), stream, strict=False):
        np.testing.assert_array_equal(ready["depth.label"][..., 0], true_depth(REPLAYED[index], 16, 16))
    dense = first_labels(case, without(REPLAYED, "tof"))
    np.testing.assert_array_equal(dense, first_labels(case, REPLAYED))
    stream = source_samples(without(REPLAYED, "depth"), task, graph, 0)
    for _, (index, ready) in zip(range(4), stream, strict=False):
        own = sample(REPLAYED[index], task, graph, REPLAYED.geometry)
        assert own is not None
        np.testing.assert_array_equal(ready["depth.label"], own["depth.label"])


# --- what comes of it


def test_the_source_is_judged_as_the_target_is(case: Case, elf: Path, tmp_path: Path) -> None:
    with case.start(elf) as board:
        results = case.tune(tmp_path / "session", board.url, source=FRAMES)
    source = results["source"]
    assert source["frames"] == HELD_OUT
    assert source["output"] == "depth"
    for key in ("before", "after"):
        assert source[key] == source["outputs"]["depth"][key]
        assert source[key].items() <= source["outputs"]["depth"]["pooled"][key].items()
    assert not source["outputs"]["depth"]["unchanged"]
    assert (source["before"], source["after"]) == (results["before"], results["after"])
    assert results["replayed_steps"] == 0


def test_to_judge_the_source_changes_nothing_of_the_training(case: Case, elf: Path, tmp_path: Path) -> None:
    with case.start(elf) as board:
        case.tune(tmp_path / "judged", board.url, source=SOURCE)
        case.tune(tmp_path / "alone", board.url)
    judged, alone = outcome(tmp_path / "judged"), outcome(tmp_path / "alone")
    assert judged.pop("source")
    assert alone.pop("source") is None
    assert judged == alone


def test_a_short_source_is_judged_as_a_whole(case: Case, elf: Path, tmp_path: Path) -> None:
    with case.start(elf) as board:
        results = case.tune(tmp_path / "session", board.url, source=SOURCE[:2])
    assert results["source"]["frames"] == 2


def test_source_frames_are_replayed_where_nothing_is_judged(case: Case, elf: Path, tmp_path: Path) -> None:
    with case.start(elf) as board:
        results = case.tune(tmp_path / "session", board.url, source=SOURCE, replay=QUARTER, test=0)
    assert "source" not in results
    assert results["replayed_steps"] == QUARTER.count(STEPS)


def test_a_killed_board_and_resume_change_nothing(case: Case, undisturbed: Path, tmp_path: Path) -> None:
    session = tmp_path / "session"

    def kill_board() -> None:
        os.kill(next(started_boards()), signal.SIGKILL)

    with pytest.raises(UserError, match="--resume"):
        case.tune(session, events={17: kill_board}, source=SOURCE, replay=QUARTER)
    case.tune(session, source=SOURCE, replay=QUARTER)
    assert outcome(session) == outcome(undisturbed)


def test_a_session_resumes_only_with_the_replay_it_was_made_with(case: Case, undisturbed: Path) -> None:
    ended = outcome(undisturbed)
    for other in (None, Replay(Fraction(1, 2)), Replay(Fraction(1, 4), seed=1)):
        with pytest.raises(UserError, match="was made with replay = '1/4 of the steps, seed 0', not "):
            case.tune(undisturbed, source=SOURCE, replay=other)
    assert outcome(undisturbed) == ended


@pytest.mark.parametrize(
    ("source", "changes", "says"),
    [
        (None, {"replay": QUARTER}, "--replay needs frames of the source domain; give them with --source"),
        (SOURCE[:4], {"replay": QUARTER}, "source data set has 4 frames and --test 4 holds out all of them"),
        (SOURCE[:0], {}, "the source data set has no frames"),
        (SOURCE, {"test": 0}, "--source frames are only judged, but --test 0 judges none"),
        (SOURCE, {"replay": Replay(Fraction(1, 5)), "steps": 2}, "--replay 1/5 of --steps 2 is no step"),
        (
            without(SOURCE, "depth", "tof"),
            {"replay": QUARTER},
            "has no ToF reading",
        ),
        (
            Frames.of([Frame(f.rgb, np.zeros_like(f.depth)) for f in SOURCE]),
            {},
            "none of the 4 source frames has a known value for output depth",
        ),
        (
            Frames.of([*(Frame(f.rgb, np.zeros_like(f.depth)) for f in REPLAYED), *JUDGED]),
            {"replay": QUARTER},
            "none of the 8 source frames has a valid label",
        ),
    ],
    ids=range(8),
)
def test_source_frames_that_cannot_be_used_are_refused_before_anything_is_built(
    source: Frames | None, changes: dict[str, Any], says: str, case: Case, tmp_path: Path
) -> None:
    with pytest.raises((DataError, UserError), match=says):
        case.tune(tmp_path / "session", source=source, **changes)
    assert {path.name for path in (tmp_path / "session").iterdir()} == {"session.json"}
