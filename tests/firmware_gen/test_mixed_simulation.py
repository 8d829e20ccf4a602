"""Operators on moving grids against a simulation in PyTorch, over random networks, integer by integer."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mixed_simulation as simulation
import numpy as np
import pytest
import torch
from fleet import Fleet, lanes_here
from mixed_networks import Net, observable
from mixed_simulation import Grid, exact_gradient_grid, grid_on
from numpy.typing import NDArray

from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Constant, Gradients, Graph, Op
from firmware_gen.operators.base import Channels
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.moving_sums import MovingAddAttrs
from firmware_gen.passes import lighten
from firmware_gen.plan import make_plan
from firmware_gen.update import parse_update
from firmware_gen.window import Activation

NETWORKS: dict[Gradients, int] = {"int8": 20, "int16": 12}
EXACT = ("quantize", "quantize_gradient", "moving_conv2d", "rescale", "mean_gradient")
FLOAT = (
    "conv2d",
    "dequantize",
    "activation_bits",
    "activation_bits_i8",
    "activation_grad",
)  # or bits: not compared
NEAR = {"moving_add": 0.002, "moving_mean": 0.05}  # the share that may round to the neighbour


@dataclass
class Differences:
    """Values compared, by kind of operator and by how many steps the firmware lies beside the simulation."""

    found: Counter[tuple[str, int]]
    dithered: list[float]

    def note(self, kind: str, firmware: torch.Tensor, simulated: torch.Tensor) -> None:
        """Compare two maps of integers."""
        assert firmware.shape == simulated.shape, kind
        steps = (firmware - simulated).abs()
        self.found.update((kind, int(step)) for step in steps.ravel().tolist())

    def note_dithered(self, firmware: torch.Tensor, real: torch.Tensor) -> None:
        """Compare integers with real values that were rounded up or down."""
        rest = firmware - real
        assert rest.abs().max() < 1
        self.dithered += rest[real != real.round()].tolist()

    def share(self, kind: str) -> float:
        """Return the share of the values of a kind that differ by a step; none may by more."""
        assert all(steps <= 1 for name, steps in self.found if name == kind), kind
        beside, same = self.found[kind, 1], self.found[kind, 0]
        assert same > 0, f"{kind} was not compared"
        return beside / (same + beside)


def compare(graph: Graph, values: dict[str, NDArray[Any]], differences: Differences) -> dict[str, Grid]:
    """Run every operator of the simulation on what the firmware's operator has read; return the grids."""
    maps = {name: torch.tensor(value).permute(2, 0, 1) for name, value in values.items()}
    maps = {
        name: value if value.dtype == torch.float32 else value.to(torch.int64) for name, value in maps.items()
    }
    grids = {
        name: grid_on(graph, name) for name, tensor in graph.tensors.items() if tensor.dtype in ("i8", "i16")
    }
    for op in graph.ops:
        if op.phase != "forward" or op.kind in FLOAT:
            continue
        (x, *others), y = op.inputs, op.outputs[0]
        if op.kind == "quantize_gradient":
            _settle(graph, grids, y, exact_gradient_grid(maps[x], grids[y].highest))
        if op.kind == "mean_gradient":
            count = graph.tensors[y].count // graph.tensors[x].count
            _settle(graph, grids, y, replace(grids[x], scale=grids[x].scale / np.float32(count)))
        match op.kind, op.attrs:
            case "quantize" | "quantize_gradient", _:
                made = simulation.quantize(maps[x], grids[y])
            case "conv2d_i8_f32", ConvAttrs() as attrs:
                weight, start = _parameters(graph, op)
                size = graph.shape(y)[:2]
                real = simulation.conv_to_float(maps[x], grids[x], weight, start, attrs, size)
                torch.testing.assert_close(maps[y].double(), real, rtol=1e-5, atol=1e-5)
                continue
            case "moving_conv2d", ConvAttrs():
                made = _convolved(graph, op, maps, grids)
            case "mask_gradient", Activation() as activation:
                activated = others[0].removesuffix(".bits")
                differences.note_dithered(
                    maps[y], simulation.masked(maps[x], maps[activated], grids[activated], activation)
                )
                continue
            case "rescale", _:
                made = simulation.rescaled(maps[x], grids[x], grids[y])
            case "moving_add", MovingAddAttrs() as attrs:
                b = others[0]
                made = simulation.added(maps[x], grids[x], maps[b], grids[b], grids[y], attrs.relu)
            case "moving_mean", _:
                made = simulation.averaged(maps[x], grids[x], grids[y])
            case "mean_gradient", _:
                made = maps[x].expand(maps[y].shape)
            case "concat", _:
                made = torch.cat([maps[name] for name in op.inputs])
            case "slice", Channels() as channels:
                made = maps[x][channels.first : channels.end]
            case other:
                pytest.fail(f"nothing simulates {other}")
        differences.note(op.kind, maps[y], made)
    return grids


def _settle(graph: Graph, grids: dict[str, Grid], name: str, grid: Grid) -> None:
    """Give a grid that an operator finds to all tensors that are on it."""
    group = graph.tensors[name].range
    grids.update({other: grid for other, tensor in graph.tensors.items() if tensor.range == group})


def _convolved(graph: Graph, op: Op, maps: dict[str, torch.Tensor], grids: dict[str, Grid]) -> torch.Tensor:
    forward = next(other for other in graph.ops if other.name == op.name and other.constants)
    attrs, (weight, start) = forward.attrs, _parameters(graph, forward)
    assert isinstance(attrs, ConvAttrs)
    if op is not forward:
        weight, attrs = simulation.carried_back(weight, attrs)
        start = None
    x, y = op.inputs[0], op.outputs[0]
    size = graph.shape(y)[:2]
    return simulation.conv(maps[x], grids[x], weight, start, attrs, grids[y], size)


def _parameters(graph: Graph, op: Op) -> tuple[Constant, torch.Tensor | None]:
    weight, *bias = (graph.constants[name] for name in op.constants)
    return weight, torch.tensor(bias[0].value) if bias else None


def _write(fleet: Fleet, number: int, sample: dict[str, NDArray[np.float32]]) -> None:
    for name, value in sample.items():
        fleet.write(number, name, value)


@pytest.mark.parametrize("gradients", NETWORKS)
def test_the_firmware_stores_the_integers_of_the_simulation(gradients: Gradients, tmp_path: Path) -> None:
    graphs, plans = [], []
    for seed in range(NETWORKS[gradients]):
        patterns = parse_update("head,a.bias", keep_gradients=True, gradients=gradients)
        learning = lighten(training_graph(Net(seed).graph(), (LossSpec("y", "mse"),), patterns))
        graphs.append(observable(learning))
        plans.append(make_plan(graphs[-1], load_board("native")))
    fleet = Fleet(plans)
    asked: list[dict[str, int]] = []
    samples: list[dict[str, NDArray[np.float32]]] = []
    for number, graph in enumerate(graphs):
        random = np.random.default_rng(1000 + number)
        sample = {name: random.standard_normal(graph.shape(name)).astype(np.float32) for name in graph.inputs}
        fleet.reset(number)
        _write(fleet, number, sample)
        fleet.infer(number)
        numbers = {name: fleet.read(number, name) for name in graph.outputs}
        samples.append(sample)
        _write(fleet, number, sample)
        fleet.step(number, lr=0.0)
        asked.append({**numbers, "gradient.a.bias": fleet.read(number, "gradient.a.bias")})
    answers = fleet.run(fleet.build(tmp_path, lanes_here()[-1]))

    differences = Differences(Counter(), [])
    for graph, numbers, sample in zip(graphs, asked, samples, strict=True):
        values = {**sample, **{name: answers[number] for name, number in numbers.items()}}
        bias = values.pop("gradient.a.bias").ravel()
        grids = compare(graph, values, differences)
        dy = next(op.inputs[0] for op in graph.ops if op.phase == "update" and op.constants == ("a.bias",))
        unit = np.float64(grids[dy].scale) if dy in grids else 1.0
        truth = values[dy].astype(np.float64).sum((0, 1)) * unit
        np.testing.assert_allclose(bias, truth, rtol=1e-5, atol=1e-6)
    assert len(differences.dithered) > 200
    assert abs(np.mean(differences.dithered)) < 0.08
    for kind in EXACT:
        assert differences.share(kind) == 0, kind
    for kind, most in NEAR.items():
        assert differences.share(kind) < most, kind
