"""The same inputs through the firmware and through the model's own runtime, tensor by tensor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import progress
from firmware_gen.graph import Graph, Quantization, Tensor
from firmware_gen.plan import Plan
from firmware_gen.project import Network
from firmware_gen.schedule import layers as plan_layers
from firmware_gen.storage import element_bytes
from ondevice.device import Device
from ondevice.references import Reference, Values
from zoo.task import InputSpec

Array = NDArray[Any]
Sample = Mapping[str, Array]

FLOAT_TOLERANCE = 1e-4
"""How far float values may be apart, as a share of the largest value of the tensor."""

_SMALLEST_TOLERANCE = 1e-6  # of a float tensor, where all of it is next to nothing
_DTYPES = {"f32": "<f4", "u8": "u1", "i8": "i1", "i32": "<i4"}


@dataclass(frozen=True)
class Difference:
    """How a tensor on the board differs from the reference: in steps if it holds integers, else absolute.

    `index` (row, column, channel) is where it differs most, `expected` and `got` stand there.
    """

    integers: bool
    max_abs_diff: float
    mismatches: int  # values further apart than allowed
    index: tuple[int, ...]
    expected: float
    got: float


@dataclass(frozen=True)
class Layer:
    """What one operator of the firmware made of the same values as the reference."""

    name: str
    op: str
    difference: Difference


@dataclass(frozen=True)
class Verification:
    """What came out.

    Attributes:
        inputs: how many samples went through both.
        outputs: the differences in every output for every sample.
        worst: index of the sample whose outputs differ most; the layers are of this one.
        layers: every operator whose result stands in the model file, in their order.
        rounds: the reference computes integers in float, so that differences add up between layers.
        banded: how many operators run in bands and are not compared: what they read never exists whole.
    """

    reference: str
    board: str
    inputs: int
    outputs: tuple[Difference, ...]
    worst: int
    layers: tuple[Layer, ...]
    rounds: bool
    banded: int

    @property
    def worst_output(self) -> Difference:
        """The largest difference in any output."""
        return max(self.outputs, key=lambda output: output.max_abs_diff)

    @property
    def mismatches(self) -> int:
        """How many values of the outputs are further apart than a layer may be."""
        return sum(output.mismatches for output in self.outputs)

    @property
    def first_difference(self) -> Layer | None:
        """The first layer that is further off than it may be."""
        return next((layer for layer in self.layers if layer.difference.mismatches), None)

    @property
    def equal(self) -> bool:
        """Whether the firmware computes what the model file says."""
        return self.first_difference is None and (self.rounds or not self.mismatches)

    def describe(self) -> dict[str, Any]:
        """Return what ``verify --json`` prints; the keys are stable."""
        first = self.first_difference
        return {
            "reference": self.reference,
            "board": self.board,
            "inputs": self.inputs,
            "equal": self.equal,
            "max_abs_diff": self.worst_output.max_abs_diff,
            "mismatches": self.mismatches,
            "first_difference": None if first is None else {**_described(first), "input": self.worst},
            "layers": [_described(layer) for layer in self.layers],
            "banded": self.banded,
        }


def _described(layer: Layer) -> dict[str, Any]:
    found = layer.difference
    return {
        "name": layer.name,
        "op": layer.op,
        "max_abs_diff": found.max_abs_diff,
        "mismatches": found.mismatches,
        "index": list(found.index),
        "expected": found.expected,
        "got": found.got,
    }


def verify(
    network: Network, plan: Plan, device: Device, reference: Reference, samples: Sequence[Sample]
) -> Verification:
    """Compare the outputs for all samples, and every layer for the sample whose outputs differ most.

    Args:
        network: what the model file says.
        plan: of the network's inference.
        device: a board with this plan's firmware.
        reference: computes :func:`sourced_tensors` of the network.
        samples: at least one, as :meth:`Device.put_sample` takes them.
    """
    outputs = []
    for sample in progress(samples, "inferences", len(samples)):
        got = device.infer(sample)
        expected = reference.run(file_inputs(network, reference, sample))
        outputs.append([_output(network.graph, name, expected, got[name], reference) for name in got])
    worst = max(range(len(samples)), key=lambda k: max(d.max_abs_diff for d in outputs[k]))
    inputs = file_inputs(network, reference, samples[worst])
    layers = tuple(_layers(plan, walk(device, plan, samples[worst]), inputs, reference))
    return Verification(
        reference.name,
        plan.board.id,
        len(samples),
        tuple(difference for found in outputs for difference in found),
        worst,
        layers,
        rounds=reference.steps > 0 and any(layer.difference.integers for layer in layers),
        banded=sum(step.chain is not None for step in plan_layers(plan.steps)),
    )


def sourced_tensors(graph: Graph) -> list[Tensor]:
    """Return the inputs and results of the forward operators that stand in the model file."""
    names = [*graph.inputs, *(name for op in graph.ops if op.phase == "forward" for name in op.outputs)]
    return [graph.tensors[name] for name in names if graph.tensors[name].source]


def walk(device: Device, plan: Plan, sample: Sample) -> dict[str, Array]:
    """Run one inference step by step; return each tensor that has a source as its step left it.

    Of a chain of layers, which runs in bands, those that exist whole when it has run.
    """
    device.put_sample(sample)
    graph = plan.graph
    found = {name: array for name, array in sample.items() if graph.tensors[name].source}
    forward = [step for step in plan.steps if step.op.phase == "forward"]
    pieces = [list(piece) for _, piece in itertools.groupby(forward, lambda step: id(step.chain or step))]
    done = 0
    for piece in progress(pieces, "layers", len(pieces)):
        device.run_inference(done, done + len(piece))
        done += len(piece)
        chain = piece[0].chain
        made = dict.fromkeys(name for step in piece for name in step.op.outputs)
        for name in made:
            if (chain is None or name not in chain.rolling) and graph.tensors[name].source:
                found[name] = _read(device, plan, graph.tensors[name])
    return found


def file_inputs(network: Network, reference: Reference, sample: Sample) -> dict[str, Array]:
    """Return the inputs of the model file for a sample of the board; images are scaled as the task says."""
    found = {}
    for name, source in zip(network.graph.inputs, reference.inputs, strict=True):
        found[source] = sample[name]
        if network.task is not None:
            (spec,) = (spec for spec in network.task.inputs if spec.name == name)
            found[source] = _scaled(sample[name], spec)
            if source in reference.tensors and reference.tensors[source].dtype == "i8":
                found[source] = _quantized(found[source], reference.tensors[source].quantization)
    return found


def _scaled(pixels: Array, spec: InputSpec) -> Array:
    scale, bias = np.float64(np.float32(spec.scale)), np.float64(np.float32(spec.bias))
    return (pixels * scale + bias).astype(np.float32)


def _quantized(values: Array, quantization: Quantization | None) -> Array:
    """Return int8, rounded as TFLite does: halves away from zero."""
    assert quantization is not None
    steps = (values / np.float32(quantization.scale)).astype(np.float64)
    rounded = np.trunc(steps + np.copysign(0.5, steps)) + quantization.zero_point
    return rounded.clip(-128, 127).astype(np.int8)


def _read(device: Device, plan: Plan, tensor: Tensor) -> Array:
    """Return a tensor that the step just run has made, of its own shape."""
    view, size = plan.views[tensor.name], element_bytes(tensor)
    height, width, channels = tensor.shape
    count = (height - 1) * view.row + (width - 1) * view.pixel + channels
    data = device.read_arena(plan.offsets[view.buffer] + view.channel * size, count * size)
    flat = np.frombuffer(data, _DTYPES[tensor.dtype])
    strides = (view.row * size, view.pixel * size, size)
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides).copy()


def _output(graph: Graph, name: str, expected: Values, got: Array, reference: Reference) -> Difference:
    """Compare an output; one that was dequantized at the end is compared in the steps that it had."""
    tensor, maker = graph.tensors[name], graph.producer(name)
    if maker is not None and maker.kind == "dequantize":
        integers = graph.tensors[maker.inputs[0]]
        if integers.source in expected and integers.dtype == "i8":
            tensor, got = integers, _quantized(got, integers.quantization)
    return compare(expected[tensor.source], got, reference.steps)


def _layers(plan: Plan, board: Sample, inputs: Values, reference: Reference) -> Iterator[Layer]:
    graph = plan.graph
    expected = reference.layers(inputs, {graph.tensors[name].source: array for name, array in board.items()})
    for step in plan.steps:
        op = step.op
        for name in () if step.chain else op.outputs:
            source = graph.tensors[name].source
            if name in board and source in expected:
                yield Layer(op.name, op.kind, compare(expected[source], board[name], reference.steps))


def compare(expected: Array, got: Array, steps: int) -> Difference:
    """Compare two arrays of one shape (rows, columns, channels).

    Integers may be `steps` apart, floats a share of the largest expected value (:data:`FLOAT_TOLERANCE`).
    Where only one of two values is a number, they are as far apart as float32 goes.
    """
    a, b = expected.astype(np.float64), got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    apart = np.nan_to_num(apart, nan=np.inf, posinf=np.inf).clip(max=np.finfo(np.float32).max)
    index = np.unravel_index(int(apart.argmax()), apart.shape)
    integers = got.dtype.kind != "f"
    allowed = float(steps)
    if not integers:
        largest = float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
        allowed = max(FLOAT_TOLERANCE * largest, _SMALLEST_TOLERANCE)
    return Difference(
        integers,
        float(apart[index]),
        int((apart > allowed).sum()),
        tuple(map(int, index)),
        _finite(a[index]),
        _finite(b[index]),
    )


def _finite(value: np.float64) -> float:
    """JSON knows neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else math.copysign(float(np.finfo(np.float32).max), value)
