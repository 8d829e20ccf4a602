"""Weights on their way from the model file to the board and back."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import Net
from onnx import numpy_helper
from references import Array

from fieldtune.errors import UserError
from firmware_gen.graph import Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import simplify
from firmware_gen.tuned_onnx import write_tuned_onnx
from firmware_gen.weights import from_source, to_source


def network(norm: bool = False) -> Net:
    """Every way in which a weight can stand in a file."""
    net = Net(seed=4)
    x = net.conv(net.input(2, 6, 5), 4, (3, 2), groups=2, norm=norm)
    x = net.conv_transpose(x, 6, (2, 3), (2, 1), groups=2)
    x = net.conv(net.reshape(net.activation(x, "Relu"), (1, 48, 6, 1)), 3)
    x = net.activation(net.linear(net.flatten(x), 5, "gemm_transposed"), "Relu")
    x = net.activation(net.linear(x, 4, "gemm"), "Relu")
    net.output(net.linear(x, 3, "matmul_add"))
    return net


def in_file(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return network().graph(tmp_path)


def test_weights_lead_back_to_the_arrays_of_the_file(graph: Graph) -> None:
    arrays = in_file(network().model())
    assert len(graph.constants) == 12
    for name, constant in graph.constants.items():
        assert np.array_equal(to_source(constant, constant.value), arrays[name]), name
        assert np.array_equal(from_source(constant, arrays[name]), constant.value), name


def test_a_weight_of_another_shape_is_refused_by_name(graph: Graph) -> None:
    with pytest.raises(UserError, match=r"conv1\.weight has shape \(4, 1, 3, 2\) .* \(4, 3, 2\) was given"):
        from_source(graph.constants["conv1.weight"], np.zeros((4, 3, 2), np.float32))


def test_the_file_with_tuned_weights_holds_them(graph: Graph, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tuned = {
        name: rng.standard_normal(constant.value.shape).astype(np.float32)
        for name, constant in graph.constants.items()
        if not name.startswith("fc5")
    }
    out = tmp_path / "tuned.onnx"
    sources = {name: to_source(graph.constants[name], value) for name, value in tuned.items()}
    assert write_tuned_onnx(tmp_path / "net.onnx", graph, sources, out)
    onnx.checker.check_model(onnx.load(out), full_check=True)
    again = simplify(import_onnx(out))
    for name, constant in again.constants.items():
        assert np.array_equal(constant.value, tuned.get(name, graph.constants[name].value)), name


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_tuned_weights_keep_the_files_precision(kind: type, tmp_path: Path) -> None:
    model = network().model()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "conv1.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(kind), weight.name))
    onnx.save(model, tmp_path / "net.onnx")
    constant = simplify(import_onnx(tmp_path / "net.onnx")).constants["conv1.weight"]
    assert np.array_equal(
        to_source(constant, constant.value), numpy_helper.to_array(weight).astype(np.float32)
    )
    out = tmp_path / "tuned.onnx"
    graph = simplify(import_onnx(tmp_path / "net.onnx"))
    tuned = {"conv1.weight": to_source(constant, constant.value * 2)}
    assert write_tuned_onnx(tmp_path / "net.onnx", graph, tuned, out)
    assert in_file(onnx.load(out))["conv1.weight"].dtype == kind


def test_weights_that_alpha_scales_stand_nowhere_in_the_file(tmp_path: Path) -> None:
    net = Net(seed=4)
    net.output(net.linear(net.flatten(net.input(2, 1, 3)), 4, "gemm", alpha=0.5, beta=2.0))
    constants = net.graph(tmp_path).constants
    assert constants["fc2.weight"].source_axes is None
    assert constants["fc2.bias"].source_axes is None
    assert np.array_equal(constants["fc2.bias"].value, 2 * in_file(net.model())["fc2.bias"])


def test_a_folded_weight_cannot_be_written_back(tmp_path: Path) -> None:
    graph = network(norm=True).graph(tmp_path)
    folded = {
        "conv1.weight": to_source(graph.constants["conv1.weight"], graph.constants["conv1.weight"].value)
    }
    assert not write_tuned_onnx(tmp_path / "net.onnx", graph, folded, tmp_path / "tuned.onnx")
    assert not (tmp_path / "tuned.onnx").exists()
