"""Inverted residuals above what learns: sums, means and biases in int8, gradients that meet in int8."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import helper
from qdq_models import Scale, border, float_model, integer_weight
from qdq_networks import Found, assert_equal
from quick_board import quick_board

from fieldtune.errors import ModelError
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Gradients, Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import lighten, simplify
from firmware_gen.passes.integer_layers import integer_layers
from firmware_gen.plan import Plan, make_plan
from firmware_gen.update import parse_update
from ondevice.device import Hyper
from ondevice.workbench import open_board

Array = NDArray[np.float32]
SIZE, CHANNELS, INNER, CLASSES = 8, 6, 20, 3
UPDATE = "head.weight,deep.bias"
SETTLED = 5  # steps until guessed grids have grown to what comes from a mean: gradients of one sign
M7 = pytest.param("mps2_an500", marks=pytest.mark.long)  # the code of the M4, in another order
BOARDS = ("mps2_an386", M7, "mps3_an547", "qemu_riscv32")
SHAPES = {
    "head": (CHANNELS, 3, 3, 3),
    "wide": (INNER, CHANNELS, 1, 1),
    "deep": (INNER, 1, 5, 5),
    "thin": (CHANNELS, INNER, 1, 1),
    "last": (CLASSES, CHANNELS, 1, 1),
}


class Net:
    """A QDQ file and its float weights: x -> head (float) -> wide -> deep -> thin, + head -> mean -> last."""

    def __init__(self) -> None:
        random = np.random.default_rng(4)

        def draw(*dims: int) -> Array:
            return random.standard_normal(dims).astype(np.float32)

        self.weights = {
            name: 1.5 * draw(*dims) / np.float32(np.sqrt(np.prod(dims[1:]))) for name, dims in SHAPES.items()
        }
        self.biases = {name: 0.2 * draw(dims[0]) for name, dims in SHAPES.items()}

    def graph(self, folder: Path, *, relu: bool = False) -> Graph:
        """Return the imported file; `relu`: behind the sum, left to the grid that begins at 0."""
        arrays: dict[str, Any] = {}
        nodes: list[onnx.NodeProto] = []

        def layer(name: str, x: str, zero: int, **attributes: Any) -> None:
            arrays[f"{name}.bias"] = self.biases[name]
            taken = f"{name}.weight"
            if name == "head":
                arrays[taken] = self.weights[name]
            else:
                nodes.append(integer_weight(taken, self.weights[name], 0, arrays))
                taken = f"{taken}.dq"
            out = f"{name}.sum"
            nodes.append(helper.make_node("Conv", [x, taken, f"{name}.bias"], [out], name, **attributes))
            if zero == -128:
                nodes.append(helper.make_node("Clip", [out, "zero", "six"], [f"{name}.act"]))
                out = f"{name}.act"
            nodes.extend(border(out, f"{name}.dq", Scale(6 / 255, zero), arrays))

        arrays |= {"zero": np.float32(0), "six": np.float32(6)}
        layer("head", "x", 3, pads=[1, 1, 1, 1])
        layer("wide", "head.dq", -128)
        layer("deep", "wide.dq", -128, pads=[2, 2, 2, 2], group=INNER)
        layer("thin", "deep.dq", 1)
        nodes.append(helper.make_node("Add", ["head.dq", "thin.dq"], ["total"], "total"))
        nodes.extend(border("total", "total.dq", Scale(8 / 255, -128 if relu else -4), arrays))
        nodes.append(helper.make_node("GlobalAveragePool", ["total.dq"], ["mean"], "mean"))
        nodes.extend(border("mean", "mean.dq", Scale(2 / 255, 0), arrays))
        layer("last", "mean.dq", 7)
        path = folder / "net.onnx"
        shapes = {"x": (1, 3, SIZE, SIZE)}, {"last.dq": (1, CLASSES, 1, 1)}
        onnx.save(float_model(nodes, *shapes, arrays), path)
        return integer_layers(simplify(import_onnx(path)))

    def gradients(self, x: Array, label: Array, *, relu: bool) -> dict[str, Array]:
        """Return the gradients of what learns by autograd, without any quantization."""
        w = {name: torch.tensor(value).double().requires_grad_() for name, value in self.weights.items()}
        b = {name: torch.tensor(value).double().requires_grad_() for name, value in self.biases.items()}
        head = F.conv2d(torch.tensor(x).double().permute(2, 0, 1)[None], w["head"], b["head"], padding=1)
        wide = F.relu6(F.conv2d(head, w["wide"], b["wide"]))
        deep = F.relu6(F.conv2d(wide, w["deep"], b["deep"], padding=2, groups=INNER))
        total = head + F.conv2d(deep, w["thin"], b["thin"])
        total = F.relu(total) if relu else total
        last = F.conv2d(total.mean((2, 3), keepdim=True), w["last"], b["last"])
        F.mse_loss(last.ravel(), torch.tensor(label).double().ravel()).backward()
        found = {"head.weight": w["head"].grad, "deep.bias": b["deep"].grad}
        return {name: np.asarray(value, np.float32) for name, value in found.items() if value is not None}


def _plan(graph: Graph, board: str, *, keep: bool = False) -> Plan:
    update = parse_update(UPDATE, keep_gradients=keep)
    learning = lighten(training_graph(graph, (LossSpec("last.dq", "mse"),), update))
    return make_plan(learning, quick_board(board))


def _sample(seed: int, scale: float = 1.0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "x": (scale * random.standard_normal((SIZE, SIZE, 3))).astype(np.float32),
        "last.dq.label": random.standard_normal((1, 1, CLASSES)).astype(np.float32),
        "last.dq.mask": np.ones((1, 1, CLASSES), np.uint8),
    }


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_are_those_of_the_network_in_float(relu: bool, tmp_path: Path) -> None:
    net = Net()
    plan = _plan(net.graph(tmp_path, relu=relu), "native", keep=True)
    with open_board(plan, tmp_path / "native") as device:
        device.set_hyper(Hyper(lr=0.0))
        for seed in range(8):
            sample = _sample(seed)
            device.put_sample(sample)
            device.step(seed)
            if seed < SETTLED:
                continue
            gradients = device.read_role("gradient")
            truths = net.gradients(sample["x"], sample["last.dq.label"], relu=relu)
            for name, truth in truths.items():
                found = gradients[f"gradient.{name}"].ravel()
                if name == "head.weight":
                    found = found.reshape(3, 3, 3, CHANNELS).transpose(3, 2, 0, 1).ravel()
                cosine = found @ truth.ravel() / (np.linalg.norm(found) * np.linalg.norm(truth))
                assert cosine > 0.97, name
                assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(truth), rel=0.1), name


def test_bias_gradients_add_up_over_samples(tmp_path: Path) -> None:
    with open_board(_plan(Net().graph(tmp_path), "native", keep=True), tmp_path / "native") as device:
        device.set_hyper(Hyper(lr=0.0, accumulate=2))
        device.put_sample(_sample(0))
        device.step(0)
        one = device.read_role("gradient")["gradient.deep.bias"]
        device.put_sample({**_sample(1), "last.dq.mask": np.zeros((1, 1, CLASSES), np.uint8)})
        device.step(1)
        both = device.read_role("gradient")["gradient.deep.bias"]
    assert np.abs(one).max() > 0
    assert np.array_equal(one, both), "a sample without a label adds 0"


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("native")
    return _learned(_plan(Net().graph(folder), "native"), folder)


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_gives_the_bits_of_native(board: str, native: Found, tmp_path: Path) -> None:
    assert_equal(native, _learned(_plan(Net().graph(tmp_path), board), tmp_path))


@pytest.mark.parametrize(
    ("board", "gradients", "saved"), [("native", "int8", 1200), ("mps2_an386", "int16", 2400)]
)
def test_bands_of_rows_give_the_bits_of_whole_layers(
    board: str, gradients: Gradients, saved: int, tmp_path: Path
) -> None:
    update = parse_update("head", gradients=gradients)
    learning = lighten(training_graph(Net().graph(tmp_path), (LossSpec("last.dq", "mse"),), update))
    whole = make_plan(learning, quick_board("native"))
    banded = make_plan(learning, quick_board(board))
    banded = make_plan(learning, quick_board(board), banded.ram_bytes - saved)
    in_bands = {(step.op.kind, step.op.phase) for step in banded.steps if step.chain is not None}
    assert {("moving_conv2d", "backward"), ("moving_add", "backward")} <= in_bands
    assert_equal(_learned(whole, tmp_path / "whole"), _learned(banded, tmp_path / "banded"))


def _learned(plan: Plan, folder: Path) -> Found:
    """Return losses, weights and ranges after ten steps, and an inference's output."""
    with open_board(plan, folder / plan.board.id) as device:
        device.set_hyper(Hyper(lr=0.02))
        losses = []
        for step in range(10):
            device.put_sample(_sample(step, scale=1.0 + step % 3))
            losses += device.step(step).losses
        output = device.infer({"x": _sample(20)["x"]})["last.dq"]
        assert device.memory().arena_intact
        return {**device.read_role("weight", "range"), "losses": np.array(losses), "y": output}


def test_a_layer_whose_bias_learns_stays_int8(tmp_path: Path) -> None:
    plan = _plan(Net().graph(tmp_path), "native")
    (deep,) = (op for op in plan.graph.ops if op.name == "deep" and op.phase == "forward" and op.constants)
    assert plan.graph.trained == ("head.weight", "deep.bias")
    assert deep.kind == "moving_conv2d"
    assert plan.graph.constants[deep.constants[0]].value.dtype == np.int8
    assert not [op for op in plan.graph.ops if op.kind == "conv2d" and op.name == "deep"]
    real = plan.graph.constants["deep.bias"].value
    assert np.allclose(real, Net().biases["deep"], atol=1e-3)


def test_a_part_of_an_int8_layers_bias_thaws_the_layer(tmp_path: Path) -> None:
    graph = Net().graph(tmp_path)
    learning = training_graph(graph, (LossSpec("last.dq", "mse"),), parse_update("wide.bias:1/4"))
    (wide,) = (op for op in learning.ops if op.phase == "forward" and "wide.bias" in op.constants)
    assert wide.kind == "conv2d"
    assert learning.constants["wide.bias"].value.size == INNER // 4


def test_a_sum_with_a_smaller_map_is_refused_above_what_learns(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"low.weight": np.ones((4, 8, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "low.weight"], ["a"], "low"),
        *border("a", "b", Scale(0.02, 3), arrays),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], "mean"),
        *border("c", "d", Scale(0.02, 3), arrays),
        helper.make_node("Add", ["b", "d"], ["e"], "both"),
        *border("e", "y", Scale(0.02, 3), arrays),
    ]
    path = tmp_path / "net.onnx"
    onnx.save(float_model(nodes, {"x": (1, 8, 4, 4)}, {"y": (1, 4, 4, 4)}, arrays), path)
    graph = integer_layers(simplify(import_onnx(path)))
    with pytest.raises(ModelError, match=r"both.*smaller map.*--keep-float"):
        training_graph(graph, (LossSpec("y", "mse"),), parse_update("low"))
