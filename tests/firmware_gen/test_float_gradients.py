"""Float gradients through int8 layers: those of the dequantized network, as float64 autograd has them."""

from collections.abc import Mapping
from pathlib import Path

import mixed_simulation as simulation
import numpy as np
import torch
from fleet import Fleet, lanes_here
from mixed_networks import Net, observable
from mixed_simulation import grid_on
from numpy.typing import NDArray

from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Graph, Op, Tensor
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.moving_sums import MovingAddAttrs
from firmware_gen.passes import lighten
from firmware_gen.plan import make_plan
from firmware_gen.update import parse_update
from firmware_gen.window import LINEAR, Activation

NETWORKS = 12  # each kind of layer twice
TOLERANCE = 1e-4  # relative L2 norm of a gradient
LEARNS = ("head.weight", "head.bias", "a.bias")

Values = Mapping[str, NDArray[np.float32]]


def learning(seed: int) -> Graph:
    """Return a random network in which a float layer below int8 layers learns, and one of their biases."""
    update = parse_update("head,a.bias", keep_gradients=True, gradients="f32")
    return lighten(training_graph(Net(seed).graph(), (LossSpec("y", "mse"),), update))


def autograd(graph: Graph, values: Values) -> dict[str, torch.Tensor]:
    """Return the gradients of what learns, for what the firmware stored in the forward pass.

    Each map has the firmware's values and passes its gradient on as if they had not been rounded or clipped.
    """
    leaves = {name: torch.tensor(graph.constants[name].value).double().requires_grad_() for name in LEARNS}
    reals: dict[str, torch.Tensor] = {}
    for name in graph.inputs:
        reals[name] = torch.tensor(values[name]).permute(2, 0, 1).double()
    for op in graph.ops:
        y = op.outputs[0] if op.outputs else ""
        if op.phase != "forward" or y not in values:
            continue
        made = _made(op, graph, reals, leaves, torch.tensor(values[y]).permute(2, 0, 1))
        reals[y] = made + (_real(graph, y, values) - made).detach()
    (dy,) = (op.outputs[0] for op in graph.ops if op.phase == "loss")
    reals["y"].backward(torch.tensor(values[dy]).permute(2, 0, 1).double())
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def _real(graph: Graph, name: str, values: Values) -> torch.Tensor:
    stored = torch.tensor(values[name]).permute(2, 0, 1).double()
    if graph.tensors[name].dtype == "f32":
        return stored
    grid = grid_on(graph, name)
    return (stored - grid.zero) * float(grid.scale)


def _made(
    op: Op,
    graph: Graph,
    reals: dict[str, torch.Tensor],
    leaves: dict[str, torch.Tensor],
    stored: torch.Tensor,
) -> torch.Tensor:
    """Return what the operator would have made in real values, with the slope of the `stored` output."""
    inputs, y = [reals[name] for name in op.inputs], op.outputs[0]
    match op.attrs:
        case ConvAttrs() as attrs:
            weight, *bias = (leaves.get(name, graph.constants[name]) for name in op.constants)
            start = bias[0] if isinstance(bias[0], torch.Tensor) else torch.tensor(bias[0].value)
            sums = simulation.real_conv(inputs[0], weight, start, attrs, graph.shape(y)[:2])
            return _activated(sums, stored, graph, y, attrs.activation)
        case MovingAddAttrs() as attrs:
            activation = Activation("relu") if attrs.relu else LINEAR
            return _activated(inputs[0] + inputs[1], stored, graph, y, activation)
    match op.kind:
        case "moving_mean":
            return inputs[0].mean((1, 2), keepdim=True)
        case "concat":
            return torch.cat(inputs)
        case kind:
            assert kind in ("quantize", "dequantize", "rescale"), kind
            return inputs[0]


def _activated(
    sums: torch.Tensor, stored: torch.Tensor, graph: Graph, y: str, activation: Activation
) -> torch.Tensor:
    if activation == LINEAR or graph.tensors[y].dtype == "f32":
        return simulation.activated(sums, activation)
    return simulation.masked(sums, stored, grid_on(graph, y), activation)


def test_float_gradients_are_those_of_autograd_through_the_dequantized_network(tmp_path: Path) -> None:
    graphs = [learning(seed) for seed in range(NETWORKS)]
    seen = [observable(graph) for graph in graphs]
    assert all(tensor.dtype != "i8" for graph in graphs for tensor in _gradients(graph))
    fleet = Fleet([make_plan(graph, load_board("native")) for graph in seen])
    asked: list[dict[str, int]] = []
    samples: list[dict[str, NDArray[np.float32]]] = []
    for number, graph in enumerate(seen):
        random = np.random.default_rng(2000 + number)
        sample = {name: random.standard_normal(graph.shape(name)).astype(np.float32) for name in graph.inputs}
        fleet.reset(number)
        for name, value in sample.items():
            fleet.write(number, name, value)
        fleet.infer(number)
        numbers = {name: fleet.read(number, name) for name in graph.outputs}
        for name, value in sample.items():
            fleet.write(number, name, value)
        fleet.step(number, lr=0.0)
        samples.append(sample)
        asked.append(numbers | {name: fleet.read(number, f"gradient.{name}") for name in LEARNS})
    answers = fleet.run(fleet.build(tmp_path, lanes_here()[-1]))
    nonzero = 0
    for graph, sample, numbers in zip(graphs, samples, asked, strict=True):
        values = sample | {name: answers[number] for name, number in numbers.items()}
        for name, truth in autograd(graph, values).items():
            found = torch.tensor(values[name]).double().reshape(truth.shape)
            assert (found - truth).norm() <= TOLERANCE * truth.norm(), (graph.ops[0].name, name)
            nonzero += bool(truth.norm() > 0)
    assert nonzero > 2 * NETWORKS


def _gradients(graph: Graph) -> list[Tensor]:
    return [graph.tensors[name] for op in graph.ops if op.phase == "backward" for name in op.outputs]
