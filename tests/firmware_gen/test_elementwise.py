"""Arithmetic and activations in float32, forward and backward, against float64 autograd and ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fleet import Fleet
from networks import Net
from proof import Case, prove

from boards import load_board
from fieldtune.errors import ModelError
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Constant, Graph, Op, Quantization, Tensor
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.lookup import real_function
from firmware_gen.operators.quantize import dequantize, quantize
from firmware_gen.passes import lighten
from firmware_gen.plan import make_plan
from firmware_gen.update import UpdatePlan
from firmware_gen.window import Window

LEARNS = ("stem*", "head")
Shape = tuple[int, ...]
Function = Callable[..., torch.Tensor]
TORCH: dict[str, Function] = {
    "Add": torch.add,
    "Div": torch.div,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Mul": torch.mul,
    "Sub": torch.sub,
}
UNARY: dict[str, Function] = {
    "Elu": lambda x: F.elu(x, 0.7),
    "HardSigmoid": lambda x: (x * 0.3 + 0.4).clamp(0, 1),
    "HardSwish": F.hardswish,
    "Neg": torch.neg,
    "Tanh": torch.tanh,
}
ATTRIBUTES = {"Elu": {"alpha": 0.7}, "HardSigmoid": {"alpha": 0.3, "beta": 0.4}}


class Arithmetic(Net):
    """Networks with operators of one or two values."""

    def unary(self, kind: str, x: str) -> str:
        name = self._fresh(kind.lower())
        return self._node(kind, name, [x], UNARY[kind](self.values[x]), **ATTRIBUTES.get(kind, {}))

    def binary(self, kind: str, a: str, b: str) -> str:
        return self._node(
            kind, self._fresh(kind.lower()), [a, b], TORCH[kind](self.values[a], self.values[b])
        )

    def constant(self, dims: Shape, values: np.ndarray | None = None) -> str:
        """Add a constant, which an operator may take as an operand."""
        name = self._fresh("constant")
        value = self.rng.uniform(0.3, 2.0, dims) * self.rng.choice([-1.0, 1.0], dims)
        value = np.asarray(value if values is None else values, np.float32)
        self.values[self._initializer(name, value)] = torch.tensor(value).double()
        return name

    def prelu(self, x: str, dims: Shape, values: np.ndarray | None = None) -> str:
        slope = self.constant(dims, values)
        value = self.values[x]
        result = torch.where(value > 0, value, value * self.values[slope])
        return self._node("PRelu", self._fresh("prelu"), [x, slope], result)

    def stems(self, *shapes: tuple[int, int, int]) -> list[str]:
        """Add maps of (channels, rows, columns) that come out of layers which learn."""
        return [self.conv(self.input(2, h, w), c, name=f"stem{k}") for k, (c, h, w) in enumerate(shapes)]

    def finished(self, x: str, patterns: tuple[str, ...] = LEARNS) -> Case:
        self.loss(self.conv(x, 3, name="head"), "mse")
        return Case(self, patterns)


def test_activations_and_their_gradients(tmp_path: Path) -> None:
    cases = []
    for seed, kind in enumerate(UNARY):
        net = Arithmetic(seed)
        # Large values too, where slopes vanish.
        x = net.binary("Mul", net.input(2, 4, 6), net.constant((), np.float32(4)))
        # The activation keeps the scale of a hard sigmoid from being folded into the layer before.
        x = net.activation(net.conv(x, 5, name="stem"), "LeakyRelu", high=0.5)
        cases.append(net.finished(net.unary(kind, x)))
    prove(cases, tmp_path)


MAPS = (
    ((4, 5, 6), (4, 5, 6)),
    ((4, 5, 6), (4, 1, 1)),
    ((1, 1, 1), (4, 5, 6)),
    ((4, 5, 6), (1, 5, 6)),
    ((4, 1, 6), (1, 5, 1)),
)


@pytest.mark.parametrize("kind", ["Add", "Mul", "Sub"])
def test_two_maps_and_the_gradients_of_both(kind: str, tmp_path: Path) -> None:
    cases = []
    for seed, shapes in enumerate(MAPS):
        net = Arithmetic(seed)
        cases.append(net.finished(net.binary(kind, *net.stems(*shapes))))
    net = Arithmetic(99)
    (x,) = net.stems((3, 4, 5))
    cases.append(net.finished(net.binary(kind, x, x)))
    prove(cases, tmp_path)


@pytest.mark.parametrize("kind", ["Max", "Min"])
def test_the_larger_and_the_smaller_of_two_maps(kind: str, tmp_path: Path) -> None:
    cases = []
    for seed, shapes in enumerate(MAPS[3:]):
        net = Arithmetic(seed)
        cases.append(net.finished(net.binary(kind, *net.stems(*shapes)), patterns=("head",)))
    prove(cases, tmp_path)


CONSTANTS: tuple[Shape, ...] = ((), (1, 4, 1, 1), (4, 5, 6), (6,))


@pytest.mark.parametrize("kind", ["Div", "Mul", "Sub"])
def test_constant_operands_on_either_side(kind: str, tmp_path: Path) -> None:
    cases = []
    for first in (False, True) if kind == "Sub" else (False,):
        for seed, dims in enumerate(CONSTANTS):
            net = Arithmetic(seed)
            (x,) = net.stems((4, 5, 6))
            constant = net.constant(dims)
            x = net.unary("Tanh", x)  # keeps scales and shifts from being folded into the layer before
            cases.append(net.finished(net.binary(kind, *((constant, x) if first else (x, constant)))))
    prove(cases, tmp_path)


@pytest.mark.parametrize("kind", ["Max", "Min"])
def test_limits_by_a_constant(kind: str, tmp_path: Path) -> None:
    cases = []
    for seed, dims in enumerate(((), (5, 6))):
        net = Arithmetic(seed)
        (x,) = net.stems((4, 5, 6))
        learns = LEARNS if dims == () else ("head",)  # one limit for all is a clip, which has a gradient
        cases.append(net.finished(net.binary(kind, x, net.constant(dims)), learns))
    prove(cases, tmp_path)


def test_a_network_that_multiplies_by_its_own_gate(tmp_path: Path) -> None:
    """Squeeze and excitation: one factor a channel, computed from the map that it scales."""
    net = Arithmetic(5)
    (x,) = net.stems((6, 5, 4))
    gate = net.activation(net.conv(net.global_average_pool(x), 6, name="stem.gate"), "Sigmoid")
    prove([net.finished(net.binary("Mul", x, gate))], tmp_path)


def test_prelu_with_slopes_of_any_shape_and_sign(tmp_path: Path) -> None:
    cases = []
    for seed, dims in enumerate(((4, 1, 1), (1,), (4, 5, 6), (1, 5, 1))):
        net = Arithmetic(seed)
        (x,) = net.stems((4, 5, 6))
        cases.append(net.finished(net.prelu(x, dims)))
    net = Arithmetic(9)
    (x,) = net.stems((4, 5, 6))
    cases.append(net.finished(net.prelu(x, (1,), np.array([0.2], np.float32))))
    prove(cases, tmp_path)


def test_scales_that_are_folded_into_the_layer_before(tmp_path: Path) -> None:
    net = Arithmetic(3)
    x = net.input(2, 4, 4)
    x = net.binary("Mul", net.conv(x, 5, name="stem"), net.constant((5, 1, 1)))
    x = net.binary("Div", net.binary("Sub", x, net.constant(())), net.constant((1,)))
    net.loss(net.conv(x, 3, name="head"), "mse")
    graph = net.graph(tmp_path)
    assert [op.kind for op in graph.ops] == ["conv2d", "conv2d"]
    prove([Case(net, ("head",))], tmp_path)


@pytest.mark.parametrize("kind", ["Max", "Min"])
def test_who_cannot_learn_through_an_operator_is_told(kind: str, tmp_path: Path) -> None:
    net = Arithmetic(1)
    case = net.finished(net.binary(kind, *net.stems((4, 5, 6), (4, 5, 6))))
    with pytest.raises(ModelError, match=r"(maximum|minimum)\) passes no gradient on"):
        case.net.plan(tmp_path, UpdatePlan(("*",)))


def test_a_float_layer_learns_behind_an_integer_part(tmp_path: Path) -> None:
    """Floats to int8, a table, back to floats, a 1x1 convolution that learns from what it is given."""
    random = np.random.default_rng(4)
    weight = random.standard_normal((1, 1, 3, 2)).astype(np.float32)
    q = Tensor("q", (4, 5, 3), "i8", Quantization(0.05, 3))
    t = Tensor("t", (4, 5, 3), "i8", Quantization(1 / 128, 0))
    table = real_function(np.tanh, q, t)
    tensors = {
        tensor.name: tensor
        for tensor in (Tensor("x", (4, 5, 3)), q, t, Tensor("f", (4, 5, 3)), Tensor("y", (4, 5, 2)))
    }
    ops = (
        Op("quantize", "edge", ("x",), ("q",), quantize("away").attrs),
        Op("lookup", "tanh", ("q",), ("t",), None, tuple(c.name for c in table.constants)),
        Op("dequantize", "back", ("t",), ("f",), dequantize().attrs),
        Op("conv2d", "head", ("f",), ("y",), ConvAttrs(Window((1, 1))), ("head.weight",)),
    )
    constants = {c.name: c for c in (*table.constants, Constant("head.weight", weight))}
    graph = Graph("mixed", ops, tensors, constants, ("x",), ("y",))
    update = UpdatePlan(("head",), keep_gradients=True)
    fleet = Fleet(
        [make_plan(lighten(training_graph(graph, (LossSpec("y", "mse"),), update)), load_board("native"))]
    )
    x = random.standard_normal((4, 5, 3)).astype(np.float32) * 4
    label = random.standard_normal((4, 5, 2)).astype(np.float32)
    fleet.reset(0)
    for name, value in (("x", x), ("y.label", label), ("y.mask", np.ones((4, 5, 2)))):
        fleet.write(0, name, value)
    loss, gradient = fleet.step(0), fleet.read(0, "gradient.head.weight")
    found = fleet.run(fleet.build(tmp_path))

    steps = np.clip(np.trunc(x / np.float32(0.05) + np.copysign(0.5, x)) + 3, -128, 127)
    features = np.clip(np.round(np.tanh((steps - 3) * np.float32(0.05)) * 128), -128, 127) / 128
    leaf = torch.tensor(weight[0, 0]).double().requires_grad_()
    truth = F.mse_loss(torch.tensor(features).double() @ leaf, torch.tensor(label).double())
    truth.backward()
    assert leaf.grad is not None
    np.testing.assert_allclose(found[loss], truth.item(), rtol=1e-5)
    np.testing.assert_allclose(found[gradient].reshape(3, 2), leaf.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_nothing_learns_below_an_integer_table(tmp_path: Path) -> None:
    assert not OPERATORS["lookup"].learns
    constants = {
        "stem.weight": Constant("stem.weight", np.ones((1, 1, 1, 1), np.float32)),
        "table": Constant("table", np.arange(256).astype(np.int8)),
    }
    tensors = {
        tensor.name: tensor
        for tensor in (
            Tensor("x", (1, 1, 1)),
            Tensor("s", (1, 1, 1)),
            Tensor("q", (1, 1, 1), "i8", Quantization(1.0, 0)),
            Tensor("t", (1, 1, 1), "i8", Quantization(0.1, 3)),
            Tensor("y", (1, 1, 1)),
        )
    }
    ops = (
        Op("conv2d", "stem", ("x",), ("s",), ConvAttrs(Window((1, 1))), ("stem.weight",)),
        Op("quantize", "edge", ("s",), ("q",), quantize("even").attrs),
        Op("lookup", "bend", ("q",), ("t",), None, ("table",)),
        Op("dequantize", "back", ("t",), ("y",)),
    )
    graph = Graph("mixed", ops, tensors, constants, ("x",), ("y",))
    with pytest.raises(ModelError, match=r"'bend' \(lookup\) .* cannot move yet"):
        training_graph(graph, (LossSpec("y", "mse"),), UpdatePlan(("stem",)))
