"""What a session trains on, in which order, and what it says of it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny import OUTPUTS, tiny_frames
from tuning import FRAMES, HELD_OUT, STEPS, Arrays, Case, outcome

from fieldtune.errors import DataError, UserError
from firmware_gen.graph import Optimizer
from ondevice.device import Device, Hyper
from ondevice.session import Session
from ondevice.training_data import TrainingSamples, sample
from zoo.frames import Frame, Frames
from zoo.tof import TofFrame

TRAINING = FRAMES[: len(FRAMES) - HELD_OUT]
BLIND = 4  # the frame whose zones see nothing


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.make(tmp_path_factory.mktemp("tune"))


@pytest.fixture(scope="module")
def elf(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return case.build(tmp_path_factory.mktemp("firmware") / "native")


def order_of(case: Case, session: Path, frames: Frames) -> list[int]:
    """The frame of every step, found by its pixels."""
    made = [sample(frame, case.network.needed_task(), case.plan.graph, frames.geometry) for frame in frames]
    found = []
    for _, sent in Session.open(session).samples():
        hits = [k for k, own in enumerate(made) if own and np.array_equal(own["image"], sent["image"])]
        assert len(hits) == 1
        found += hits
    return found


# --- which frames


def test_frames_come_in_file_order_and_wrap_round_without_blind_and_held_out_ones(
    case: Case, elf: Path, tmp_path: Path
) -> None:
    with case.start(elf) as board:
        results = case.tune(tmp_path / "session", board.url)
    sighted = [k for k in range(len(TRAINING)) if k != BLIND]
    assert order_of(case, tmp_path / "session", TRAINING) == (sighted * 2)[:STEPS]
    assert results["skipped_frames"] == 1
    assert results["steps"] == STEPS


def test_a_seed_fixes_the_shuffled_order(case: Case, elf: Path, tmp_path: Path) -> None:
    orders = {}
    with case.start(elf) as board:
        for name, seed in (("first", 3), ("again", 3), ("other", 4)):
            case.tune(tmp_path / name, board.url, shuffle_seed=seed)
            orders[name] = order_of(case, tmp_path / name, TRAINING)
    assert orders["first"] == orders["again"] != orders["other"]
    assert outcome(tmp_path / "first") == outcome(tmp_path / "again") != outcome(tmp_path / "other")
    a_round = len(TRAINING) - 1
    first, second = orders["first"][:a_round], orders["first"][a_round : 2 * a_round]
    assert sorted(first) == [k for k in range(len(TRAINING)) if k != BLIND]
    assert first != sorted(first)
    assert second != first[: len(second)]


def test_frames_of_another_size_are_resampled(case: Case, elf: Path, tmp_path: Path) -> None:
    with case.start(elf) as board:
        results = case.tune(tmp_path / "session", board.url, frames=tiny_frames(size=64))
    assert results["after"]["rmse"] < results["before"]["rmse"]


def blinded(frame: Frame) -> Frame:
    assert frame.tof is not None
    return Frame(frame.rgb, frame.depth, tof=TofFrame(frame.tof.distance_mm, np.zeros((8, 8), np.uint8)))


@pytest.mark.parametrize(
    ("frames", "changes", "says"),
    [
        (Frames.of([blinded(f) for f in FRAMES]), {}, "none of the 16 training frames has a valid label"),
        (Frames.of([Frame(f.rgb, f.depth) for f in FRAMES]), {}, "has no ToF reading"),
        (
            Frames.of([*TRAINING, *(Frame(f.rgb, f.depth * 0, tof=f.tof) for f in FRAMES[-4:])]),
            {},
            "none of the 4 held-out frames has a known value for output depth",
        ),
        (FRAMES, {"test": 20}, "has 20 frames and --test 20 holds out all"),
        (FRAMES, {"test": 500}, "has 20 frames and --test 500 holds out all"),
        (FRAMES, {"test": -1}, "--test is -1"),
        (FRAMES, {"steps": 0}, "--steps is 0"),
    ],
)
def test_data_that_cannot_be_used_are_refused_before_anything_is_built(
    frames: Frames, changes: dict[str, Any], says: str, case: Case, tmp_path: Path
) -> None:
    with pytest.raises((DataError, UserError), match=says):
        case.tune(tmp_path / "session", frames=frames, **changes)
    assert {path.name for path in (tmp_path / "session").iterdir()} == {"session.json"}


def test_a_label_that_is_missing_in_one_output_is_masked_there(tmp_path: Path) -> None:
    case = Case.make(tmp_path, heads=("depth", "segments"), update="dec*")
    task, graph = case.network.needed_task(), case.plan.graph
    blind = sample(FRAMES[BLIND], task, graph, FRAMES.geometry)
    assert blind is not None
    assert not blind["depth.mask"].any()
    assert blind["segments.mask"].all()
    assert blind["segments.label"].dtype == np.uint8
    assert len(list(zip(range(40), TrainingSamples(TRAINING, task, graph), strict=False))) == 40


# --- what is learned


@pytest.mark.parametrize(
    ("heads", "update"),
    [
        (("depth", "segments"), "dec*,segments*,depth*"),
        (("kind",), "kind,dec"),
        (("amount",), "amount,dec"),
        (tuple(OUTPUTS), "*"),
    ],
)
def test_every_output_learns_and_is_judged(heads: tuple[str, ...], update: str, tmp_path: Path) -> None:
    case = Case.make(tmp_path, heads=heads, update=update, hyper=Hyper(lr=0.02))
    results = case.tune(tmp_path / "session", steps=60)
    assert list(results["outputs"]) == list(heads)
    for key in ("before", "after", "baselines"):
        assert results[key] == results["outputs"][heads[0]][key]
    curve = Session.open(tmp_path / "session").curve()
    assert curve.loss_names == heads
    for head, found in results["outputs"].items():
        keys = {"depth": {"rmse", "abs_rel", "delta1"}, "amount": {"rmse"}}.get(head, {"accuracy", "miou"})
        assert set(found["before"]) == set(found["after"]) == keys
        assert set(found["baselines"]) == ({"mean_map", "scale_only"} if head == "depth" else set())
        # Single losses scatter from frame to frame; a frame without a label has none.
        losses = curve.losses[:, heads.index(head)]
        assert np.nanmean(losses[-20:]) < np.nanmean(losses[:20])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """A firmware that keeps gradients and updates nothing."""
    folder = tmp_path_factory.mktemp("watched")
    case = Case.make(folder, hyper=Hyper(lr=0.0, accumulate=2), update="depth")
    return case, case.build(folder / "firmware")


def reference(weights: Arrays, gradients: list[Arrays], hyper: Hyper, name: Optimizer) -> Arrays:
    """PyTorch's optimizer on mean gradients of `accumulate` samples, with clip_grad_norm_."""
    torch = pytest.importorskip("torch")
    parameters = {name: torch.tensor(value.astype(np.float64)) for name, value in weights.items()}
    own: dict[str, Any] = {"momentum": hyper.momentum}
    if name != "sgd":
        own = {"betas": (hyper.beta1, hyper.beta2), "eps": hyper.eps}
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    optimizer = kind(parameters.values(), lr=hyper.lr, weight_decay=hyper.weight_decay, **own)
    for index, gradient in enumerate(gradients, start=1):
        for name, parameter in parameters.items():
            share = (
                torch.tensor(gradient[name].astype(np.float64).reshape(parameter.shape)) / hyper.accumulate
            )
            parameter.grad = share if parameter.grad is None else parameter.grad + share
        if index % hyper.accumulate == 0:
            if hyper.clip_norm:
                torch.nn.utils.clip_grad_norm_(parameters.values(), hyper.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
    return {name: parameter.numpy() for name, parameter in parameters.items()}


@pytest.mark.parametrize(
    ("optimizer", "hyper"),
    [
        ("sgd", Hyper(lr=0.01, momentum=0.9)),
        ("sgd", Hyper(lr=0.05, weight_decay=0.1, clip_norm=0.02)),
        ("sgd", Hyper(lr=0.02, momentum=0.5, weight_decay=0.01, clip_norm=0.05, accumulate=3)),
        ("adam", Hyper(lr=0.01, weight_decay=0.1, beta1=0.7, beta2=0.9, eps=0.01)),
        ("adamw", Hyper(lr=0.01, weight_decay=0.1, beta1=0.7, beta2=0.9, eps=0.01, accumulate=2)),
    ],
    ids=str,
)
def test_the_optimizer_is_that_of_pytorch(
    optimizer: Optimizer, hyper: Hyper, watched: tuple[Case, Path], tmp_path: Path
) -> None:
    case = Case.make(tmp_path, hyper=hyper, update="depth", optimizer=optimizer)
    steps = 2 * hyper.accumulate
    case.tune(tmp_path / "session", steps=steps)
    session = Session.open(tmp_path / "session")
    before, after = session.weights("before"), session.weights("after")
    watcher, elf = watched
    with watcher.start(elf) as board, Device.open(board.url) as device:
        weights, gradients = before, []
        samples = [arrays for _, arrays in session.samples()]
        for first in range(0, steps, hyper.accumulate):
            for number in range(first, first + hyper.accumulate):
                gradients.append(_gradient(device, watcher, weights, samples[number]))
            weights = reference(before, gradients, hyper, optimizer)
    for name, value in after.items():
        scale = np.abs(weights[name] - before[name]).max()
        np.testing.assert_allclose(value, weights[name], rtol=0, atol=1e-4 * scale)


def _gradient(device: Device, case: Case, weights: Arrays, sent: Arrays) -> Arrays:
    from firmware_gen.weights import from_source, to_source

    constants = case.plan.graph.constants
    device.reset_weights()
    device.set_hyper(Hyper(lr=0.0, accumulate=2))
    device.write_tensors(
        {
            name: from_source(constants[name], value.astype(np.float32)).reshape(
                device.tensors[name].array_shape
            )
            for name, value in weights.items()
        }
    )
    device.put_sample(sent)
    device.step(0)
    return {
        name.removeprefix("gradient."): to_source(constants[name.removeprefix("gradient.")], value)
        for name, value in device.read_role("gradient").items()
    }


def test_the_tuned_model_file_holds_the_tuned_weights(case: Case, elf: Path, tmp_path: Path) -> None:
    with case.start(elf) as board:
        case.tune(tmp_path / "session", board.url)
    after = Session.open(tmp_path / "session").weights("after")
    tuned = onnx.load(tmp_path / "session" / "tuned.onnx")
    original = onnx.load(case.network.path)
    assert set(after) == {"dec.weight", "dec.bias", "depth.weight", "depth.bias"}
    for old, new in zip(original.graph.initializer, tuned.graph.initializer, strict=True):
        expected = after.get(old.name, numpy_helper.to_array(old))
        np.testing.assert_array_equal(numpy_helper.to_array(new), expected)
        assert (numpy_helper.to_array(new) != numpy_helper.to_array(old)).any() == (old.name in after)


def test_without_held_out_frames_nothing_is_judged(case: Case, elf: Path, tmp_path: Path) -> None:
    with case.start(elf) as board:
        results = case.tune(tmp_path / "session", board.url, test=0)
    assert results["before"] == results["after"] == results["baselines"] == {}
    page = (tmp_path / "session" / "report.html").read_text()
    assert "It learned for 30 training steps" in page
    assert "no results yet" not in page


# --- when it goes wrong


@pytest.mark.parametrize("lr", [100, 1e18, 1e38])
def test_training_that_diverges_ends_and_keeps_finite_weights(lr: float, tmp_path: Path) -> None:
    case = Case.make(tmp_path, hyper=Hyper(lr), heads=("amount",), update="amount")
    with pytest.raises(UserError, match=r"diverges: .* at step \d+; begin again with a smaller --lr"):
        case.tune(tmp_path / "session", checkpoint_every=1)
    session = Session.open(tmp_path / "session")
    assert np.isfinite(session.curve().losses).all()
    checkpoint = session.load_checkpoint()
    for array in checkpoint.arrays.values() if checkpoint else ():
        assert np.isfinite(array).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"steps": 31}, "steps = 30, not 31"), ({"shuffle_seed": 1}, "shuffle_seed = None, not 1")],
)
def test_a_session_resumes_only_with_the_options_it_was_made_with(
    changes: dict[str, Any], says: str, case: Case, elf: Path, tmp_path: Path
) -> None:
    with case.start(elf) as board:
        case.tune(tmp_path / "session", board.url)
    ended = outcome(tmp_path / "session")
    with pytest.raises(UserError, match=says):
        case.tune(tmp_path / "session", **changes)
    assert outcome(tmp_path / "session") == ended


def test_a_session_that_has_ended_can_be_resumed_and_ends_the_same(
    case: Case, elf: Path, tmp_path: Path
) -> None:
    with case.start(elf) as board:
        case.tune(tmp_path / "session", board.url)
        ended = outcome(tmp_path / "session")
        case.tune(tmp_path / "session", board.url)
    assert outcome(tmp_path / "session") == ended


def test_a_firmware_of_another_plan_is_refused(case: Case, elf: Path, tmp_path: Path) -> None:
    other = Case.make(tmp_path, update="depth")
    with case.start(elf) as board, pytest.raises(UserError, match=r"runs tiny with plan .* build and flash"):
        other.tune(tmp_path / "session", board.url)
