"""``fieldtune quantize`` as a user meets it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny import tiny_frames, write_tiny

from fieldtune.__main__ import main
from zoo.loaders.npz import write_npz

NETWORK = """
import torch
from torch import nn
from zoo.task import InputSpec, OutputSpec, Task


def network():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))
    spec = OutputSpec("depth", "depth", "l1", "truth", max_depth=6.0)
    return module, Task((InputSpec("image", 1 / 255),), (spec,)), (1, 3, 16, 16)


def nothing():
    return None
"""


MISTAKES = (
    (["missing.onnx"], "there is no model at"),
    (["broken.onnx"], "is it complete"),
    (["a_file"], "is no .onnx file"),
    (["no_task.onnx"], "has no task"),
    (["grey.onnx"], "has 1 channels"),
    (["net.py:nothing"], "does not return a network"),
    (["net.py:missing"], "does not return a network"),
    (["--weights", "x.pth"], "--weights is for networks of the zoo"),
    (["--data", "missing.npz"], "there is no data set at"),
    (["--data", "a_file"], "is no data set"),
    (["--test", "12"], "none is left to calibrate with"),
    (["--test", "-1"], "--test -1"),
    (["--epochs", "-1"], "--epochs -1"),
    (["--keep-float", "nothing*"], "is called 'nothing*'"),
    (["--keep-float", "*"], "no layer of tiny is left for int8"),
    (["--epochs", "1", "--backend", "onnxruntime"], "--epochs needs --backend nncf"),
    (["--epochs", "1", "--data", "blind.npz"], "none of the 12 frames has a valid label"),
    (["--epochs", "2", "--lr", "1e30"], "training diverges"),
    (["--backend", "onnxruntime", "-o", "a_file/out.onnx"], "cannot write"),
)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs, good and bad."""
    folder = tmp_path_factory.mktemp("given")
    model = onnx.load(write_tiny(folder / "tiny.onnx"))
    del model.metadata_props[:]
    onnx.save(model, folder / "no_task.onnx")
    (folder / "broken.onnx").write_bytes((folder / "tiny.onnx").read_bytes()[:700])
    (folder / "net.py").write_text(NETWORK)
    (folder / "a_file").write_text("")
    write_npz(folder / "frames.npz", tiny_frames(12))
    arrays = dict(np.load(folder / "frames.npz"))
    np.savez(folder / "blind.npz", **{**arrays, "tof_target_status": np.zeros((12, 8, 8), np.uint8)})
    grey = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["depth"])],
        "grey",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 1, 4, 4))],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, (1, 1, 4, 4))],
    )
    proto = helper.make_model(grey, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    proto.metadata_props.extend(onnx.load(folder / "tiny.onnx").metadata_props)
    onnx.save(proto, folder / "grey.onnx")
    return folder


def _quantize(given: Path, out: Path, *words: str) -> int:
    """Run the command on "tiny.onnx" and "frames.npz" unless other files are named."""
    model = words[0] if words and not words[0].startswith("-") else "tiny.onnx"
    rest: Sequence[str] = words[1:] if words and words[0] == model else words
    arguments = ["quantize", str(given / model), "-o", str(out), *rest]
    if "--data" not in rest:
        arguments += ["--data", str(given / "frames.npz")]
    return main(arguments)


def test_json_tells_what_was_done(given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.onnx"
    assert _quantize(given, out, "--json", "--test", "3", "--samples", "5", "--epochs", "1") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["out"] == str(out)
    assert report["backend"] == "nncf"
    assert report["calibration"] == 5
    assert [layer["name"] for layer in report["layers"]] == ["enc0", "enc1", "up", "dec", "depth"]
    assert all(layer["sensitivity"] > 0 for layer in report["layers"])
    assert 0 < report["rms_error_share"] < 0.1
    assert report["rms_error"] > 0
    assert set(report["loss"]) == {"before", "after"}


def test_a_torch_network_is_quantized(given: Path, tmp_path: Path) -> None:
    assert _quantize(given, tmp_path / "out.onnx", "net.py:network", "-q") == 0
    kinds = [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node]
    assert kinds.count("Conv") == 2
    assert kinds.count("QuantizeLinear") == 3


def test_the_light_path_needs_no_torch(given: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules.update(torch=None, nncf=None)\n"
        "from fieldtune.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["quantize", str(given / "tiny.onnx"), "--data", str(given / "frames.npz"), "-q"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "-o", str(tmp_path / "out.onnx"), "--backend", "onnxruntime"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert (tmp_path / "out.onnx").is_file()


@pytest.mark.parametrize(("words", "complaint"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_mistakes_are_one_sentence_and_leave_no_file(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(given)
    before = sorted(os.listdir(given))
    assert _quantize(given, tmp_path / "out.onnx", *words) == 2
    printed = capsys.readouterr()
    message = [line for line in printed.err.splitlines() if line.startswith("fieldtune: ")]
    assert len(message) == 1
    assert complaint in message[0]
    assert printed.out == ""
    assert not list(tmp_path.iterdir())
    assert sorted(set(os.listdir(given)) - {"__pycache__"}) == sorted(set(before) - {"__pycache__"})


@pytest.mark.parametrize(
    ("missing", "backend"), [("nncf", "nncf"), ("torch", "nncf"), ("onnxruntime", "onnxruntime")]
)
def test_a_missing_package_is_named_with_what_installs_it(
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
    backend: str,
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert _quantize(given, tmp_path / "out.onnx", "--backend", backend) == 2
    assert f"needs {missing}: pip install 'fieldtune[quantize]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_quantized_file_is_not_quantized_again(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    assert _quantize(given, out, "--backend", "onnxruntime", "-q") == 0
    again = ["quantize", str(out), "--data", str(given / "frames.npz"), "-o", str(tmp_path / "again.onnx")]
    assert main([*again, "--backend", "onnxruntime"]) == 2
    assert "holds integers already" in capsys.readouterr().err
