"""Operators on moving grids against a simulation in PyTorch, over random networks, integer by integer."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mixed_simulation as simulation
import numpy as np
import pytest
import torch
from fleet import Fleet, lanes_here
from mixed_simulation import Grid, exact_gradient_grid, grid_of
from numpy.typing import NDArray

from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Constant, Graph, Op, Quantization, Shape, Tensor
from firmware_gen.operators.base import Channels, Lowered
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d
from firmware_gen.operators.elementwise_i8 import Operand, lower_add
from firmware_gen.operators.moving_sums import MovingAddAttrs
from firmware_gen.operators.pool_i8 import lower_mean
from firmware_gen.operators.quantize import dequantize, quantize
from firmware_gen.passes import lighten
from firmware_gen.plan import make_plan
from firmware_gen.update import parse_update
from firmware_gen.window import LINEAR, Activation, Window

NETWORKS = 16
KNOWN = 1.5  # what gradients' ranges begin with, so that no grid is guessed
ACTIVATIONS = (LINEAR, Activation("relu"), Activation("leaky_relu", 0.125), Activation("clip", 0.0, 1.0))
KINDS = ("dense", "depthwise", "grouped", "transposed", "grouped transposed", "linear")


EXACT = ("quantize", "quantize_gradient", "moving_conv2d", "mask_gradient", "rescale", "mean_gradient")
NEAR = {"moving_add": 0.002, "moving_mean": 0.05}  # the share that may round to the neighbour


class Net:
    """A float layer that learns below int8 layers: one of a random kind and, by its number, what follows.

    x -> head (float) -> a ---------+
     `-> low (int8, fixed) -> concat -> mean -> y     a -> beside -> sum with a
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.kind = KINDS[seed % len(KINDS)]
        self._tensors: dict[str, Tensor] = {}
        self._constants: dict[str, Constant] = {}
        self._ops: list[Op] = []
        size = (1, 1) if self.kind == "linear" else tuple(self._random.integers(3, 9, 2).tolist())
        groups = 1 if self.kind in ("dense", "transposed", "linear") else int(self._random.integers(2, 5))
        inner = 1 if self.kind == "depthwise" else int(self._random.integers(1, 6))
        self._float("x", (*size, 3))
        self._head(groups * inner)
        self._conv("a", "h", groups)
        last = "a"
        if seed % 2:
            last = self._residual("a", relu=seed % 4 == 3)
        if seed % 3 == 1:
            last = self._joined(last)
        if seed % 5 > 2:
            last = self._mean(last)
        self._float("y", self._tensors[last].shape)
        self._op("out", dequantize(), (last,), "y")

    def graph(self) -> Graph:
        """Return the network, not trained."""
        made = {op.outputs[0] for op in self._ops}
        inputs = tuple(name for name in self._tensors if name not in made)
        return Graph("net", tuple(self._ops), self._tensors, self._constants, inputs, ("y",))

    def _op(self, name: str, lowered: Lowered, inputs: Sequence[str], output: str) -> None:
        self._constants.update({constant.name: constant for constant in lowered.constants})
        names = tuple(constant.name for constant in lowered.constants)
        self._ops.append(Op(lowered.kind, name, tuple(inputs), (output,), lowered.attrs, names))

    def _float(self, name: str, shape: Shape) -> str:
        self._tensors[name] = Tensor(name, shape)
        return name

    def _int8(self, name: str, shape: Shape, zero: int | None = None) -> Quantization:
        """Add a tensor that reaches from some -3 to 3, or from 0 to 3."""
        zero = int(self._random.integers(-20, 20)) if zero is None else zero
        scale = float(np.float32((3 if zero == -128 else 6) / 255))
        self._tensors[name] = Tensor(name, shape, "i8", Quantization(scale, zero))
        return Quantization(scale, zero)

    def _known(self, name: str) -> Quantization:
        known = self._tensors[name].quantization
        assert known is not None
        return known

    def _head(self, channels: int) -> None:
        shape = (*self._tensors["x"].shape[:2], channels)
        values = {
            "head.weight": self._random.standard_normal((1, 1, 3, channels)) / 2,
            "head.bias": self._random.standard_normal(channels) / 4,
        }
        constants = tuple(Constant(name, value.astype(np.float32)) for name, value in values.items())
        self._op(
            "head", Lowered("conv2d", ConvAttrs(Window((1, 1))), constants), ("x",), self._float("h.f", shape)
        )
        self._int8("h", shape)
        self._op("border", quantize("even"), ("h.f",), "h")

    def _conv(self, name: str, x: str, groups: int, same: bool = False) -> None:
        """Add a layer of the network's kind, or one that keeps the shape."""
        random, (height, width, channels) = self._random, self._tensors[x].shape
        transposed = "transposed" in self.kind and not same
        window = Window((1, 1))
        if self.kind == "linear" or same:
            groups = 1
        else:
            kernel = tuple(random.integers(1, 8 if self.kind == "depthwise" else 4, 2).tolist())
            dilation = (1, 1) if max(kernel) > 3 else tuple(random.integers(1, 3, 2).tolist())
            spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
            room = (0, 0) if transposed else (height, width)
            pad = tuple(
                max(int(random.integers(0, span // 2 + 1)), (span - size + 1) // 2 if size else 0)
                for span, size in zip(spans, room, strict=True)
            )
            window = Window(kernel, tuple(random.integers(1, 3, 2).tolist()), pad, pad, dilation)
        size = window.transposed_output(height, width) if transposed else window.output(height, width)
        given = 1 if self.kind == "depthwise" and not same else int(random.integers(1, 7))
        given = channels if same else given * groups
        shape = (channels, given // groups) if transposed else (channels // groups, given)
        value = random.integers(-127, 128, (*window.kernel, *shape)).astype(np.int8)
        fan_in = window.taps * channels / groups
        scales = random.uniform(0.5, 1.5, given) / (73 * np.sqrt(fan_in))
        weight = Constant(f"{name}.weight", value, scales=tuple(np.float32(s).item() for s in scales))
        activation = ACTIVATIONS[int(random.integers(len(ACTIVATIONS)))]
        known = self._int8(name, (*size, given), -128 if activation.kind in ("relu", "clip") else None)
        attrs = ConvAttrs(window, groups, transposed, activation)
        bias = random.integers(-2000, 2000, given).astype(np.int32)
        self._op(name, quantized_conv2d(name, attrs, self._known(x), weight, bias, known), (x,), name)

    def _residual(self, x: str, relu: bool) -> str:
        self._conv("beside", x, 1, same=True)
        known = self._int8("sum", self._tensors[x].shape, -128 if relu else None)
        lowered = lower_add(Operand(self._known(x)), Operand(self._known("beside")), known)
        self._op("sum", lowered, (x, "beside"), "sum")
        return "sum"

    def _joined(self, x: str) -> str:
        """Concatenate `x` and an int8 map that depends on nothing that learns."""
        height, width, channels = self._tensors[x].shape
        self._float("low.f", (height, width, 4))
        self._tensors["low"] = Tensor("low", (height, width, 4), "i8", self._known(x))
        self._op("low.border", quantize("even"), ("low.f",), "low")
        self._tensors["joined"] = Tensor("joined", (height, width, channels + 4), "i8", self._known(x))
        self._ops.append(Op("concat", "joined", (x, "low"), ("joined",)))
        return "joined"

    def _mean(self, x: str) -> str:
        height, width, channels = self._tensors[x].shape
        known = self._int8("mean", (1, 1, channels))
        self._op("mean", lower_mean(height * width, self._known(x), known), (x,), "mean")
        return "mean"


def observable(graph: Graph) -> Graph:
    """Return the training `graph` as an inference of which the host sees every value.

    The gradient of the loss is an input; gradients' ranges are known before the first step.
    """
    (loss,) = (op for op in graph.ops if op.kind == "loss")
    dy = loss.outputs[0]
    idle = dataclasses.replace(graph.tensors[dy], name="idle")
    early = [
        dataclasses.replace(op, phase="forward") for op in graph.ops if op.phase not in ("loss", "update")
    ]
    late = [dataclasses.replace(loss, outputs=("idle",)), *(op for op in graph.ops if op.phase == "update")]
    seen = [op.outputs[0] for op in early if graph.tensors[op.outputs[0]].dtype in ("f32", "i8")]
    ranges = {
        name: dataclasses.replace(moving, low=-KNOWN, high=KNOWN) if moving.symmetric else moving
        for name, moving in graph.ranges.items()
    }
    return dataclasses.replace(
        graph,
        ops=(*early, *late),
        tensors={**graph.tensors, "idle": idle},
        inputs=(*graph.inputs, dy),
        outputs=tuple(seen),
        ranges=ranges,
    )


@dataclass
class Differences:
    """Values compared, by kind of operator and by how many steps the firmware lies beside the simulation."""

    found: Counter[tuple[str, int]]

    def note(self, kind: str, firmware: torch.Tensor, simulated: torch.Tensor) -> None:
        """Compare two maps of integers."""
        assert firmware.shape == simulated.shape, kind
        steps = (firmware - simulated).abs()
        self.found.update((kind, int(step)) for step in steps.ravel().tolist())

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
        name: value.to(torch.int64) if value.dtype == torch.int8 else value for name, value in maps.items()
    }
    grids = {name: _grid(graph, name) for name, tensor in graph.tensors.items() if tensor.dtype == "i8"}
    for op in graph.ops:
        if op.phase != "forward" or op.kind in ("conv2d", "dequantize", "activation_bits_i8"):
            continue
        (x, *others), y = op.inputs, op.outputs[0]
        if op.kind == "quantize_gradient":
            _settle(graph, grids, y, exact_gradient_grid(maps[x]))
        if op.kind == "mean_gradient":
            count = graph.tensors[y].count // graph.tensors[x].count
            _settle(graph, grids, y, Grid(grids[x].scale / np.float32(count)))
        match op.kind, op.attrs:
            case "quantize" | "quantize_gradient", _:
                made = simulation.quantize(maps[x], grids[y])
            case "moving_conv2d", ConvAttrs():
                made = _convolved(graph, op, maps, grids)
            case "mask_gradient", Activation() as activation:
                activated = others[0].removesuffix(".bits")
                made = simulation.masked(maps[x], maps[activated], grids[activated], activation)
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


def _grid(graph: Graph, name: str) -> Grid:
    tensor = graph.tensors[name]
    if tensor.range:
        return grid_of(graph.ranges[tensor.range])
    assert tensor.quantization is not None
    return Grid(np.float32(tensor.quantization.scale), tensor.quantization.zero_point, -128)


def _settle(graph: Graph, grids: dict[str, Grid], name: str, grid: Grid) -> None:
    """Give a grid that an operator finds to all tensors that are on it."""
    group = graph.tensors[name].range
    grids.update({other: grid for other, tensor in graph.tensors.items() if tensor.range == group})


def _convolved(graph: Graph, op: Op, maps: dict[str, torch.Tensor], grids: dict[str, Grid]) -> torch.Tensor:
    forward = next(other for other in graph.ops if (other.kind, other.name) == (op.kind, op.name))
    attrs, (weight, *bias) = forward.attrs, (graph.constants[name] for name in forward.constants)
    assert isinstance(attrs, ConvAttrs)
    if op is not forward:
        weight, attrs = simulation.carried_back(weight, attrs)
        bias = []
    start = torch.tensor(bias[0].value) if bias else None
    x, y = op.inputs[0], op.outputs[0]
    size = graph.shape(y)[:2]
    return simulation.conv(maps[x], grids[x], weight, start, attrs, grids[y], size)


def _write(fleet: Fleet, number: int, sample: dict[str, NDArray[np.float32]]) -> None:
    for name, value in sample.items():
        fleet.write(number, name, value)


def test_the_firmware_stores_the_integers_of_the_simulation(tmp_path: Path) -> None:
    graphs, plans = [], []
    for seed in range(NETWORKS):
        patterns = parse_update("head,a.bias", keep_gradients=True)
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

    differences = Differences(Counter())
    for graph, numbers, sample in zip(graphs, asked, samples, strict=True):
        values = {**sample, **{name: answers[number] for name, number in numbers.items()}}
        bias = values.pop("gradient.a.bias").ravel()
        grids = compare(graph, values, differences)
        dy = next(op.inputs[0] for op in graph.ops if op.kind == "bias_update_i8")
        truth = values[dy].astype(np.int64).sum((0, 1)) * np.float64(grids[dy].scale)
        np.testing.assert_allclose(bias, truth, rtol=1e-6)
    for kind in EXACT:
        assert differences.share(kind) == 0, kind
    for kind, most in NEAR.items():
        assert differences.share(kind) < most, kind
