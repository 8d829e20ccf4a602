"""What a float network would take on a board in int8, or partly so, from the planner, without calibration.

What scales are does not matter to RAM and instructions, and to flash only where a kernel proves a short
rounding exact; so any will do that are equal and different where calibration would have them so.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boards import Board
from firmware_gen.graph import Array, Graph, Quantization, Shape
from firmware_gen.limits import allowed_ram
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.plan import Plan, find_plan
from firmware_gen.project import Network, load_network, plan_network
from firmware_gen.update import UpdatePlan, parse_update
from firmware_gen.window import Activation
from quantize.onnx_writer import quantized_model
from quantize.parameters import QuantizedGraph, covering, input_types
from quantize.scheme import Scheme, division
from zoo.task import Task

ENDLESS = 1 << 40  # bytes
METRICS = ("ram", "flash", "instructions")
"""What goals can be set for, in the order in which they are told."""

BANDED = ("ram", "memory")
"""What bands of rows may lessen."""

_INFERENCE = parse_update(None)
_Key = tuple[tuple[Shape, ...], frozenset[str]]


@dataclass(frozen=True)
class Costs:
    """What a network takes on a board.

    Args:
        ram: bytes of static RAM of the firmware that infers.
        flash: bytes: constants, and the code by estimate.
        instructions: of an inference, by estimate.
        backward_ram: bytes of static RAM of the firmware that also learns; None where nothing does.
        memory: bytes of RAM, stack and flash together, of the firmware that has more of them; None where the
            board has a memory for each.
    """

    ram: int
    flash: int
    instructions: float
    backward_ram: int | None = None
    memory: int | None = None

    def of(self, metric: str) -> float:
        """Return what counts for a goal: of RAM, that of the firmware that learns if there is one."""
        if metric == "ram" and self.backward_ram is not None:
            return self.backward_ram
        found: float = getattr(self, metric)
        return found


class CostModel:
    """Asks the planner, once for each set of shapes and of layers in float."""

    def __init__(self, task: Task, board: Board, update: UpdatePlan, ram_limit: int | None = None) -> None:
        """Use `update` for the firmware that learns, if it names layers.

        Args:
            task: of the networks that will be asked for.
            board: where they would run.
            update: what would learn there.
            ram_limit: bytes of static RAM that the firmware may take, where that is less than the board has.
        """
        self._task, self._update = task, update
        self._given, self._limit = board, ram_limit
        regions = tuple(dataclasses.replace(region, bytes=ENDLESS) for region in board.regions)
        self._board = dataclasses.replace(board, regions=regions)
        self._whole: dict[_Key, Costs] = {}
        self._planned: dict[_Key, Costs] = {}

    def whole(self, graph: Graph, float_layers: Collection[str] = ()) -> Costs:
        """Return what `graph`, simplified and in float, would take in int8 with all layers made whole.

        It takes a fraction of a second, where `planned` may take many.

        Args:
            graph: of the network.
            float_layers: those that would stay in float.

        Raises:
            UserError: the update plan names nothing.
            ModelError: an operator cannot be quantized.
        """
        key = _key(graph, float_layers)
        if key not in self._whole:
            self._whole[key] = _costs(*self._plans(int8_network(graph, self._task, float_layers)))
        return self._whole[key]

    def planned(self, graph: Graph, float_layers: Collection[str] = ()) -> Costs:
        """Return what the planner comes to within the limit, or the least RAM that it finds: see `whole`."""
        key, costs = _key(graph, float_layers), self.whole(graph, float_layers)
        if key not in self._planned:
            if self._is_beyond(costs):
                costs = self._narrowed(*self._plans(int8_network(graph, self._task, float_layers)))
            self._planned[key] = costs
        return self._planned[key]

    def of_file(self, model: bytes) -> Costs:
        """Return what a quantized file takes, as `planned` does of one that is not calibrated yet."""
        plans = self._plans(_read(model))
        costs = _costs(*plans)
        return self._narrowed(*plans) if self._is_beyond(costs) else costs

    def _is_beyond(self, costs: Costs) -> bool:
        """Tell whether a firmware needs bands of rows."""
        ram, memory = max(costs.ram, costs.backward_ram or 0), costs.memory or 0
        return ram > allowed_ram(self._given, self._limit) or memory > self._given.main_ram.bytes

    def _narrowed(self, inference: Plan, training: Plan | None) -> Costs:
        costs = _costs(inference, training)
        banded = _costs(self._fitted(inference), None if training is None else self._fitted(training))
        return dataclasses.replace(
            costs, ram=banded.ram, backward_ram=banded.backward_ram, memory=banded.memory
        )

    def _plans(self, network: Network) -> tuple[Plan, Plan | None]:
        inference = plan_network(network, self._board, _INFERENCE)
        return inference, plan_network(network, self._board, self._update) if self._update.patterns else None

    def _fitted(self, plan: Plan) -> Plan:
        limit = allowed_ram(self._given, self._limit, sum(plan.flash.values()))
        return plan if plan.ram_bytes <= limit else find_plan(plan.graph, self._board, limit)


def _key(graph: Graph, float_layers: Collection[str]) -> _Key:
    return tuple(graph.shape(op.outputs[0]) for op in graph.ops), frozenset(float_layers)


def _costs(inference: Plan, training: Plan | None) -> Costs:
    backward = None if training is None else training.ram_bytes
    memory = None
    if inference.board.unified:
        memory = max(plan.sum_bytes for plan in (inference, training) if plan is not None)
    flash = sum(inference.flash.values())
    return Costs(inference.ram_bytes, flash, inference.instructions, backward, memory)


def int8_network(graph: Graph, task: Task, float_layers: Collection[str] = ()) -> Network:
    """Return `graph` as it would be read from a quantized file with other scales."""
    scheme = division(graph, float_layers)
    convolutions = (op for op in scheme.graph.ops if op.kind == "conv2d" and scheme.is_int8(op))
    scales = {op.constants[0]: _alike(scheme.graph.constants[op.constants[0]].value) for op in convolutions}
    return _read(quantized_model(QuantizedGraph(scheme.graph, _ranges(scheme, task), scales), task))


def _read(model: bytes) -> Network:
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(model)
        return load_network(path)


def _alike(weight: Array) -> Array:
    """Return a scale for each output channel."""
    return np.full(weight.shape[3], 2.0**-7, np.float32)


def _ranges(scheme: Scheme, task: Task) -> dict[str, Quantization]:
    """Return quantizations that differ where calibration would make them differ, and clamp where it would."""
    found = input_types(task)
    groups = scheme.groups()
    for index, name in enumerate(scheme.tensors):
        if name not in found:
            group = next((group for group in groups if name in group), {name})
            low = min(_lowest(scheme.graph, other) for other in group)
            found |= dict.fromkeys(group, covering(low, 1 + index / 256))
    return {name: found[name] for name in scheme.tensors}


def _lowest(graph: Graph, tensor: str) -> float:
    """Return 0 for what an activation keeps from being negative, else -1."""
    producer = graph.producer(tensor)
    attrs = None if producer is None else producer.attrs
    activation = attrs.activation if isinstance(attrs, ConvAttrs) else attrs
    if not isinstance(activation, Activation):
        return -1.0
    return 0.0 if activation.kind == "relu" or (activation.kind == "clip" and activation.a >= 0) else -1.0
