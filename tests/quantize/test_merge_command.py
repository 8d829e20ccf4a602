"""``fieldtune merge`` as a user meets it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny import tiny_frames, tiny_task, write_tiny

from fieldtune.__main__ import main
from quantize.float_network import read_network
from zoo.loaders.npz import write_npz
from zoo.task import format_task

HEADS = ("depth", "segments")
MISTAKES = (
    (["missing.onnx", "one.onnx"], "there is no model at missing.onnx"),
    (["base.onnx", "missing.onnx"], "there is no model at missing.onnx"),
    (["base.onnx", "no_task.onnx"], "has no task"),
    (["base.onnx", "depth.onnx"], "depth.onnx was not tuned from base: it has another task"),
    (["base.onnx", "base.onnx"], "base.onnx is given twice"),
    (["base.onnx", "one.onnx", "one.onnx"], "one.onnx is given twice"),
    (["base.onnx", "copy.onnx"], "copy.onnx has the weights of base"),
    (["--data", "missing.npz"], "there is no data set at"),
    (["--data", "frames.npz", "frames.npz"], "frames.npz is given twice"),
    (["--data", "blind.npz"], "valid label"),
    (["--test", "-1"], "--test -1"),
    (["--seed", "-1"], "--seed -1"),
    (["--test", "20"], "there are 20 frames in frames.npz, of which --test sets 20 apart"),
    (["-o", "a_file/out.onnx"], "cannot write"),
)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs, good and bad."""
    folder = tmp_path_factory.mktemp("given")
    base = onnx.load(write_tiny(folder / "base.onnx", HEADS))
    write_tiny(folder / "copy.onnx", HEADS)
    write_tiny(folder / "depth.onnx")
    for seed, name in enumerate(("one.onnx", "two.onnx", "no_task.onnx")):
        random = np.random.default_rng(seed)
        for weight in base.graph.initializer:
            value = numpy_helper.to_array(weight) + 0.02 * random.standard_normal(tuple(weight.dims))
            weight.CopyFrom(numpy_helper.from_array(value.astype(np.float32), weight.name))
        if name == "no_task.onnx":
            del base.metadata_props[:]
        onnx.save(base, folder / name)
    (folder / "a_file").write_text("")
    (folder / "all.task.toml").write_text(format_task(tiny_task(HEADS)))
    write_npz(folder / "frames.npz", tiny_frames(20))
    write_npz(folder / "others.npz", tiny_frames(12, seed=5))
    arrays = dict(np.load(folder / "frames.npz"))
    unknown = {
        "tof_target_status": np.zeros((20, 8, 8), np.uint8),
        "classes": np.full((20, 24, 24), 255, np.uint8),
    }
    np.savez(folder / "blind.npz", **{**arrays, **unknown})
    return folder


def _merge(*words: str) -> int:
    models = [word for word in words if word.endswith(".onnx") and "/" not in word]
    rest = [word for word in words if word not in models]
    data = [] if "--data" in rest else ["--data", "frames.npz"]
    out = [] if "-o" in rest else ["-o", "made/out.onnx"]
    models = models or ["base.onnx", "one.onnx", "two.onnx"]
    return main(["merge", *models, *data, *out, "--steps", "4", *rest, "-q"])


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_answered_with_one_sentence(
    words: Sequence[str],
    message: str,
    given: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(given)
    (given / "made" / "out.onnx").unlink(missing_ok=True)
    assert _merge(*words) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (given / "made" / "out.onnx").exists()


def test_writes_a_network_and_tells_how_good_each_is_on_each_data_set(
    given: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(given)
    assert _merge("--data", "frames.npz", "others.npz", "--test", "4", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["out"] == "made/out.onnx"
    assert found["coefficients"].keys() == {"enc0", "enc1", "up", "dec", *HEADS}
    assert found["scores"].keys() == {"frames.npz", "others.npz"}
    for rows in found["scores"].values():
        assert list(rows) == ["base", "one.onnx", "two.onnx", "average", "merged"]
        assert all(outputs.keys() == {*HEADS} for outputs in rows.values())
        assert rows["merged"]["segments"]["points"] is not None
    merged, base = (read_network(given / name) for name in ("made/out.onnx", "base.onnx"))
    assert merged.task == base.task
    assert merged.graph.constants.keys() == base.graph.constants.keys()


def test_a_merged_network_can_be_merged_again(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(given)
    assert _merge("--granularity", "task") == 0
    (given / "made" / "out.onnx").rename(given / "again.onnx")
    assert _merge("base.onnx", "one.onnx", "again.onnx") == 0


def test_a_task_file_is_that_of_all(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(given)
    assert _merge("base.onnx", "no_task.onnx", "--task", "all.task.toml") == 0


def test_without_the_package_it_says_what_to_install(
    given: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(given)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert _merge() == 2
    assert "pip install 'fieldtune[torch]'" in capfd.readouterr().err
