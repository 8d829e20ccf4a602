"""Sessions that replay latents: the bits of replayed frames, less of which is kept and computed."""

import os
import signal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import SIZE, tiny_frames, write_tiny
from tuning import Case, outcome, started_boards

from fieldtune.__main__ import main
from fieldtune.errors import UserError
from ondevice.device import Hyper
from ondevice.latents import LatentSamples, keep_latents
from ondevice.replay import Replay, source_samples
from ondevice.session import Session
from ondevice.workbench import open_board
from zoo.loaders.npz import write_npz

SOURCE = tiny_frames(12, seed=8)
QUARTER = Replay(Fraction(1, 4))
REPLAYED = [2, 6, 10, 14, 18, 22, 26, 30]
HYPER = Hyper(lr=0.02, momentum=0.5, accumulate=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network in int8."""
    folder = tmp_path_factory.mktemp("int8")
    frames = tiny_frames()
    write_npz(folder / "frames.npz", frames, frames.geometry)
    words = [str(write_tiny(folder / "float.onnx")), "--data", str(folder / "frames.npz")]
    assert main(["quantize", *words, "--backend", "onnxruntime", "-o", str(folder / "tiny.onnx")]) == 0
    return folder / "tiny.onnx"


@pytest.fixture(scope="module")
def case(model: Path) -> Case:
    return Case.make(model.parent, hyper=HYPER, latents="up", model=model)


@pytest.fixture(scope="module")
def undisturbed(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    session = tmp_path_factory.mktemp("undisturbed") / "session"
    case.tune(session, source=SOURCE, replay=QUARTER)
    return session


def test_int8_latents_teach_what_the_frames_do(
    case: Case, model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    Case.make(model.parent, hyper=HYPER, model=model).tune(tmp_path / "frames", source=SOURCE, replay=QUARTER)
    on_frames, from_latents = outcome(tmp_path / "frames"), outcome(undisturbed)
    sent = dict(on_frames.pop("samples"))
    assert dict(from_latents.pop("samples")) == {s: sent[s] for s in sent if s not in REPLAYED}
    assert from_latents == on_frames


def test_the_session_keeps_latents_and_labels_of_the_source_but_no_frame(
    case: Case, undisturbed: Path
) -> None:
    kept = dict(Session.open(undisturbed).latents())
    assert list(kept) == REPLAYED
    shapes = {name: (array.shape, array.dtype.name) for name, array in kept[2].items()}
    assert shapes == {
        "enc0.quantize": ((SIZE, SIZE, 6), "int8"),
        "up.quantize": ((SIZE, SIZE, 6), "int8"),
        "depth.label": ((SIZE, SIZE, 1), "float32"),
        "depth.mask": ((SIZE, SIZE, 1), "uint8"),
    }
    assert {path.name for path in undisturbed.glob("*.npz")} >= {"latents.npz", "samples.npz"}
    results = Session.open(undisturbed).results()
    assert results is not None
    found = results["latents"]
    assert found["layer"] == "up"
    assert (found["kept_bytes"], found["sent_bytes"], found["frame_bytes"]) == (3072, 3072, 768)
    assert found["macs"] == case.plan.describe()["latents"]["macs"] < found["frame_macs"]
    assert found["step_ms"] > 0
    assert found["frame_step_ms"] > 0


def test_a_killed_board_and_resume_change_nothing(case: Case, undisturbed: Path, tmp_path: Path) -> None:
    session = tmp_path / "session"

    def kill_board() -> None:
        os.kill(next(started_boards()), signal.SIGKILL)

    with pytest.raises(UserError, match="--resume"):
        case.tune(session, events={17: kill_board}, source=SOURCE, replay=QUARTER)
    case.tune(session, source=SOURCE, replay=QUARTER)
    assert outcome(session) == outcome(undisturbed)
    again, kept = (dict(Session.open(folder).latents()) for folder in (session, undisturbed))
    assert again.keys() == kept.keys()
    for step, arrays in kept.items():
        assert all(np.array_equal(array, again[step][name]) for name, array in arrays.items())


def test_float_latents_are_kept_within_half_a_step_of_their_channel(tmp_path: Path) -> None:
    case = Case.make(tmp_path, latents="up")
    stream = source_samples(SOURCE, case.network.needed_task(), case.plan.graph, 0)
    samples = [sample for _, (_, sample) in zip(range(3), stream, strict=False)]
    with Session.create(tmp_path / "s", {}) as session, open_board(case.plan, tmp_path / "f") as device:
        keep_latents(device, case.plan, zip((2, 6, 10), samples, strict=True), session, 3)
        for sample, kept, sent in zip(samples, session.latents(), LatentSamples(session), strict=True):
            device.put_sample({"image": sample["image"]})
            device.run_inference(0, case.plan.latent_step)
            for name, truth in device.read_role("latent").items():
                assert kept[1][name].dtype == np.int8
                assert sent[name].dtype == np.float32
                reach = truth.max((0, 1)) - truth.min((0, 1))
                assert (np.abs(sent[name] - truth) <= 0.501 * reach / 255).all()
                assert max(np.unique(sent[name][..., k]).size for k in range(6)) > 64
            assert sent.keys() == {"enc0", "up", "depth.label", "depth.mask"}


@pytest.mark.long
def test_an_emulated_board_learns_from_latents_with_the_bits_of_native(model: Path, tmp_path: Path) -> None:
    few: dict[str, Any] = {"steps": 4, "test": 1, "source": SOURCE[:4], "replay": Replay(Fraction(1, 2))}
    for board in ("native", "mps2_an386"):
        case = Case.make(tmp_path, board, latents="up", model=model)
        assert case.tune(tmp_path / board, **few)["latents"]["kept_bytes"] == 3072
    assert outcome(tmp_path / "native") == outcome(tmp_path / "mps2_an386")
