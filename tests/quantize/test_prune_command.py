"""``fieldtune prune`` as a user meets it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny import tiny_frames, write_tiny

pytest.importorskip("torch_pruning", reason="torch-pruning is not installed; pip install 'fieldtune[prune]'")

from fieldtune.__main__ import main
from zoo.loaders.npz import write_npz

MISTAKES = (
    (["missing.onnx"], "there is no model at"),
    (["no_task.onnx"], "has no task"),
    (["--weights", "x.pth"], "--weights is for networks of the zoo"),
    (["--data", "missing.npz"], "there is no data set at"),
    (["--board", "nothing"], "nothing"),
    (["--board", "native"], "estimated for microcontrollers only"),
    (["--keep-instructions", "few"], "'few' is no number of instructions"),
    (["--keep-ram", "lots"], "'lots' is not a size"),
    (["--max-drop", "colour=2%"], "--max-drop names 'colour'"),
    (["--update", "nothing*"], "nothing*"),
    (["--test", "-1"], "--test -1"),
    (["--epochs", "-1"], "--epochs -1"),
    (["--test", "33"], "pruning needs 8 others"),
    (["--data", "blind.npz"], "frames has a valid label to train on"),
    (["--lr", "1e38"], "--lr 1e+38 is above 1"),
    (["--final-epochs", "-1"], "--final-epochs -1 is no number from 0 up"),
    (["--augment", "mirror,noise"], "'noise' is neither mirror nor colour"),
    (["-o", "a_file/out.onnx"], "cannot write"),
    (["--report", "a_file/page.html"], "cannot write"),
)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs, good and bad."""
    folder = tmp_path_factory.mktemp("given")
    model = onnx.load(write_tiny(folder / "tiny.onnx", ("depth",)))
    del model.metadata_props[:]
    onnx.save(model, folder / "no_task.onnx")
    (folder / "a_file").write_text("")
    write_npz(folder / "frames.npz", tiny_frames(40))
    arrays = dict(np.load(folder / "frames.npz"))
    np.savez(folder / "blind.npz", **{**arrays, "tof_target_status": np.zeros((40, 8, 8), np.uint8)})
    write_tiny(folder / "heads.onnx", ("depth", "segments"))
    return folder


def _prune(*words: str) -> int:
    defaults = ["--data", "frames.npz", "--board", "mps2_an386", "-o", "out.onnx", "--epochs", "1"]
    model = words[:1] if words and words[0].endswith(".onnx") else ("tiny.onnx",)
    rest = words[1:] if words and words[0].endswith(".onnx") else words
    goal = [] if any(word.startswith("--keep") for word in words) else ["--keep-instructions", "70%"]
    return main(["prune", *model, *defaults, *goal, *rest, "-q"])


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_answered_with_one_sentence(
    words: Sequence[str],
    message: str,
    given: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(given)
    (given / "out.onnx").unlink(missing_ok=True)
    assert _prune(*words) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (given / "out.onnx").exists()


def test_writes_a_network_that_plans_smaller_and_a_page_that_shows_it(
    given: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(given)
    out, page = tmp_path / "small.onnx", tmp_path / "page.html"
    words = ("heads.onnx", "-o", str(out), "--report", str(page), "--max-drop", "900%", "--json")
    assert _prune(*words, "--keep-flash", "95%", "--test", "8") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["missed"] == []
    assert found["costs"]["after"]["flash"] <= found["goals"]["flash"]
    assert found["out"] == str(out)
    weights = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(out).graph.initializer}
    for name, (_, after) in found["layers"].items():
        assert after in weights[f"{name}.weight"][:2]
    html = page.read_text()
    assert "All goals and drops are kept." in html
    assert all(f"<h3>{what}</h3>" in html for what in ("Instructions", "RAM", "Flash"))
    assert html.count('class="dot"') == 3 * len(found["rounds"])


def test_what_cannot_be_reached_is_said_and_the_best_is_written(
    given: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(given)
    out = tmp_path / "best.onnx"
    assert _prune("-o", str(out), "--max-drop", "900%", "--keep-flash", "1K", "--rounds", "1") == 2
    error = capfd.readouterr().err
    assert "the goals are not reached within --max-drop 900%" in error
    assert "instead of 1,024" in error
    assert out.is_file()


def test_without_the_package_it_says_what_to_install(
    given: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(given)
    monkeypatch.setitem(__import__("sys").modules, "torch_pruning", None)
    assert _prune() == 2
    assert "pip install 'fieldtune[prune]'" in capfd.readouterr().err


def test_an_output_without_labels_does_not_hold_pruning_back(
    given: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(given)
    task = (
        "[input.image]\nscale = 0.00392156862745098\n[output.depth]\nkind = 'depth'\n"
        "[output.segments]\nkind = 'segmentation'\nlabels = 'none'\n"
    )
    (tmp_path / "one.toml").write_text(task)
    words = ["heads.onnx", "--task", str(tmp_path / "one.toml"), "--max-drop", "depth=90%", "--rounds", "1"]
    assert _prune(*words, "--keep-instructions", "90%") == 0
    assert len(onnx.load(given / "out.onnx").graph.output) == 2
