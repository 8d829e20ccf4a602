"""What the firmware takes in flash, before any build: every constant exactly, the code by estimate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from boards import Isa
from firmware_gen.graph import Graph, Op
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.base import Prefer
from firmware_gen.schedule import Step, layers

GRID_BYTES = 8
TABLE_ROW_BYTES = {"ft_resize_t": 8, "ft_resize_i8_t": 8, "uint16_t": 2}
# Start-up code, port and link, then each step's kernel at its constant shapes: between the sizes that GCC 12
# gives for Cortex-M (a third smaller) and RV32.
CODE_BYTES = 8 * 1024
STEP_CODE_BYTES = 1024
# Of a layer on a cluster, with the tables of its tiles: 55 layers of a training step, compiled by clang for
# RV32 with Zfinx.
CLUSTER_STEP_CODE_BYTES = 1850


def constant_bytes(
    graph: Graph, steps: Sequence[Step], isa: Isa, prefer: Prefer, keeps_initial: bool = True
) -> int:
    """Return the bytes of weights, initial values, tables and the outputs' grids, as in the generated C.

    keeps_initial: what learns has its first values beside it.
    """
    collector = _Constants(graph, isa, prefer)
    for step in layers(steps):
        OPERATORS[step.op.kind].emit(step, collector)
    initial = sum(graph.learned(name).bytes for name in graph.trained) if keeps_initial else 0
    grids = GRID_BYTES * sum(not graph.tensors[name].range for name in graph.scaled_by_reader)
    arrays = sum(value.nbytes for value in collector.arrays.values())
    return initial + grids + arrays + sum(collector.tables.values())


def layer_arrays(
    graph: Graph, steps: Sequence[Step], isa: Isa, prefer: Prefer
) -> dict[int, Mapping[str, NDArray[Any]]]:
    """Return the arrays that each layer asks for, in its order, by the index of the layer's first step.

    Frozen weights, as the kernel reads them, and what is made of them, by `weight_key` or the name that
    `Emitter.array` is given: under one name where several layers ask for the same array. What learns is not
    among them, nor are small tables.
    """
    found: dict[int, Mapping[str, NDArray[Any]]] = {}
    for index, step in enumerate(steps):
        if step.band == 0:
            collector = _Constants(graph, isa, prefer)
            OPERATORS[step.op.kind].emit(step, collector)
            found[index] = collector.arrays
    return found


def code_estimate(steps: Sequence[Step], on_cluster: bool) -> int:
    """Return roughly what the code takes."""
    return CODE_BYTES + (CLUSTER_STEP_CODE_BYTES if on_cluster else STEP_CODE_BYTES) * len(layers(steps))


def weight_key(constant: str, dimensions: int, axes: tuple[int, ...] | None) -> str:
    """Return what tells a frozen weight, with its axes permuted to `axes`, apart from other arrays."""
    return f"{constant} {tuple(range(dimensions)) if axes is None else axes}"


class _Constants:
    """An `Emitter` that only notes which constants the operators ask for, and in which order of axes.

    `arrays` by a name that tells them apart, `tables` by name with their bytes.
    """

    def __init__(self, graph: Graph, isa: Isa, prefer: Prefer) -> None:
        self.isa = isa
        self.prefer = prefer
        self._graph = graph
        self.arrays: dict[str, NDArray[Any]] = {}
        self.tables: dict[str, int] = {}

    def rows(self, step: Step) -> str:
        return "0, 0"

    def channels(self, count: int, multiple: int) -> str:
        return f"0, {count}"

    def cores(self, parts: int = 0) -> str:
        return "FT_ALONE"

    def prepare(self, statements: str) -> str:
        return statements

    def pointer(self, tensor: str) -> str:
        return tensor

    def scratch(self, op: Op) -> str:
        return op.name

    def shared(self, op: Op) -> str:
        return op.name

    def map(self, tensor: str) -> str:
        return tensor

    def strides(self, tensor: str) -> tuple[int, int]:
        return 1, 1

    def aligned(self, tensor: str, bytes_: int) -> bool:
        return True

    def grid(self, tensor: str) -> str:
        return tensor

    def range(self, tensor: str) -> str:
        return tensor

    def range_rule(self, tensor: str) -> str:
        return tensor

    def inside(self, part: str, whole: str, channel: int = 0) -> bool:
        return True

    def weight(self, constant: str, axes: tuple[int, ...] | None = None) -> str:
        if not self.learns(constant):
            value = self._graph.constants[constant].value
            ordered = value if axes is None else value.transpose(axes)
            self.arrays[weight_key(constant, value.ndim, axes)] = ordered
        return constant

    def learns(self, constant: str) -> bool:
        return constant in self._graph.trained

    def array(self, name: str, values: NDArray[Any]) -> str:
        self.arrays[name] = values
        return name

    def table(self, name: str, c_type: str, rows: Sequence[str]) -> str:
        self.tables[name] = TABLE_ROW_BYTES[c_type] * len(rows)
        return name

    def sink(self, constant: str, step: Step) -> tuple[str, str]:
        return "", constant
