"""Parts of int8 layers that learn: thawed, with int8 gradients above them, in bands, on every board."""

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

from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.bands import Bands
from firmware_gen.graph import Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import lighten, simplify
from firmware_gen.passes.integer_layers import integer_layers
from firmware_gen.passes.scratch import with_scratch
from firmware_gen.plan import Plan, make_plan, plan_schedule
from firmware_gen.schedule import Chain
from firmware_gen.storage import choose_storage
from firmware_gen.update import UpdatePlan
from ondevice.device import Hyper
from ondevice.workbench import open_board

Array = NDArray[np.float32]
SIZE = 12
SLOPE = 0.125
BOARDS = ("mps2_an386", "mps2_an500", "mps3_an547", "qemu_riscv32")
# The layers of `Net`: shape of the weight, groups, activated.
LAYERS = {
    "low": ((8, 3, 3, 3), 1, True),
    "each": ((8, 1, 3, 3), 8, True),
    "wide": ((16, 8, 1, 1), 1, True),
    "up": ((16, 8, 2, 2), 1, False),
    "top": ((8, 12, 3, 3), 1, True),
    "side": ((6, 8, 1, 1), 1, True),
    "y": ((2, 14, 1, 1), 1, False),
}
PARTS = ("low", "each:1/2", "wide:4-11", "up:3/4")


class Net:
    """A network of int8 layers, as a QDQ file and in float.

    x -> low -+-> each (depthwise, stride 2) -> wide -> up (transposed) -+-> joined -+-> top --+-> y
              `----------------------------------------------------------'           `-> side -'

    `top` and `side` read ranges of channels that overlap, and are concatenated.
    """

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        self.weights = {
            name: (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
            for name, (shape, _, _) in LAYERS.items()
        }
        self.biases = {
            name: (0.1 * random.standard_normal(w.shape[1 if name == "up" else 0])).astype(np.float32)
            for name, w in self.weights.items()
        }

    def graph(self, folder: Path) -> Graph:
        """Return the imported file."""
        arrays: dict[str, Any] = {"channels": np.array([1])}
        nodes = [*border("x", "x.dq", Scale(0.03, 0), arrays)]

        def layer(name: str, x: str, kind: str = "Conv", **attributes: Any) -> None:
            _, groups, activated = LAYERS[name]
            nodes.append(integer_weight(f"{name}.weight", self.weights[name], int(kind != "Conv"), arrays))
            arrays[f"{name}.bias"] = self.biases[name]
            out = f"{name}.sum"
            taken = [x, f"{name}.weight.dq", f"{name}.bias"]
            nodes.append(helper.make_node(kind, taken, [out], name, group=groups, **attributes))
            if activated:
                nodes.append(helper.make_node("LeakyRelu", [out], [f"{name}.act"], alpha=SLOPE))
                out = f"{name}.act"
            nodes.extend(border(out, f"{name}.dq", Scale(0.02, -60 if activated else 0), arrays))

        pads = [1, 1, 1, 1]
        layer("low", "x.dq", pads=pads)
        layer("each", "low.dq", pads=pads, strides=[2, 2])
        layer("wide", "each.dq")
        layer("up", "wide.dq", "ConvTranspose", strides=[2, 2])
        nodes.append(helper.make_node("Concat", ["low.dq", "up.dq"], ["joined.float"], axis=1))
        nodes.extend(border("joined.float", "joined", Scale(0.02, -40), arrays))
        for name, first, end in (("top", 0, 12), ("side", 8, 16)):
            arrays |= {f"{name}.first": np.array([first]), f"{name}.end": np.array([end])}
            taken = ["joined", f"{name}.first", f"{name}.end", "channels"]
            nodes.append(helper.make_node("Slice", taken, [f"{name}.part"], f"{name}.part"))
            layer(name, f"{name}.part", pads=[1, 1, 1, 1] if name == "top" else [0, 0, 0, 0])
        nodes.append(helper.make_node("Concat", ["top.dq", "side.dq"], ["both.float"], axis=1))
        nodes.extend(border("both.float", "both", Scale(0.02, -60), arrays))
        layer("y", "both")
        path = folder / "net.onnx"
        shapes = {"x": (1, 3, SIZE, SIZE)}, {"y.dq": (1, 2, SIZE, SIZE)}
        onnx.save(float_model(nodes, *shapes, arrays), path)
        return integer_layers(simplify(import_onnx(path)))

    def gradients(self, x: Array, label: Array) -> dict[str, Array]:
        """Return dLoss/d(weight) in the order of the file by autograd, without any quantization."""
        w = {name: torch.tensor(value).double().requires_grad_() for name, value in self.weights.items()}
        b = {name: torch.tensor(value).double() for name, value in self.biases.items()}

        def conv(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
            _, groups, activated = LAYERS[name]
            y = F.conv2d(x, w[name], b[name], stride, w[name].shape[2] // 2, groups=groups)
            return F.leaky_relu(y, SLOPE) if activated else y

        low = conv("low", torch.tensor(x).double().permute(2, 0, 1)[None])
        wide = conv("wide", conv("each", low, 2))
        up = F.conv_transpose2d(wide, w["up"], b["up"], 2)
        joined = torch.cat([low, up], 1)
        y = conv("y", torch.cat([conv("top", joined[:, :12]), conv("side", joined[:, 8:])], 1))
        F.mse_loss(y, torch.tensor(label).double().permute(2, 0, 1)[None]).backward()
        return {name: value.grad.numpy() for name, value in w.items() if value.grad is not None}


def _sparse(graph: Graph, *patterns: str, keep: bool = False) -> Graph:
    update = UpdatePlan(patterns, keep_gradients=keep)
    return lighten(training_graph(graph, (LossSpec("y.dq", "mse"),), update))


def _sample(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "x": random.standard_normal((SIZE, SIZE, 3)).astype(np.float32),
        "y.dq.label": random.standard_normal((SIZE, SIZE, 2)).astype(np.float32),
        "y.dq.mask": np.ones((SIZE, SIZE, 2), np.uint8),
    }


def test_learning_channels_have_the_gradients_of_the_network_in_float(tmp_path: Path) -> None:
    net = Net()
    plan = make_plan(_sparse(net.graph(tmp_path), *PARTS, keep=True), load_board("native"))
    learning = {op.name: op.constants[0] for op in plan.graph.ops if op.kind == "conv_update"}
    assert learning.keys() == {"low", "each", "wide", "up"}
    with open_board(plan, tmp_path / "board") as device:
        device.set_hyper(Hyper(lr=0.0))
        for seed in range(4):
            sample = _sample(seed)
            device.put_sample(sample)
            device.step(seed)
            if seed < 2:  # the ranges are being found
                continue
            found = device.read_role("gradient")
            truths = net.gradients(sample["x"], sample["y.dq.label"])
            for name, weight in learning.items():
                constant = plan.graph.constants[weight]
                gradient = found[f"gradient.{weight}"].reshape(constant.value.shape)
                truth = np.ascontiguousarray(_to_board(name, truths[name]))
                if constant.slab is not None:
                    truth = truth[constant.slab.index]
                # What masks have rounded up and down adds to the norm.
                assert _cosine(gradient, truth) > 0.98, name
                assert np.linalg.norm(gradient) == pytest.approx(np.linalg.norm(truth), rel=0.2), name


def _to_board(name: str, whole: Array) -> Array:
    """Return an array of the file in the order of the kernels."""
    return whole.transpose((2, 3, 0, 1) if name == "up" else (2, 3, 1, 0))


def _cosine(one: Array, other: Array) -> float:
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def test_inference_has_the_bits_of_whole_layers_that_learn(tmp_path: Path) -> None:
    graph, x = Net().graph(tmp_path), _sample(1)["x"]
    found = []
    for number, patterns in enumerate((("low", "each", "wide", "up"), PARTS)):
        plan = make_plan(_sparse(graph, *patterns), load_board("native"))
        with open_board(plan, tmp_path / str(number)) as device:
            found.append(device.infer({"x": x})["y.dq"])
    assert found[0].tobytes() == found[1].tobytes()


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_gives_the_bits_of_native(board: str, tmp_path: Path) -> None:
    graph = _sparse(Net().graph(tmp_path), *PARTS)
    _assert_equal(*(_learned(make_plan(graph, load_board(name)), tmp_path) for name in ("native", board)))


@pytest.mark.parametrize("board", ["native", "mps3_an547"])
def test_bands_give_the_bits_of_whole_layers(board: str, tmp_path: Path) -> None:
    graph = _sparse(Net().graph(tmp_path), *PARTS)
    whole = make_plan(graph, load_board("native"))
    graph = with_scratch(graph, load_board(board))
    steps = Bands(graph).steps(_longest_chains(graph))
    in_chains = [step.op for step in steps if step.chain is not None]
    assert {"concat", "conv2d", "conv_grad_input", "moving_conv2d"} <= {op.kind for op in in_chains}
    assert any(op.kind == "conv_grad_input" and len(op.inputs) > 1 for op in in_chains)
    banded = plan_schedule(load_board(board), steps, choose_storage(steps))
    _assert_equal(_learned(whole, tmp_path / "whole"), _learned(banded, tmp_path / "banded"))


def _longest_chains(graph: Graph) -> list[Chain]:
    """Return chains of bands of one row, each as long as it can be."""
    bands, chains, start = Bands(graph), [], 0
    while start < len(graph.ops):
        options = [bands.chain(start, end, 1) for end in range(len(graph.ops), start + 1, -1)]
        chain = next((option for option in options if option is not None), None)
        if chain is not None:
            chains.append(chain)
        start = start + 1 if chain is None else chain.end
    return chains


def test_adam_keeps_moments_of_the_learning_channels_only(tmp_path: Path) -> None:
    update = UpdatePlan(("wide:1/4", "y.bias"), optimizer="adam", state="bf16")
    graph = lighten(training_graph(Net().graph(tmp_path), (LossSpec("y.dq", "mse"),), update))
    plans = [make_plan(graph, load_board(name)) for name in ("native", "mps3_an547")]
    assert graph.state["moment1.wide.weight_quantized"].shape[-1] == 4
    assert graph.state["moment1.wide.weight_quantized"].dtype == "bf16"
    _assert_equal(*(_learned(plan, tmp_path) for plan in plans))


def test_gradients_that_meet_are_added_in_integers(tmp_path: Path) -> None:
    graph = _sparse(Net().graph(tmp_path), "low:1/2")
    views = make_plan(graph, load_board("native")).views
    added = [op for op in graph.ops if op.kind == "moving_add"]
    assert len(added) == 2  # behind `joined` and behind `low`
    for op in added:
        assert {graph.tensors[name].dtype for name in (*op.inputs, *op.outputs)} == {"i8"}
        assert views[op.outputs[0]] in [views[name] for name in op.inputs]


def test_what_learns_of_an_integer_layer_is_made_of_integers_again(tmp_path: Path) -> None:
    graph = _sparse(Net().graph(tmp_path), "each:1/2", "wide:1/2")
    loss = next(index for index, op in enumerate(graph.ops) if op.phase == "loss")
    made = {name for op in graph.ops[:loss] for name in op.outputs}
    kept = made & {name for op in graph.ops[loss + 1 :] for name in op.inputs}
    assert {graph.tensors[name].dtype for name in kept} == {"i8", "bits"}


def _learned(plan: Plan, folder: Path) -> dict[str, NDArray[Any]]:
    """Return losses, weights, state and ranges after three steps, and an inference's output."""
    with open_board(plan, folder / plan.board.id) as device:
        device.set_hyper(Hyper(lr=0.02))
        losses = []
        for step in range(3):
            device.put_sample(_sample(step))
            losses += device.step(step).losses
        output = device.infer({"x": _sample(9)["x"]})["y.dq"]
        assert device.memory().arena_intact
        return {**device.read_role("weight", "state", "range"), "losses": np.array(losses), "y": output}


def _assert_equal(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name
