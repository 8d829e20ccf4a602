"""A damaged model file is refused in one sentence, or loads: no traceback, no hang, no gigabytes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from mutations import damaged
from small_tflite import small_tflite
from tiny import write_tiny

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATA = ROOT.parent / "shared" / "data"

FEW, MANY = 300, 2000


def _quantized_onnx(folder: Path) -> Path:
    """Return the tiny network as ONNX Runtime quantizes it."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, target = write_tiny(folder / "tiny.onnx"), folder / "tiny_qdq.onnx"
    random = np.random.default_rng(1)
    samples = iter([{"image": random.random((1, 3, 16, 16), np.float32)} for _ in range(2)])

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(samples, None)

    quantization.quantize_static(
        source, target, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True
    )
    return target


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("originals")
    small = folder / "small.tflite"
    small.write_bytes(small_tflite())
    tiny = write_tiny(folder / "tiny.onnx", ("depth", "kind"))
    paths = [small, tiny, _quantized_onnx(folder), ROOT / "zoo" / "weights" / "upydnet_rendered.onnx"]
    return [*paths, *sorted(DATA.glob("*.tflite"))]


def _mutants(originals: list[Path], folder: Path, count: int, seed: int) -> list[Path]:
    random = np.random.default_rng(seed)
    paths = []
    for k in range(count):
        original = originals[k % len(originals)]
        path = folder / f"{k}{original.suffix}"
        path.write_bytes(damaged(original, random))
        paths.append(path)
    return paths


def _load_all(paths: list[Path]) -> list[str]:
    """Return what a worker says of each file."""
    done = subprocess.run(
        [sys.executable, str(HERE / "mutation_worker.py")],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=1800,
    )
    answers = done.stdout.splitlines()
    assert len(answers) == len(paths), f"the worker died of {paths[len(answers)]}: {done.stderr[-2000:]}"
    return answers


def _check(paths: list[Path]) -> None:
    answers = _load_all(paths)
    bad = [
        f"{path.name}: {answer}"
        for path, answer in zip(paths, answers, strict=True)
        if answer != "fine" and not answer.startswith("refused: ")
    ]
    bad += [f"{path.name}: {a}" for path, a in zip(paths, answers, strict=True) if "\\n" in a]
    assert not bad, "\n".join(bad)
    assert sum(answer != "fine" for answer in answers) > len(answers) // 4, "the mutations hit nothing"


def test_the_originals_load(originals: list[Path]) -> None:
    assert set(_load_all(originals)) == {"fine"}


def test_a_damaged_file_is_refused_in_one_sentence_or_loads(originals: list[Path], tmp_path: Path) -> None:
    _check(_mutants(originals, tmp_path, FEW, seed=1))


@pytest.mark.long
def test_two_thousand_damaged_files(originals: list[Path], tmp_path: Path) -> None:
    _check(_mutants(originals, tmp_path, MANY, seed=2))


def test_data_outside_of_the_model_s_folder_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(4096))
    (folder / "link").symlink_to(tmp_path / "secret")
    paths = []
    for k, location in enumerate(("../secret", str(tmp_path / "secret"), "link", "missing")):
        model = onnx.load(write_tiny(folder / "tiny.onnx"))
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        paths.append(folder / f"{k}.onnx")
        paths[-1].write_bytes(model.SerializeToString())
    assert all(answer.startswith("refused: ") for answer in _load_all(paths))
