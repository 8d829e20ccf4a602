"""QDQ models become integer layers that stay within one step of ONNX Runtime's floats."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from int8_proof import run
from onnx import helper
from qdq_models import OPSET, Scale, between_integers, border, float_model

from fieldtune.errors import ModelError
from firmware_gen.graph import Graph, Quantization
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import simplify
from firmware_gen.passes.integer_layers import integer_layers

Array = np.ndarray[Any, np.dtype[Any]]
Dims = tuple[int, ...]
FLOAT_LAYERS = {"conv2d", "activation", "add", "sub", "mul", "average_pool", "max_pool", "resize", "softmax"}
SAMPLES = 4


@dataclass(frozen=True)
class Case:
    """An operator, the shapes of its inputs and of y, its constants; `like_input`: y has the scale of x."""

    kind: str
    shapes: dict[str, Dims]
    constants: dict[str, Array] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("x",)
    like_input: bool = False
    range_of_y: float = 3.0

    def model(self, random: np.random.Generator, dtype: str) -> onnx.ModelProto:
        """Return the operator between tensors of random scales."""
        scales = {name: _scale(random, dtype, 3.0) for name in self.shapes if name != "y"}
        scales["y"] = scales["x"] if self.like_input else _scale(random, dtype, self.range_of_y)
        node = helper.make_node(self.kind, list(self.inputs), ["y"], **self.attributes)
        return between_integers(node, self.shapes, scales, self.constants)


def _scale(random: np.random.Generator, dtype: str, span: float) -> Scale:
    """Return a quantization that covers about -span..span, lopsided."""
    zero = int(random.integers(-60, 60)) + (128 if dtype == "uint8" else 0)
    return Scale(float(np.float32(span * random.uniform(0.9, 1.3) / 110)), zero, dtype)


def _weights(random: np.random.Generator, *dims: int) -> Array:
    fan_in = int(np.prod(dims[1:])) or 1
    return (random.standard_normal(dims) * 1.5 / np.sqrt(fan_in)).astype(np.float32)


def cases() -> dict[str, Case]:
    """Return one case or more for every operator that has an integer twin."""
    random = np.random.default_rng(3)

    def layer(given: int, *rest: int) -> dict[str, Array]:
        bias = random.standard_normal(given).astype(np.float32)
        return {"layer.weight": _weights(random, given, *rest), "layer.bias": bias}

    parameters = ("x", "layer.weight", "layer.bias")
    square = {"x": (1, 4, 6, 6), "y": (1, 4, 6, 6)}
    halves = {"x": (1, 3, 8, 8), "y": (1, 3, 4, 4)}
    two = {"x": (1, 4, 5, 5), "x2": (1, 4, 5, 5), "y": (1, 4, 5, 5)}
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    scales = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    double = {"x": (1, 3, 4, 5), "y": (1, 3, 8, 10)}
    made = {
        "conv": Case(
            "Conv",
            {"x": (1, 5, 9, 8), "y": (1, 7, 9, 8)},
            layer(7, 5, 3, 3),
            {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
            parameters,
        ),
        "depthwise": Case(
            "Conv",
            {"x": (1, 6, 10, 9), "y": (1, 6, 5, 4)},
            layer(6, 1, 3, 3),
            {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1], "group": 6},
            parameters,
        ),
        "conv_transpose": Case(
            "ConvTranspose",
            {"x": (1, 6, 4, 5), "y": (1, 5, 8, 10)},
            {"layer.weight": _weights(random, 6, 5, 2, 2)},
            {"strides": [2, 2]},
            parameters[:2],
        ),
        "gemm": Case("Gemm", {"x": (1, 33), "y": (1, 10)}, layer(10, 33), {"transB": 1}, parameters),
        "max_pool": Case("MaxPool", halves, {}, window, like_input=True),
        "average_pool": Case("AveragePool", halves, {}, window, range_of_y=1.5),
        "average_pool_of_one_scale": Case(
            "AveragePool", square, {}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, like_input=True
        ),
        "global_average": Case("GlobalAveragePool", {"x": (1, 5, 6, 7), "y": (1, 5, 1, 1)}, range_of_y=0.5),
        "concat": Case("Concat", {**two, "y": (1, 8, 5, 5)}, {}, {"axis": 1}, ("x", "x2")),
        "nearest": Case(
            "Resize", double, scales, {"mode": "nearest"}, ("x", "roi", "scales"), like_input=True
        ),
        "bilinear": Case(
            "Resize", double, scales, {"mode": "linear"}, ("x", "roi", "scales"), like_input=True
        ),
        "flatten": Case("Flatten", {"x": (1, 3, 4, 4), "y": (1, 48)}, like_input=True),
        "softmax": Case("Softmax", {"x": (1, 9), "y": (1, 9)}, {}, {"axis": 1}, range_of_y=0.4),
    }
    for kind in ("Add", "Sub", "Mul"):
        made[kind.lower()] = Case(kind, two, {}, {}, ("x", "x2"), range_of_y=5.0)
    for kind in ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish"):
        made[kind.lower()] = Case(kind, square)
    return made


CASES = cases()


def integers(path: Path) -> Graph:
    """Return the graph of a QDQ file."""
    return integer_layers(simplify(import_onnx(path)))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_operators_stay_within_one_step_of_onnx_runtime(dtype: str, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    graphs, samples, expected = [], [], []
    for name, case in CASES.items():
        path = tmp_path / f"{name}.onnx"
        onnx.save(case.model(random, dtype), path)
        graphs.append(integers(path))
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        drawn = [
            {x: random.standard_normal(case.shapes[x]).astype(np.float32) for x in case.shapes if x != "y"}
            for _ in range(SAMPLES)
        ]
        expected.append([session.run(None, sample)[0] for sample in drawn])
        samples.append([[channels_last(sample[x]) for x in graphs[-1].inputs] for sample in drawn])
    found = run(graphs, samples, tmp_path / "c")
    for name, graph, outputs, truths in zip(CASES, graphs, found, expected, strict=True):
        step = last_quantization(graph)
        assert FLOAT_LAYERS.isdisjoint(op.kind for op in graph.ops), (name, [op.kind for op in graph.ops])
        for output, truth in zip(outputs, truths, strict=True):
            difference = np.abs(output[0] - channels_last(truth)).max()
            assert difference <= 1.01 * step, (name, difference / step)


def last_quantization(graph: Graph) -> float:
    """Return the scale of the integers from which the output comes."""
    last = graph.producer(graph.outputs[0])
    assert last is not None
    assert last.kind == "dequantize"
    quantization = graph.tensors[last.inputs[0]].quantization
    assert quantization is not None
    return quantization.scale


def channels_last(value: Array) -> Array:
    """Return (rows, columns, channels) of a channels-first array with a batch of one."""
    dims = value.shape[1:]
    return value.reshape(dims[0], *((1, 1, *dims[1:])[-2:])).transpose(1, 2, 0)


def test_networks_exported_by_torch_become_integers(tmp_path: Path) -> None:
    # Weights are exported as floats with a quantize and a dequantize behind, batch normalization stays.
    torch = pytest.importorskip("torch")

    class Layer(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, taken: int, given: int) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(taken, given, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(given)
            torch.nn.init.normal_(self.norm.weight)  # negative ones too
            torch.nn.init.normal_(self.norm.bias)
            self.register_buffer("scales", self.conv.weight.detach().abs().amax((1, 2, 3)) / 127)
            self.register_buffer("zeros", torch.zeros(given, dtype=torch.int32))

        def forward(self, x: Any) -> Any:
            weight = torch.fake_quantize_per_channel_affine(
                self.conv.weight, self.scales, self.zeros, 0, -128, 127
            )
            y = torch.nn.functional.conv2d(x, weight, self.conv.bias, padding=1)
            return torch.fake_quantize_per_tensor_affine(torch.relu(self.norm(y)), 0.03, -128, -128, 127)

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(Layer(3, 8), Layer(8, 4))

        def forward(self, x: Any) -> Any:
            return self.layers(torch.fake_quantize_per_tensor_affine(x, 0.03, 0, -128, 127))

    torch.manual_seed(0)
    path = tmp_path / "torch.onnx"
    torch.onnx.export(
        Network().eval(),
        (torch.zeros(1, 3, 8, 8),),
        path,
        dynamo=False,
        opset_version=OPSET,
        input_names=["x"],
    )
    assert {"QuantizeLinear", "BatchNormalization"} <= {node.op_type for node in onnx.load(path).graph.node}
    graph = integers(path)
    assert [op.kind for op in graph.ops] == ["quantize", "conv2d_i8", "conv2d_i8", "dequantize"]
    x = np.random.default_rng(4).standard_normal((1, 3, 8, 8)).astype(np.float32)
    truth = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    (found,) = run([graph], [[[channels_last(x)]]], tmp_path / "c")
    assert np.abs(found[0][0] - channels_last(truth)).max() <= 2.01 * last_quantization(graph)


@pytest.mark.parametrize(("dtype", "refused"), [("int8", False), ("uint8", True)])
def test_integer_outputs_are_int8(dtype: str, refused: bool, tmp_path: Path) -> None:
    arrays: dict[str, Array] = {}
    node, _ = border("x", "y", Scale(0.02, 7, dtype), arrays)
    model = float_model(
        [node], {"x": (1, 3)}, {"y.q": (1, 3)}, arrays, getattr(onnx.TensorProto, dtype.upper())
    )
    onnx.save(model, tmp_path / "net.onnx")
    if refused:
        with pytest.raises(ModelError, match=r"the output 'y\.q' .* is uint8; quantize it to int8"):
            integers(tmp_path / "net.onnx")
    else:
        graph = integers(tmp_path / "net.onnx")
        assert graph.tensors["y.q"].quantization == Quantization(float(np.float32(0.02)), 7)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y.zero": np.array(7, np.int16)}, "integers of type int16"),
        ({"y.scale": np.array(np.nan, np.float32)}, "scales that are not positive numbers"),
        ({"y.scale": np.array(0, np.float32)}, "scales that are not positive numbers"),
        ({"y.scale": np.full(3, 0.1, np.float32), "y.zero": np.zeros(3, np.int8)}, "quantized per channel"),
        ({"y.zero": np.zeros(3, np.int8)}, "3 zero points for 1 scales"),
    ],
)
def test_impossible_quantization_is_refused(change: dict[str, Array], says: str, tmp_path: Path) -> None:
    arrays: dict[str, Array] = {}
    nodes = border("x", "y", Scale(0.02, 7), arrays)
    onnx.save(
        float_model(nodes, {"x": (1, 3)}, {"y": (1, 3)}, arrays | change, check=False), tmp_path / "a.onnx"
    )
    with pytest.raises(ModelError, match=says):
        integers(tmp_path / "a.onnx")
