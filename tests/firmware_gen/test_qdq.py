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
from qdq_models import Scale, between_integers

from firmware_gen.graph import Graph
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
