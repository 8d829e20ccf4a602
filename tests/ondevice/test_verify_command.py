"""``fieldtune verify`` from the outside."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import write_tiny

from fieldtune.__main__ import main

pytest.importorskip("onnxruntime")

# Returns something else than its own export.
UNSTABLE = """
import torch
from zoo.task import InputSpec, OutputSpec, Task

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return y if {stable} or torch.onnx.is_in_onnx_export() else y + 0.5

def network():
    task = Task((InputSpec("image", 1 / 255),), (OutputSpec("depth", "depth", "l1", "tof"),))
    return Net(), task, (1, 3, 8, 8)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.onnx")


def verify(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["verify", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_json_has_the_keys_that_scripts_rely_on(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = verify(capsys, str(model), "--count", "2")
    assert code == 0
    assert found["reference"].startswith("ONNX Runtime ")
    assert (found["board"], found["inputs"], found["equal"]) == ("native", 2, True)
    assert (found["mismatches"], found["first_difference"]) == (0, None)
    assert 0 < found["max_abs_diff"] < 1e-4
    assert [layer["name"] for layer in found["layers"]] == [
        "image",
        "enc0",
        "enc1",
        "up",
        "skip",
        "dec",
        "depth",
    ]
    assert {"name", "op", "max_abs_diff", "index", "expected", "got"} <= found["layers"][0].keys()


def test_a_person_reads_a_table_and_a_verdict(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "dark.npy", np.zeros((3, 16, 16, 3), np.uint8))
    assert main(["verify", str(model), "--inputs", str(tmp_path / "dark.npy")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["image", "dequantize"], ["enc0", "conv2d"]]
    assert lines[-2].startswith("3 inputs through ONNX Runtime")
    assert lines[-1].startswith("EQUAL")


def test_a_torch_network_is_compared_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(UNSTABLE.format(stable=True))
    code, found = verify(capsys, f"{tmp_path / 'net.py'}:network", "--count", "2")
    assert (code, found["equal"]) == (0, True)
    assert found["reference"].startswith("torch ")


def test_a_difference_has_an_exit_code_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(UNSTABLE.format(stable=False))
    assert main(["verify", f"{tmp_path / 'net.py'}:network", "--count", "2"]) == 2
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict.startswith("DIFFERENT: outputs are apart by up to 0.5")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.onnx"], "no model at nothing.onnx"),
        (["{model}", "--weights", "x.pth"], "leave out --weights"),
        (["{model}", "--inputs", "nothing.npz"], "there is no data set at nothing.npz"),
        (["{model}", "--board", "no_board"], "no_board"),
        (["zoo:upydnet"], "give it with --weights"),
        (["nothing.py:network"], "there is no nothing.py"),
        (["{model.parent}/broken.py:network"], "does not return a network: ZeroDivisionError"),
        (["{model.parent}/wrong.py:network"], "must return a torch module"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    words: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model.parent / "broken.py").write_text("def network():\n    return 1 / 0\n")
    (model.parent / "wrong.py").write_text("def network():\n    return 1, 2, (3, 4)\n")
    assert main(["verify", *(word.format(model=model) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
