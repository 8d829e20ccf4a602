"""int8 layers of all shapes that learn, under the sanitizers: gradients of weights and of what lies below."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from fleet import Fleet, lanes_here
from numpy.typing import NDArray
from onnx import helper
from qdq_models import Scale, border, float_model, integer_weight

from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import lighten, simplify
from firmware_gen.passes.integer_layers import integer_layers
from firmware_gen.plan import Plan, make_plan
from firmware_gen.update import UpdatePlan
from firmware_gen.weights import to_source

HEIGHT, WIDTH = 9, 7
# Operator, dimensions of the weight, attributes; 6 channels come in.
LAYERS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "dilated": ("Conv", (10, 6, 3, 2), {"dilations": [2, 1], "pads": [2, 1, 1, 0]}),
    "strided": ("Conv", (5, 6, 3, 3), {"strides": [2, 3], "pads": [0, 1, 1, 1]}),
    "groups": ("Conv", (9, 2, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    "depthwise": ("Conv", (6, 1, 5, 5), {"group": 6, "pads": [2, 2, 2, 2]}),
    "multiplied": ("Conv", (12, 1, 3, 3), {"group": 6, "strides": [2, 2]}),
    "transposed": ("ConvTranspose", (6, 9, 3, 3), {"strides": [2, 2], "pads": [1, 0, 0, 1]}),
    "transposed groups": ("ConvTranspose", (6, 2, 2, 3), {"group": 3, "strides": [2, 1]}),
    "transposed depthwise": ("ConvTranspose", (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    "linear": ("Gemm", (11, 6 * HEIGHT * WIDTH), {"transB": 1}),
}
LANES = lanes_here()


class Chain:
    """x -> low (1x1) -> mid -> leaky ReLU -> y (1x1 or linear), all int8, all learning."""

    def __init__(self, name: str) -> None:
        kind, dims, self.attributes = LAYERS[name]
        random = np.random.default_rng(len(name))
        self.kind, self.linear = kind, kind == "Gemm"
        made = dims[1] * self.attributes["group"] if name.startswith("transposed ") else 0
        made = made or dims[1 if kind == "ConvTranspose" else 0]
        shapes = {"low": (6, 4, 1, 1), "mid": dims, "y": (3, made) if self.linear else (3, made, 1, 1)}
        self.weights: dict[str, NDArray[np.float32]] = {}
        self.arrays: dict[str, Any] = {}
        self.nodes = [*border("x", "x.dq", Scale(0.03, 1), self.arrays)]
        self._layer("low", "x.dq", shapes["low"], "Conv", {}, random)
        self._border("low.sum", "low.dq", 0.03, -5)
        x = "low.dq"
        if self.linear:
            self.nodes.append(helper.make_node("Flatten", [x], ["low.flat"]))
            x = "low.flat"
        self._layer("mid", x, dims, kind, self.attributes, random)
        self.nodes.append(helper.make_node("LeakyRelu", ["mid.sum"], ["mid.act"], alpha=0.125))
        self._border("mid.act", "mid.dq", 0.02, -90)
        last = ("Gemm", {"transB": 1}) if self.linear else ("Conv", {})
        self._layer("y", "mid.dq", shapes["y"], *last, random)
        self._border("y.sum", "y.dq", 0.03, 0)

    def _border(self, x: str, y: str, scale: float, zero: int) -> None:
        self.nodes.extend(border(x, y, Scale(scale, zero), self.arrays))

    def _layer(
        self, name: str, x: str, dims: tuple[int, ...], kind: str, attributes: dict[str, Any], random: Any
    ) -> None:
        value = (random.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))).astype(np.float32)
        axis = 1 if kind == "ConvTranspose" else 0
        shape = [-1 if k == axis else 1 for k in range(len(dims))]
        if axis and "group" in attributes:  # int8 layers have one scale then
            value /= np.abs(value).max(axis=(0, 2, 3), keepdims=True)
        self.nodes.append(integer_weight(f"{name}.weight", value, axis, self.arrays))
        scales = self.arrays[f"{name}.weight.scale"]
        self.weights[name] = (self.arrays[f"{name}.weight_quantized"] * scales.reshape(shape)).astype(
            np.float32
        )
        if axis and "group" in attributes:
            self.arrays[f"{name}.weight.scale"] = scales[0]
            self.arrays[f"{name}.weight.zero"] = np.int8(0)
        self.nodes.append(
            helper.make_node(kind, [x, f"{name}.weight.dq"], [f"{name}.sum"], name, **attributes)
        )

    def forward(self, x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
        low = F.conv2d(x, w["low"])
        if self.linear:
            return F.linear(F.leaky_relu(F.linear(low.flatten(1), w["mid"]), 0.125), w["y"])
        stride = self.attributes.get("strides", [1, 1])
        groups, pads = self.attributes.get("group", 1), self.attributes.get("pads", [0, 0, 0, 0])
        top, left, bottom, right = pads
        if self.kind == "Conv":
            padded = F.pad(low, (left, right, top, bottom))
            dilation = self.attributes.get("dilations", [1, 1])
            mid = F.conv2d(padded, w["mid"], None, stride, 0, dilation, groups)
        else:
            whole = F.conv_transpose2d(low, w["mid"], None, stride, 0, 0, groups)
            mid = whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]
        return F.conv2d(F.leaky_relu(mid, 0.125), w["y"])

    def plan(self, folder: Path) -> Plan:
        x = torch.zeros(1, 4, HEIGHT, WIDTH)
        weights = {name: torch.tensor(value) for name, value in self.weights.items()}
        self.output = tuple(self.forward(x, weights).shape)
        path = folder / "net.onnx"
        onnx.save(float_model(self.nodes, {"x": tuple(x.shape)}, {"y.dq": self.output}, self.arrays), path)
        graph = integer_layers(simplify(import_onnx(path)))
        update = UpdatePlan(("*.weight*",), weights="int8", keep_gradients=True)
        learning = lighten(training_graph(graph, (LossSpec("y.dq", "mse"),), update))
        return make_plan(learning, load_board("native"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """For each layer its chain and plan, and for each way to compile the gradients and weights."""
    folder = tmp_path_factory.mktemp("shapes")
    chains = {name: Chain(name) for name in LAYERS}
    plans = {name: chain.plan(folder) for name, chain in chains.items()}
    fleet = Fleet(list(plans.values()))
    asked: dict[str, list[int]] = {}
    for model, (name, plan) in enumerate(plans.items()):
        fleet.reset(model)
        x, label = sample(chains[name])
        for rate in (0.0, 0.05):  # the first step finds the grids of the gradients
            fleet.write(model, "x", x)
            fleet.write(model, "y.dq.label", label)
            fleet.write(model, "y.dq.mask", np.ones(label.shape))
            fleet.step(model, lr=rate)
        kept = [fleet.read(model, f"gradient.{weight}") for weight in plan.graph.trained]
        asked[name] = kept + [fleet.read(model, weight) for weight in plan.graph.trained]
    values = {lanes: fleet.run(fleet.build(folder / lanes, lanes)) for lanes in LANES}
    found = {lanes: {name: [v[k] for k in ids] for name, ids in asked.items()} for lanes, v in values.items()}
    return {"chains": chains, "plans": plans, "found": found}


def sample(chain: Chain) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return input and label."""
    random = np.random.default_rng(3)
    channels, *size = chain.output[1:] if len(chain.output) == 4 else (chain.output[1], 1, 1)
    x = random.standard_normal((HEIGHT, WIDTH, 4), np.float32)
    return x, random.standard_normal((*size, channels), np.float32)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_the_layer_in_float(name: str, runs: dict[str, Any]) -> None:
    chain, plan = runs["chains"][name], runs["plans"][name]
    weights = {key: torch.tensor(value).double().requires_grad_() for key, value in chain.weights.items()}
    x, label = (torch.tensor(value).double().permute(2, 0, 1)[None] for value in sample(chain))
    y = chain.forward(x, weights)
    F.mse_loss(y, label.reshape(y.shape)).backward()
    assert [plan.graph.constants[name].dtype for name in plan.graph.trained] == ["i8"] * 3
    for k, constant in enumerate(plan.graph.trained):
        expected = weights[constant.partition(".")[0]].grad
        assert expected is not None
        found = to_source(plan.graph.constants[constant], runs["found"][LANES[0]][name][k]).ravel()
        wanted = expected.numpy().ravel()
        assert found @ wanted / np.sqrt((found @ found) * (wanted @ wanted)) > 0.97, constant
        assert np.sqrt((found @ found) / (wanted @ wanted)) == pytest.approx(1, abs=0.15), constant


@pytest.mark.skipif(len(LANES) == 1, reason="this computer has no vectors")
@pytest.mark.parametrize("name", LAYERS)
def test_vectors_give_the_bits_of_scalars(name: str, runs: dict[str, Any]) -> None:
    for one, other in zip(*(runs["found"][lanes][name] for lanes in LANES), strict=True):
        assert one.tobytes() == other.tobytes()
