"""The file of a QDQ model after a training that moved scales, run by ONNX Runtime and read again."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from qdq_models import Scale, border, float_model, integer_weight
from quick_board import quick_board

from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import lighten, simplify
from firmware_gen.passes.integer_layers import integer_layers
from firmware_gen.plan import Plan, make_plan
from firmware_gen.tuned_onnx import write_tuned_onnx
from firmware_gen.update import UpdatePlan
from firmware_gen.weights import to_source
from ondevice.device import Device, Hyper
from ondevice.workbench import open_board

SIZE = 8
STEP = 0.04  # of the output's first scale


def qdq_file(folder: Path, unsigned: bool = False, float_head: bool = False) -> Path:
    """x -> low -> head -> up -> (low, up) joined -> y; biases are int32, float, and missing."""
    random = np.random.default_rng(5)
    arrays: dict[str, Any] = {}
    kind = "uint8" if unsigned else "int8"
    shift = 128 if unsigned else 0

    def quantized(x: str, y: str, scale: float, zero: int) -> None:
        nodes.extend(border(x, y, Scale(scale, zero + shift, kind), arrays))

    nodes: list[onnx.NodeProto] = []
    quantized("x", "x.dq", 0.03, 0)

    def layer(
        name: str, x: str, dims: tuple[int, ...], bias: str, op: str = "Conv", **attributes: Any
    ) -> str:
        axis = 1 if op == "ConvTranspose" else 0
        value = (random.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))).astype(np.float32)
        if name == "head" and float_head:
            arrays[f"{name}.weight"] = value
            taken = [x, f"{name}.weight"]
        else:
            nodes.append(integer_weight(f"{name}.weight", value, axis, arrays))
            taken = [x, f"{name}.weight.dq"]
        real = (0.1 * random.standard_normal(dims[axis])).astype(np.float32)
        if bias == "float":
            arrays[f"{name}.bias"] = real
            taken.append(f"{name}.bias")
        elif bias == "int32":
            scales = np.float32(0.03) * arrays[f"{name}.weight.scale"]  # the layer's input has 0.03
            arrays[f"{name}.bias"] = np.rint(real / scales).astype(np.int32)
            arrays[f"{name}.bias.scale"] = scales
            inputs = [f"{name}.bias", f"{name}.bias.scale"]
            nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.bias.dq"], axis=0))
            taken.append(f"{name}.bias.dq")
        nodes.append(helper.make_node(op, taken, [f"{name}.sum"], name, **attributes))
        return f"{name}.sum"

    pads = [1, 1, 1, 1]
    quantized(layer("low", "x.dq", (5, 3, 3, 3), "int32", pads=pads), "low.dq", 0.03, 2)
    sums = layer("head", "low.dq", (8, 5, 3, 3), "float", pads=pads, strides=[2, 2])
    nodes.append(helper.make_node("Relu", [sums], ["head.act"]))
    quantized("head.act", "head.dq", 0.03, -128)
    up = layer("up", "head.dq", (8, 6, 2, 2), "int32", "ConvTranspose", strides=[2, 2])
    quantized(up, "up.dq", 0.02, 5)
    nodes.append(helper.make_node("Concat", ["low.dq", "up.dq"], ["joined.float"], axis=1))
    quantized("joined.float", "joined", 0.03, 2)
    quantized(layer("y", "joined", (2, 11, 1, 1), "none"), "y.dq", STEP, 0)
    shapes = {"x": (1, 3, SIZE, SIZE)}, {"y.dq": (1, 2, SIZE, SIZE)}
    path = folder / "net.onnx"
    onnx.save(float_model(nodes, *shapes, arrays), path)
    return path


def read(path: Path) -> Graph:
    return integer_layers(simplify(import_onnx(path)))


def scales_of_biases(path: Path) -> list[tuple[Any, Any]]:
    """Return for each int32 bias its scales, and the input's scale times the weight's scales."""
    model = onnx.load(path)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scale = {
        node.output[0]: arrays[node.input[1]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    }
    layers = [node for node in model.graph.node if node.op_type.startswith("Conv")]
    found = [[scale.get(name) for name in node.input] for node in layers if len(node.input) > 2]
    return [(bias, x * weight) for x, weight, bias in found if bias is not None]


def plan_of(path: Path, patterns: tuple[str, ...], **changes: Any) -> Plan:
    update = UpdatePlan(patterns, **changes)
    learning = lighten(training_graph(read(path), (LossSpec("y.dq", "mse"),), update))
    return make_plan(learning, quick_board("native"))


def trained(device: Device) -> dict[str, Any]:
    """Train a few steps far from what the file was made for; return weights and ranges."""
    random = np.random.default_rng(6)
    device.set_hyper(Hyper(lr=0.05))
    for step in range(6):
        device.put_sample(
            {
                "x": random.standard_normal((SIZE, SIZE, 3)).astype(np.float32),
                "y.dq.label": (8 * random.standard_normal((SIZE, SIZE, 2))).astype(np.float32),
                "y.dq.mask": np.ones((SIZE, SIZE, 2), np.uint8),
            }
        )
        device.step(step)
    return device.read_role("weight", "range")


@pytest.mark.parametrize(
    ("patterns", "changes"),
    [
        (("head", "up", "y"), {}),
        (("up",), {}),
        (("head", "up", "y"), {"unsigned": True}),
        (("head",), {"float_head": True}),
    ],
    ids=["all", "one", "unsigned", "float"],
)
def test_the_tuned_file_runs_as_the_board_does(
    patterns: tuple[str, ...], changes: dict[str, bool], tmp_path: Path
) -> None:
    path, out = qdq_file(tmp_path, **changes), tmp_path / "tuned.onnx"
    plan = plan_of(path, patterns, weights="f32" if "float_head" in changes else "int8")
    constants = plan.graph.constants
    x = np.random.default_rng(7).standard_normal((SIZE, SIZE, 3)).astype(np.float32)
    with open_board(plan, tmp_path / "native") as device:
        learned = trained(device)
        expected = device.infer({"x": x})["y.dq"]
    after = {name: to_source(constants[name], learned[name]) for name in plan.graph.trained}
    assert write_tuned_onnx(path, plan.graph, after, out, learned)
    onnx.checker.check_model(onnx.load(out), full_check=True)

    again = read(out)
    found = {tensor.source: tensor.quantization for tensor in again.tensors.values() if tensor.source}
    for tensor in plan.graph.tensors.values():
        if tensor.range and tensor.source:
            rule, known = plan.graph.ranges[tensor.range], found[tensor.source]
            ends = [(q - known.zero_point) * known.scale / rule.headroom for q in (-128, 127)]
            assert np.allclose(ends, learned[f"range.{tensor.range}"].ravel(), atol=known.scale), tensor.name
    for scales, product in scales_of_biases(out):
        assert np.allclose(scales, product, rtol=1e-6)
    for name in plan.graph.trained:
        if constants[name].dtype == "i8":
            assert np.array_equal(again.constants[name].value.ravel(), learned[name].ravel()), name
            assert not np.array_equal(again.constants[name].value, constants[name].value), name
    files = {path: 0.0, out: 0.0}
    for file in files:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        found = session.run(None, {"x": x.transpose(2, 0, 1)[None]})[0][0].transpose(1, 2, 0)
        files[file] = float(np.abs(found - expected).max())
    assert files[out] < 0.02 * np.ptp(expected)
    assert files[path] > 5 * files[out]


def test_other_layers_keep_their_arrays(tmp_path: Path) -> None:
    path, out = qdq_file(tmp_path), tmp_path / "tuned.onnx"
    plan = plan_of(path, ("up",), weights="int8")
    with open_board(plan, tmp_path / "native") as device:
        learned = trained(device)
    after = {name: to_source(plan.graph.constants[name], learned[name]) for name in plan.graph.trained}
    assert write_tuned_onnx(path, plan.graph, after, out, learned)
    before, now = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}
        for file in (path, out)
    )
    changed = {name for name in before if name not in now or not np.array_equal(before[name], now[name])}
    assert not {name for name in changed if name.startswith(("x.", "low.", "head."))}
    assert {"up.weight_quantized", "up.bias", "joined.scale", "y.dq.scale"} <= changed
    # The board makes the network's output as floats.
    assert before.keys() - now.keys() == {"y.dq.scale", "y.dq.zero"}
    assert not now.keys() - before.keys()


def test_int8_weights_that_learned_as_floats_have_no_place_in_the_file(tmp_path: Path) -> None:
    path, out = qdq_file(tmp_path), tmp_path / "tuned.onnx"
    plan = plan_of(path, ("up",))
    learned = {name: plan.graph.constants[name].value for name in plan.graph.trained}
    ends = {
        f"range.{name}": np.array([moving.low, moving.high]) for name, moving in plan.graph.ranges.items()
    }
    assert not write_tuned_onnx(path, plan.graph, learned, out, ends)
    assert not out.exists()
