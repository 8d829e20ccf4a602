"""The runtimes that firmware is compared with give their tensors as the graph has them."""

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import write_tiny

from fieldtune.errors import ModelError, UserError
from firmware_gen.graph import Quantization, Tensor
from firmware_gen.project import load_network
from ondevice.references import LiteRt, OnnxRuntime, open_reference
from ondevice.verify import sourced_tensors

onnxruntime = pytest.importorskip("onnxruntime")
SHARED = Path(__file__).resolve().parents[2].parent / "shared"
X = Tensor("x", (3, 4, 2), source="x")
Q = Tensor("q", (3, 4, 2), "i8", Quantization(0.5, -128), source="q")
Y = Tensor("y", (3, 4, 5), "i8", Quantization(0.25, -8), source="y")


@pytest.fixture
def quantized(tmp_path: Path) -> OnnxRuntime:
    """x -> uint8 q -> dequantized, convolved, quantized to uint8 y."""
    constants = {
        "half": np.float32(0.5),
        "quarter": np.float32(0.25),
        "zero": np.uint8(0),
        "mid": np.uint8(120),
        "weight": np.random.default_rng(2).normal(0, 1, (5, 2, 1, 1)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "half", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "half", "zero"], ["d"]),
            helper.make_node("Conv", ["d", "weight"], ["c"]),
            helper.make_node("QuantizeLinear", ["c", "quarter", "mid"], ["y"]),
        ],
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 2, 3, 4))],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, ("batch", 5, 3, 4))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    path = tmp_path / "quantized.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return OnnxRuntime(path, [X, Q, Y])


def test_unsigned_channels_first_tensors_come_as_signed_channels_last(quantized: OnnxRuntime) -> None:
    x = np.random.default_rng(1).uniform(0, 40, X.shape).astype(np.float32)
    found = quantized.run({"x": x})
    expected = np.clip(np.rint(x / 0.5), 0, 255) - 128
    assert np.array_equal(found["x"], x)
    assert np.array_equal(found["q"], expected)
    assert (found["q"].dtype, found["y"].dtype, found["y"].shape) == (np.int8, np.int8, Y.shape)


def test_layers_start_from_the_board_s_values(quantized: OnnxRuntime) -> None:
    x = np.random.default_rng(1).uniform(0, 40, X.shape).astype(np.float32)
    right = dict(quantized.run({"x": x}))
    same = quantized.layers({"x": x}, right)
    assert all(np.array_equal(same[name], right[name]) for name in ("x", "q", "y"))
    off = right["q"].copy()
    off[1, 2, 0] += 9
    found = quantized.layers({"x": x}, {**right, "q": off})
    assert np.array_equal(found["q"], right["q"])  # what it should have been
    changed = (found["y"] != right["y"]).any(-1)
    assert changed[1, 2]
    assert changed.sum() == 1


def test_tensors_between_are_those_of_the_unchanged_model(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.onnx", ["depth", "kind"])
    tensors = sourced_tensors(load_network(path).graph)
    image = np.random.default_rng(4).random((16, 16, 3), np.float32)
    found = open_reference(path, tensors).run({"image": image})
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    depth, kind = session.run(["depth", "kind"], {"image": image.transpose(2, 0, 1)[None]})
    np.testing.assert_allclose(found["depth"], depth[0].transpose(1, 2, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["kind"].ravel(), kind[0], rtol=1e-5, atol=1e-6)
    skip = found["skip"]
    assert np.array_equal(np.concatenate([found["up"], found["enc0.act"]], -1), skip)


def test_litert_gives_every_tensor_of_a_model() -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    path = SHARED / "data" / "kws_ref_model.tflite"
    if not path.is_file():
        pytest.skip("needs ../shared/data/kws_ref_model.tflite")
    tensors = [
        Tensor("in", (49, 10, 1), "i8", source="0"),
        Tensor("conv", (25, 5, 64), "i8", source="22"),
        Tensor("out", (1, 1, 12), "i8", source="34"),
    ]
    reference = LiteRt(path, tensors)
    sample = np.random.default_rng(0).integers(-128, 128, (49, 10, 1), np.int8)
    found = reference.run({"0": sample})
    resolver = interpreter.OpResolverType.BUILTIN_REF
    plain = interpreter.Interpreter(str(path), experimental_op_resolver_type=resolver)
    plain.allocate_tensors()
    plain.set_tensor(0, sample[None])
    plain.invoke()
    assert np.array_equal(found["34"].ravel(), plain.get_tensor(34).ravel())
    assert found["22"].shape == (25, 5, 64)
    assert np.unique(found["22"]).size > 10  # kept, although later tensors could lie in its memory
    assert np.array_equal(found["0"], sample)


@pytest.mark.parametrize(("name", "package"), [("net.tflite", "ai_edge_litert"), ("net.onnx", "onnxruntime")])
def test_a_missing_runtime_is_told(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=re.escape("pip install 'fieldtune[verify]'")):
        open_reference(Path(name), [Y])


@pytest.mark.parametrize("name", ["broken.tflite", "broken.onnx"])
def test_a_file_that_a_runtime_cannot_run_is_refused(name: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / name
    if path.suffix == ".onnx":
        node = helper.make_node("Relu", ["nothing"], ["y"])
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 5, 3, 4))
        onnx.save(helper.make_model(helper.make_graph([node], "broken", [], [output])), path)
    else:
        path.write_bytes(b"TFL3" * 40)
    with pytest.raises(ModelError, match=f"cannot run .*{name}"):
        open_reference(path, [Y])
