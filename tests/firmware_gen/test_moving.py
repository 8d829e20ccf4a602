"""Layers that learn below int8 layers: gradients in int8, ranges that move, the same bits on every board."""

from collections.abc import Iterator
from contextlib import contextmanager
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

import boards
from boards import load_board
from fieldtune.errors import ModelError
from firmware_gen.backward import GRADIENT_TYPES, LossSpec, training_graph
from firmware_gen.graph import Gradients, Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import lighten, simplify
from firmware_gen.passes.integer_layers import integer_layers
from firmware_gen.passes.narrow_gradients import narrow_gradients
from firmware_gen.passes.sign_bits import sign_bits
from firmware_gen.plan import Plan, make_plan
from firmware_gen.project import write_project
from firmware_gen.update import parse_update
from ondevice.device import Device, Hyper
from ondevice.workbench import open_board

Array = NDArray[np.float32]
SIZE = 10
BOARDS = ("mps2_an386", "mps3_an547", "qemu_riscv32")
SLOPE = 0.125


class Net:
    """A network as a QDQ file and as float weights.

    x -> low (int8, frozen) ------------------------+
          `-> head (float, learns) -> half -> up -> joined -> mix -> y
    """

    def __init__(self) -> None:
        random = np.random.default_rng(11)

        def weight(*dims: int) -> Array:
            return (random.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))).astype(np.float32)

        self.weights = {
            "low": weight(6, 3, 3, 3),
            "head": weight(12, 6, 3, 3),
            "half": weight(20, 12, 3, 3),
            "up": weight(20, 9, 2, 2),
            "mix": weight(7, 15, 3, 3),
            "y": weight(2, 7, 1, 1),
        }
        self.biases = {
            name: (0.1 * random.standard_normal(w.shape[1 if name == "up" else 0])).astype(np.float32)
            for name, w in self.weights.items()
        }

    def graph(self, folder: Path, activation: str = "LeakyRelu", share: float = 1.0) -> Graph:
        """Return the imported file; `share`: of the range that the upper layers need."""
        arrays: dict[str, Any] = {}
        nodes = [*border("x", "x.dq", Scale(0.03, 0), arrays)]

        def layer(name: str, x: str, scale: float, zero: int, kind: str = "Conv", **attributes: Any) -> None:
            if name == "head":
                arrays["head.weight"] = self.weights[name]
                taken = "head.weight"
            else:
                axis = 1 if kind == "ConvTranspose" else 0
                nodes.append(integer_weight(f"{name}.weight", self.weights[name], axis, arrays))
                taken = f"{name}.weight.dq"
            arrays[f"{name}.bias"] = self.biases[name]
            out = f"{name}.sum"
            nodes.append(helper.make_node(kind, [x, taken, f"{name}.bias"], [out], name, **attributes))
            if name in ("head", "half", "mix"):
                slope = {"alpha": SLOPE} if activation == "LeakyRelu" else {}
                nodes.append(helper.make_node(activation, [out], [f"{name}.act"], **slope))
                out = f"{name}.act"
            calibrated = Scale(scale if name == "low" else scale * share, zero)
            nodes.extend(border(out, f"{name}.dq", calibrated, arrays))

        pads = [1, 1, 1, 1]
        layer("low", "x.dq", 0.03, 2, pads=pads)
        layer("head", "low.dq", 0.03, -90, pads=pads)
        layer("half", "head.dq", 0.02, -90, pads=pads, strides=[2, 2])
        layer("up", "half.dq", 0.02, 5, "ConvTranspose", strides=[2, 2])
        nodes.append(helper.make_node("Concat", ["low.dq", "up.dq"], ["joined.float"], axis=1))
        nodes.extend(border("joined.float", "joined", Scale(0.03, 2), arrays))
        layer("mix", "joined", 0.02, -90, pads=pads)
        layer("y", "mix.dq", 0.02, 0)
        shapes = {"x": (1, 3, SIZE, SIZE)}, {"y.dq": (1, 2, SIZE, SIZE)}
        path = folder / "net.onnx"
        onnx.save(float_model(nodes, *shapes, arrays), path)
        return integer_layers(simplify(import_onnx(path)))

    def gradient(self, x: Array, label: Array, activation: str = "LeakyRelu") -> Array:
        """Return dLoss/d(head's weight) by autograd, without any quantization."""
        w = {name: torch.tensor(value).double() for name, value in self.weights.items()}
        b = {name: torch.tensor(value).double() for name, value in self.biases.items()}
        w["head"].requires_grad_()

        def bend(t: torch.Tensor) -> torch.Tensor:
            return F.leaky_relu(t, SLOPE) if activation == "LeakyRelu" else F.relu(t)

        low = F.conv2d(torch.tensor(x).double().permute(2, 0, 1)[None], w["low"], b["low"], padding=1)
        head = bend(F.conv2d(low, w["head"], b["head"], padding=1))
        half = bend(F.conv2d(head, w["half"], b["half"], 2, 1))
        up = F.conv_transpose2d(half, w["up"], b["up"], 2)
        mix = bend(F.conv2d(torch.cat([low, up], 1), w["mix"], b["mix"], padding=1))
        y = F.conv2d(mix, w["y"], b["y"])
        F.mse_loss(y, torch.tensor(label).double().permute(2, 0, 1)[None]).backward()
        assert w["head"].grad is not None
        return w["head"].grad.numpy().astype(np.float32)


def _plan(graph: Graph, board: str, keep: bool = False, gradients: Gradients = "int8") -> Plan:
    update = parse_update("head", keep_gradients=keep, gradients=gradients)
    return make_plan(lighten(training_graph(graph, (LossSpec("y.dq", "mse"),), update)), load_board(board))


def _sample(seed: int, scale: float = 1.0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "x": (scale * random.standard_normal((SIZE, SIZE, 3))).astype(np.float32),
        "y.dq.label": random.standard_normal((SIZE, SIZE, 2)).astype(np.float32),
        "y.dq.mask": np.ones((SIZE, SIZE, 2), np.uint8),
    }


@contextmanager
def _board(plan: Plan, folder: Path, lr: float = 0.02) -> Iterator[Device]:
    with open_board(plan, folder / plan.board.id) as device:
        device.set_hyper(Hyper(lr=lr))
        yield device


@pytest.mark.parametrize("activation", ["LeakyRelu", "Relu"])
def test_gradients_are_those_of_the_network_in_float(activation: str, tmp_path: Path) -> None:
    net = Net()
    plan = _plan(net.graph(tmp_path, activation), "native", keep=True)
    with _board(plan, tmp_path, lr=0.0) as device:
        for seed in range(3):
            sample = _sample(seed)
            device.put_sample(sample)
            device.step(seed)
            found = device.read_role("gradient")["gradient.head.weight"]
            truth = net.gradient(sample["x"], sample["y.dq.label"], activation)
            found = found.reshape(3, 3, 6, 12).transpose(3, 2, 0, 1)
            cosine = (found * truth).sum() / np.sqrt((found**2).sum() * (truth**2).sum())
            size = np.sqrt((found**2).sum() / (truth**2).sum())
            if seed == 0:  # the grids of gradients are guessed
                assert cosine > 0.9
            else:
                assert cosine > 0.97
                assert size == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("board", "gradients"),
    [*((board, "int8") for board in BOARDS), ("mps2_an386", "f32"), ("mps2_an386", "int16")],
)
def test_every_board_gives_the_bits_of_native(board: str, gradients: Gradients, tmp_path: Path) -> None:
    graph = Net().graph(tmp_path)
    plans = [_plan(graph, name, gradients=gradients) for name in ("native", board)]
    native, emulated = (_learned(plan, tmp_path) for plan in plans)
    _assert_equal(native, emulated)


def test_the_type_of_gradients_is_part_of_the_plan(tmp_path: Path) -> None:
    graph = Net().graph(tmp_path)
    plans = {kind: _plan(graph, "native", gradients=kind) for kind in GRADIENT_TYPES}
    assert {kind: plan.describe()["gradients"] for kind, plan in plans.items()} == {k: k for k in plans}
    assert len({plan.hash() for plan in plans.values()}) == len(plans)
    for kind, plan in plans.items():
        made = {
            plan.graph.tensors[op.outputs[0]].dtype
            for op in plan.graph.ops
            if op.name == "mix" and op.phase == "backward"
        }
        assert GRADIENT_TYPES[kind] in made


@pytest.mark.parametrize("board", ["native", "mps3_an547"])
def test_bands_of_rows_give_the_bits_of_whole_layers(board: str, tmp_path: Path) -> None:
    graph = Net().graph(tmp_path)
    whole = _plan(graph, "native")
    banded = _banded(graph, board)
    _assert_equal(_learned(whole, tmp_path / "whole"), _learned(banded, tmp_path / "banded"))


def _banded(graph: Graph, board: str) -> Plan:
    """Return a plan with a moving convolution in bands: of a graph that keeps what it dequantizes."""
    learning = training_graph(graph, (LossSpec("y.dq", "mse"),), parse_update("head"))
    learning = sign_bits(narrow_gradients(learning))
    whole = make_plan(learning, load_board(board))
    plan = make_plan(learning, load_board(board), whole.ram_bytes - 1)
    assert any(step.chain is not None and step.op.kind == "moving_conv2d" for step in plan.steps)
    return plan


def _learned(plan: Plan, folder: Path) -> dict[str, NDArray[Any]]:
    """Return losses, weights and ranges after three steps, and an inference's output."""
    with _board(plan, folder) as device:
        losses = []
        for step in range(3):
            device.put_sample(_sample(step, scale=1.0 + step))
            losses += device.step(step).losses
        output = device.infer({"x": _sample(9)["x"]})["y.dq"]
        assert device.memory().arena_intact
        return {**device.read_role("weight", "range"), "losses": np.array(losses), "y": output}


def _assert_equal(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


def test_ranges_move_outwards_at_once_and_inwards_slowly(tmp_path: Path) -> None:
    plan = _plan(Net().graph(tmp_path, share=0.1), "native")
    initial = {f"range.{name}": moving.high for name, moving in plan.graph.ranges.items()}
    forward = [name for name, high in initial.items() if high > 0]
    high = [[initial[name] for name in forward]]
    with _board(plan, tmp_path, lr=0.0) as device:
        for step, scale in enumerate((1.0, 0.01, 0.01)):
            device.put_sample(_sample(1, scale))
            device.step(step)
            ranges = device.read_role("range")
            high.append([float(ranges[name].ravel()[1]) for name in forward])
    calibrated, grown, shrunk, less = np.array(high)
    assert (grown > 1.5 * calibrated).sum() >= 3
    for before, after in ((grown, shrunk), (shrunk, less)):
        assert (after <= before).all()
        assert (after > 0.89 * before).all()
    assert all(value.ravel()[1] > 0 for value in ranges.values()), "a gradient's range was not found"


def test_a_board_that_gets_weights_and_ranges_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    plan = _plan(Net().graph(tmp_path), "native")
    with _board(plan, tmp_path) as device:
        for step in range(4):
            if step == 2:
                kept = device.read_role("weight", "range")
            device.put_sample(_sample(step))
            device.step(step)
        truth = device.read_role("weight", "range")
        device.reset_weights()
        device.write_tensors(kept)
        device.set_step(2)
        for step in (2, 3):
            device.put_sample(_sample(step))
            device.step(step)
        again = device.read_role("weight", "range")
    for name, value in truth.items():
        assert np.array_equal(value, again[name]), name


def test_the_plan_counts_the_bytes_that_the_linker_places(tmp_path: Path) -> None:
    graph = Net().graph(tmp_path)
    for name in ("mps2_an386", "mps3_an547"):
        plan = _plan(graph, name)
        write_project(plan, tmp_path / name)
        assert boards.build(tmp_path / name, plan.board).ram_bytes == plan.ram_bytes


def test_an_int8_layer_whose_scales_cannot_move_is_named(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"low.weight": np.ones((4, 8, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "low.weight"], ["a"], "low"),
        *border("a", "b", Scale(0.02, 3), arrays),
        helper.make_node("Mul", ["b", "b"], ["c"], "twice"),
        *border("c", "y", Scale(0.02, 3), arrays),
    ]
    path = tmp_path / "closed.onnx"
    onnx.save(float_model(nodes, {"x": (1, 8, 4, 4)}, {"y": (1, 4, 4, 4)}, arrays), path)
    graph = integer_layers(simplify(import_onnx(path)))
    with pytest.raises(ModelError, match=r"twice.*cannot move yet.*--keep-float"):
        training_graph(graph, (LossSpec("y", "mse"),), parse_update("low"))
