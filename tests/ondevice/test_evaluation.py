"""Metrics and baselines beside a direct computation."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import CLASSES, OUTPUTS, SIZE, tiny_task
from tuning import FRAMES, Case

from fieldtune.errors import DataError
from ondevice.evaluation import Evaluation, Judge, spread
from zoo.frames import Frame, Frames
from zoo.prepare import label, true_depth
from zoo.task import OutputSpec

Maps = NDArray[np.float32]
TRAINING, HELD_OUT = FRAMES[:14], FRAMES[14:]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.make(tmp_path_factory.mktemp("evaluation"), heads=tuple(OUTPUTS))


def holed(frame: Frame, seed: int) -> Frame:
    """The frame with some of its depth unknown, another share in each."""
    assert frame.depth is not None
    random = np.random.default_rng(seed)
    known = random.random(frame.depth.shape) < random.uniform(0.3, 0.9)
    return Frame(frame.rgb, np.where(known, frame.depth, 0).astype(np.float32), tof=frame.tof)


@pytest.fixture(scope="module")
def half_known() -> tuple[Frames, Frames]:
    frames = Frames.of([holed(frame, seed) for seed, frame in enumerate(FRAMES)])
    return frames[:14], frames[14:]


def depths(frames: Frames) -> Maps:
    return np.stack([true_depth(frame, SIZE, SIZE) for frame in frames])


def direct_metrics(predicted: Maps, truth: Maps) -> dict[str, float]:
    pairs = [(float(p), float(t)) for p, t in zip(predicted.ravel(), truth.ravel(), strict=True) if t > 0]

    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(pairs)

    return {
        "rmse": mean((p - t) ** 2 for p, t in pairs) ** 0.5,
        "abs_rel": mean(abs(p - t) / t for p, t in pairs),
        "delta1": mean(max(p / t, t / p) < 1.25 for p, t in pairs),
        "sq_rel": mean((p - t) ** 2 / t for p, t in pairs),
        "rmse_log": mean(math.log(p / t) ** 2 for p, t in pairs) ** 0.5,
        "delta2": mean(max(p / t, t / p) < 1.25**2 for p, t in pairs),
        "delta3": mean(max(p / t, t / p) < 1.25**3 for p, t in pairs),
    }


def image_by_image(predicted: Maps, truth: Maps) -> dict[str, float]:
    found = [direct_metrics(p, t) for p, t in zip(predicted, truth, strict=True) if (t > 0).any()]
    return {name: sum(image[name] for image in found) / len(found) for name in found[0]}


@pytest.mark.parametrize(
    "spec",
    [
        OutputSpec("depth", "depth", "berhu", "tof", max_depth=3.0),
        OutputSpec("depth", "disparity", "berhu", "tof", fb=8.0, max_depth=3.0),
    ],
    ids=lambda spec: spec.kind,
)
def test_depth_and_its_baselines(spec: OutputSpec, case: Case, half_known: tuple[Frames, Frames]) -> None:
    training, held_out = half_known
    random = np.random.default_rng(0)
    shape = (SIZE, SIZE, 1)
    before = random.uniform(0.5, 6, (len(held_out), *shape)).astype(np.float32)
    before[0, 0, 0] = -1
    seen = [3, 1, 3, 5, 8]
    untuned = {index: random.uniform(0.5, 6, shape).astype(np.float32) for index in (1, 8)}

    def metres(output: Maps) -> Maps:
        if spec.fb is None:
            return np.clip(output, 1e-3, 3)
        return np.where(output > 8 / 3, 8 / np.maximum(output, 1e-9), 3).astype(np.float32)

    judge = Judge.of(spec, held_out, case.plan.graph)
    truth, known = depths(held_out), depths(training)
    some = known[[1, 3, 5, 8]]
    everywhere = some[some > 0].mean()
    flat = np.array(
        [
            [column[column > 0].mean() if (column > 0).any() else everywhere for column in row.T]
            for row in some.transpose(1, 0, 2)
        ]
    )
    guessed = np.stack([metres(output[..., 0]) for output in untuned.values()])
    factor = np.median((known[[1, 8]] / guessed)[known[[1, 8]] > 0])
    after = before[::-1]
    expected = {
        "before": metres(before[..., 0]),
        "after": metres(after[..., 0]),
        "mean_map": np.stack([flat] * len(held_out)),
        "scale_only": np.minimum(metres(before[..., 0]) * factor, 3),
    }
    found = judge.results(before, after, judge.baselines(training, seen, untuned, before))
    assert set(found) == {"before", "after", "baselines", "unchanged", "pooled", "per_image"}
    assert set(found["pooled"]) == set(found["per_image"]) == set(expected)
    for name, depth in expected.items():
        assert found["pooled"][name] == pytest.approx(direct_metrics(depth, truth), rel=1e-5)
        assert found["per_image"][name] == pytest.approx(image_by_image(depth, truth), rel=1e-5)
        headline = {key: found["pooled"][name][key] for key in ("rmse", "abs_rel", "delta1")}
        assert (found if name in found else found["baselines"])[name] == headline


def test_classes(case: Case) -> None:
    spec, random = OUTPUTS["segments"], np.random.default_rng(1)
    prediction = random.normal(size=(len(FRAMES), SIZE, SIZE, CLASSES)).astype(np.float32)
    judge = Judge.of(spec, FRAMES, case.plan.graph)
    pairs = []
    for frame, scores in zip(FRAMES, prediction, strict=True):
        known = label(frame, spec, (SIZE, SIZE, CLASSES), FRAMES.geometry)
        if known is not None:  # frame 5 has no classes
            found = scores.argmax(-1)[known[1][..., 0] > 0]
            pairs += list(zip(found.tolist(), known[0][known[1] > 0].tolist(), strict=True))
    right = [p == t for p, t in pairs]
    ious = [sum(p == t == k for p, t in pairs) / sum(k in (p, t) for p, t in pairs) for k in range(CLASSES)]
    expected = {"accuracy": sum(right) / len(right), "miou": sum(ious) / CLASSES}
    assert len(pairs) == 19 * SIZE * SIZE
    assert judge.baselines(TRAINING, [0], {}, prediction) == {}
    found = judge.results(prediction, prediction[..., ::-1], {})
    assert set(found) == {"before", "after", "baselines", "unchanged"}
    assert not found["unchanged"]
    assert found["before"] == pytest.approx(expected)
    assert found["after"] != found["before"]


def test_the_class_and_the_values_of_whole_frames(case: Case) -> None:
    random = np.random.default_rng(2)
    targets = np.array([frame.target for frame in HELD_OUT if frame.target is not None])[:, 0]
    scores = random.normal(size=(len(HELD_OUT), 1, 1, CLASSES)).astype(np.float32)
    accuracy = np.mean(scores[:, 0, 0].argmax(-1) == targets)
    judge = Judge.of(OUTPUTS["kind"], HELD_OUT, case.plan.graph)
    assert judge.results(scores, scores, {})["before"]["accuracy"] == accuracy
    values = random.normal(size=(len(HELD_OUT), 1, 1, 1)).astype(np.float32)
    rmse = np.sqrt(np.mean((values.ravel() - targets) ** 2))
    found = Judge.of(OUTPUTS["amount"], HELD_OUT, case.plan.graph).results(values, values, {})
    assert found["after"] == {"rmse": pytest.approx(rmse)}


def test_values_that_are_unknown_do_not_count(case: Case) -> None:
    frames = Frames.of(
        [Frame(FRAMES[0].rgb, target=np.array([value], np.float32)) for value in (1, np.nan, 3)]
    )
    prediction = np.array([2, 99, 5], np.float32).reshape(3, 1, 1, 1)
    judge = Judge.of(OUTPUTS["amount"], frames, case.plan.graph)
    assert judge.results(prediction, prediction, {})["before"] == {"rmse": pytest.approx(2.5**0.5)}


def test_depth_without_a_truth_is_judged_by_what_the_sensor_saw(case: Case) -> None:
    frames = Frames.of([Frame(frame.rgb, tof=frame.tof) for frame in HELD_OUT])
    judge = Judge.of(OUTPUTS["depth"], frames, case.plan.graph)
    perfect = [label(frame, OUTPUTS["depth"], (SIZE, SIZE, 1), frames.geometry) for frame in frames]
    prediction = np.stack([known[0] for known in perfect if known])
    found = judge.results(prediction, prediction, {})
    assert found["after"] == {"rmse": pytest.approx(0, abs=1e-6), "abs_rel": 0, "delta1": 1}


def test_depth_outside_of_the_tasks_crop_is_not_judged(case: Case) -> None:
    spec = replace(OUTPUTS["depth"], crop="garg")
    frames = Frames.of([Frame(frame.rgb, np.ones_like(frame.rgb[..., 0], np.float32)) for frame in HELD_OUT])
    judge, everywhere = (Judge.of(s, frames, case.plan.graph) for s in (spec, OUTPUTS["depth"]))
    prediction = np.ones((len(frames), SIZE, SIZE, 1), np.float32)
    prediction[:, 0] = 2  # the sky
    assert judge.results(prediction, prediction, {})["before"]["rmse"] == 0
    assert everywhere.results(prediction, prediction, {})["before"]["rmse"] == pytest.approx(SIZE**-0.5)
    # The mean map knows no more than what is judged: everywhere else it is the mean of that.
    (mean,) = judge.baselines(TRAINING, [0, 1], {}, prediction).values()
    assert (mean[0, 0] == mean[0, 0, 0]).all()


def test_a_baseline_that_no_frame_knows_is_left_out(case: Case, half_known: tuple[Frames, Frames]) -> None:
    blind = Frames.of([Frame(f.rgb, f.depth * 0, tof=f.tof) for f in FRAMES if f.depth is not None])
    judge = Judge.of(OUTPUTS["depth"], HELD_OUT, case.plan.graph)
    maps: Any = np.ones((len(HELD_OUT), SIZE, SIZE, 1), np.float32)
    assert judge.baselines(blind, [0, 1], {0: maps[0]}, maps) == {}
    mixed = Frames.of([blind[0], TRAINING[1]])
    assert set(judge.baselines(mixed, [0, 1], {0: maps[0]}, maps)) == {"mean_map"}


def test_frames_that_say_nothing_of_an_output_are_refused(case: Case) -> None:
    nothing = Frames.of([Frame(frame.rgb, target=np.array([np.nan], np.float32)) for frame in HELD_OUT])
    for frames in (nothing, Frames.of([Frame(frame.rgb) for frame in HELD_OUT])):
        with pytest.raises(
            DataError, match="none of the 6 held-out frames has a known value for output kind"
        ):
            Evaluation(tiny_task(("kind",)), case.plan.graph, TRAINING, frames)


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (6, 5), (100, 7)])
def test_spread_is_even_and_has_both_ends(count: int, most: int) -> None:
    indices = [10 * index for index in range(count)]
    chosen = spread([*reversed(indices), *indices], most)
    assert len(chosen) == min(count, most)
    assert (chosen[0], chosen[-1]) == (indices[0], indices[-1])
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 10
