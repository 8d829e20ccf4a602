"""The smallest arena there is, for small problems: what the planner's heuristics are measured by.

OR-Tools' CP-SAT proves what it finds, as far as it comes (`pip install 'fieldtune[planner]'`). No plan
depends on it: plans are the same with and without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ortools.sat.python import cp_model

from firmware_gen.arena import Buffer, extent, peak_bytes, place
from firmware_gen.graph import Graph
from firmware_gen.order import members, predecessors, shared_buffers
from firmware_gen.schedule import whole_layers
from firmware_gen.storage import ALIGNMENT, choose_storage

EFFORT = 30.0  # CP-SAT's deterministic seconds: the same result on every machine
MOST_STEPS = 1 << 16  # of a schedule


@dataclass(frozen=True)
class Exact:
    """An arena: no smaller one exists if `proven`, else none below `bound` bytes."""

    bytes: int
    bound: int
    offsets: Mapping[str, int]
    order: tuple[int, ...] = ()  # of the graph's operators, where it was free

    @property
    def proven(self) -> bool:
        """Whether it is the smallest."""
        return self.bytes == self.bound


def exact_placement(buffers: Sequence[Buffer], effort: float = EFFORT) -> Exact:
    """Return the smallest arena for buffers with these lifetimes."""
    hint = place(buffers)
    model = _Model(extent(buffers, hint))
    for buffer in buffers:
        first, end = (model.cp.new_constant(at) for at in (buffer.first, buffer.last + 1))
        model.add(buffer.name, buffer.bytes, first, end)
        model.cp.add_hint(model.tops[buffer.name], hint[buffer.name] // ALIGNMENT)
    model.cp.add(model.height >= peak_bytes(buffers) // ALIGNMENT)
    return model.solved(effort)


def exact_order(graph: Graph, effort: float = EFFORT) -> Exact:
    """Return the smallest arena over all orders of operators, each layer whole.

    Which tensors share storage is that of the graph's own order.
    """
    storage = choose_storage(whole_layers(graph))
    model = _Model(extent(storage.buffers, place(storage.buffers)))
    count = len(graph.ops)
    at = [model.cp.new_int_var(0, count - 1, f"at{op}") for op in range(count)]
    model.cp.add_all_different(at)
    for op, before in enumerate(predecessors(graph, storage)):
        for other in members(before):
            model.cp.add(at[other] < at[op])
    for buffer in shared_buffers(graph, storage):
        first, end = (model.cp.new_int_var(-1, count, f"{side}.{buffer.name}") for side in ("first", "end"))
        if buffer.writers:
            model.cp.add_min_equality(first, [at[op] for op in members(buffer.writers)])
        else:
            model.cp.add(first == -1)
        model.cp.add_max_equality(end, [at[op] + 1 for op in members(buffer.users)])
        model.add(buffer.name, buffer.bytes, first, end)
    return model.solved(effort, at)


class _Model:
    """Rectangles of steps and bytes that do not overlap, in as few bytes as possible."""

    def __init__(self, enough: int) -> None:
        self.cp = cp_model.CpModel()
        self._enough = enough // ALIGNMENT
        self.height = self.cp.new_int_var(0, self._enough, "height")
        self.tops: dict[str, cp_model.IntVar] = {}
        self._steps: list[cp_model.IntervalVar] = []
        self._bytes: list[cp_model.IntervalVar] = []

    def add(self, name: str, size: int, first: cp_model.IntVar, end: cp_model.IntVar) -> None:
        units = size // ALIGNMENT
        start = self.cp.new_int_var(0, self._enough - units, name)
        self.cp.add(start + units <= self.height)
        self.tops[name] = start
        steps = self.cp.new_int_var(1, MOST_STEPS, f"count.{name}")
        self._steps.append(self.cp.new_interval_var(first, steps, end, f"steps.{name}"))
        self._bytes.append(self.cp.new_fixed_size_interval_var(start, units, f"bytes.{name}"))

    def solved(self, effort: float, at: Sequence[cp_model.IntVar] = ()) -> Exact:
        self.cp.add_no_overlap_2d(self._steps, self._bytes)
        self.cp.minimize(self.height)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 0
        solver.parameters.max_deterministic_time = effort
        solver.solve(self.cp)
        order = sorted(range(len(at)), key=lambda op: solver.value(at[op]))
        return Exact(
            round(solver.objective_value) * ALIGNMENT,
            round(solver.best_objective_bound) * ALIGNMENT,
            {name: solver.value(top) * ALIGNMENT for name, top in self.tops.items()},
            tuple(order),
        )
