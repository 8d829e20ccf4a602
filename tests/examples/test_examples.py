"""The examples run as their docstrings say, and do what they promise."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
UPDATE = "decoder0*,ups0*"
WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script: str, *arguments: str | Path, folder: Path) -> str:
    """Run an example where torch is not installed; return what it printed."""
    command = [sys.executable, "-c", WITHOUT_TORCH, EXAMPLES / script, *arguments]
    return subprocess.run(command, cwd=folder, check=True, text=True, stdout=subprocess.PIPE).stdout


@pytest.fixture(scope="module")
def session(workplace: Path) -> Path:
    """A session that fine_tune_on_my_folder.py made."""
    run(
        "fine_tune_on_my_folder.py",
        *("upydnet.onnx", "my_frames.npz", "--update", UPDATE, "--steps", "6", "-o", "my_session"),
        folder=workplace,
    )
    return workplace / "my_session"


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_shows_its_command_line_and_is_short(script: Path) -> None:
    text = script.read_text()
    assert f"python examples/{script.name} " in text
    assert text.count("\n") < 80


def test_fine_tuning_on_a_folder_improves_the_network_and_leaves_a_report(session: Path) -> None:
    results = json.loads((session / "results.json").read_text())
    assert results["steps"] == 6
    assert results["after"]["rmse"] < results["before"]["rmse"]
    assert (session / "report.html").is_file()


def test_weights_read_back_into_torch_predict_what_the_board_predicted(session: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    command = [sys.executable, EXAMPLES / "weights_to_torch.py", session, "-o", "tuned.pth"]
    printed = subprocess.run(command, cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE).stdout
    found = re.search(r"8 tensors learned; torch and board differ by at most (\S+) m", printed)
    assert found is not None
    assert float(found[1]) < 1e-4
    state = torch.load(tmp_path / "tuned.pth", weights_only=True)
    with np.load(session / "weights_after.npz") as learned, np.load(session / "weights_before.npz") as before:
        for name in learned:
            assert np.array_equal(state[name].numpy(), learned[name])
            assert not np.array_equal(learned[name], before[name])


def test_labels_of_ones_own_teach_the_board(workplace: Path) -> None:
    printed = run(
        "custom_labels.py",
        *("upydnet.onnx", "my_frames.npz", "--update", UPDATE, "-o", "learned.npz"),
        folder=workplace,
    )
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", printed)]
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    initial = {item.name: onnx.numpy_helper.to_array(item) for item in _initializers(workplace)}
    with np.load(workplace / "learned.npz") as learned:
        assert len(learned) == 8
        for name in learned:
            assert learned[name].shape == initial[name].shape
            assert not np.array_equal(learned[name], initial[name])


def _initializers(folder: Path) -> list[onnx.TensorProto]:
    return list(onnx.load(folder / "upydnet.onnx").graph.initializer)


def test_a_plane_is_found_again_from_a_part_of_it() -> None:
    plane_label = runpy.run_path(str(EXAMPLES / "custom_labels.py"))["plane_label"]
    rows, columns = np.indices((12, 16))
    plane = (20 + 0.5 * rows - 0.25 * columns)[..., None].astype(np.float32)
    known = np.zeros((12, 16, 1), np.uint8)
    known[3:9, 4:12] = 1
    assert plane_label(np.where(known, plane, 0), known) == pytest.approx(plane, abs=1e-4)
