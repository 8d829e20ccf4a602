"""A C function for each layer: what operators print, and what they may ask for while they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_gen.band_table import BandTable
from firmware_gen.c_text import c_float, c_initializers, c_name
from firmware_gen.emit.memory import Memory, range_rule
from firmware_gen.emit.updates import Updates
from firmware_gen.graph import Op
from firmware_gen.operators import OPERATORS
from firmware_gen.schedule import Chain, Step
from firmware_gen.storage import Roll, element_bytes

CONSTANT_TYPES = {
    "float32": "float",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "uint16": "uint16_t",
}
# What the functions of a phase are passed; everything else is a constant or in the arena.
PARAMETERS = {"loss": ("float *losses", "losses"), "update": ("const ft_hyper_t *hyper", "hyper")}


class Layers:
    """The functions and constants of one model.c; the `Emitter` that operators see.

    `functions` holds those of the steps that have something to do, by their index in the plan, `constants`
    definitions by C name.
    """

    def __init__(self, memory: Memory) -> None:
        """Print the layers of the plan that `memory` was laid out for."""
        self._memory = memory
        self.isa = memory.plan.board.isa
        self.prefer = memory.plan.prefer
        self.updates = Updates(memory, self)
        self.constants: dict[str, str] = {}
        self.functions: dict[int, str] = {}
        for index, step in enumerate(memory.plan.steps):
            if step.band == 0:
                self._define_function(index, step)
        if memory.plan.keeps_initial:
            for constant in memory.graph.trained:
                self._define_array(f"initial_{memory.names(constant)}", memory.initial(constant))

    def name(self, index: int) -> str:
        """Return the name of a step's function."""
        step = self._memory.plan.steps[index]
        return f"s{index:03d}_{c_name(step.op.name)}_{step.op.kind}"

    def call(self, index: int) -> str:
        """Return the call that runs a step, "" when the plan has put its result in place."""
        if index not in self.functions:
            return ""
        return f"{self.name(index)}({self._parameter(self._memory.plan.steps[index])[1]})"

    # What operators ask for: see firmware_gen.operators.base.Emitter.

    def rows(self, step: Step) -> str:
        return f"{step.rows[0]}, {step.rows[1]}" if step.chain is None else "y0, y1"

    def channels(self, count: int, multiple: int) -> str:
        return f"0, {count}"

    def cores(self, parts: int = 0) -> str:
        return "FT_ALONE"

    def prepare(self, statements: str) -> str:
        return statements

    def pointer(self, tensor: str) -> str:
        return self._memory.pointer(tensor)

    def scratch(self, op: Op) -> str:
        shared = OPERATORS[op.kind].shared_bytes(op, self._memory.graph, self.isa)
        return f"({self.shared(op)} + {shared})" if shared else self.shared(op)

    def shared(self, op: Op) -> str:
        if op.stack:
            return "scratch"
        return self._memory.pointer(op.scratch[-1]) if op.scratch else "NULL"

    def map(self, tensor: str) -> str:
        view = self._memory.plan.views[tensor]
        height, width, depth = self._memory.graph.shape(tensor)
        numbers = (height, width, depth, view.row, view.pixel)
        return f"(ft_map_t){{{', '.join(map(str, numbers))}}}"

    def strides(self, tensor: str) -> tuple[int, int]:
        view = self._memory.plan.views[tensor]
        return view.row, view.pixel

    def aligned(self, tensor: str, bytes_: int) -> bool:
        view, described = self._memory.plan.views[tensor], self._memory.graph.tensors[tensor]
        return all(k * element_bytes(described) % bytes_ == 0 for k in (view.channel, view.pixel, view.row))

    def grid(self, tensor: str) -> str:
        described = self._memory.graph.tensors[tensor]
        if described.range:
            return f"{self._memory.range(tensor)}.grid"
        known = described.quantization
        assert known is not None
        return f"(ft_grid_t){{{c_float(known.scale)}, {known.zero_point}}}"

    def range(self, tensor: str) -> str:
        return f"&{self._memory.range(tensor)}"

    def range_rule(self, tensor: str) -> str:
        return range_rule(self._memory.graph.ranges[self._memory.graph.tensors[tensor].range])

    def inside(self, part: str, whole: str, channel: int = 0) -> bool:
        views = self._memory.plan.views
        at = (views[whole].buffer, views[whole].channel + channel)
        return (views[part].buffer, views[part].channel) == at

    def weight(self, constant: str, axes: tuple[int, ...] | None = None) -> str:
        if self.learns(constant):
            return self._memory.weight(constant)
        value = self._memory.graph.constants[constant].value
        name = f"w_{self._memory.names(constant)}"
        if axes is not None and axes != tuple(range(value.ndim)):
            value = value.transpose(axes)
            name = f"w{''.join(map(str, axes))}_{self._memory.names(constant)}"
        self._define_array(name, value)
        return name

    def learns(self, constant: str) -> bool:
        return constant in self._memory.graph.trained

    def array(self, name: str, values: NDArray[Any]) -> str:
        identifier = f"p_{self._memory.names(name)}"
        self._define_array(identifier, values, " __attribute__((aligned(8)))")
        return identifier

    def table(self, name: str, c_type: str, rows: Sequence[str]) -> str:
        identifier = f"t_{self._memory.names(name)}"
        body = "".join(f"    {row},\n" for row in rows)
        self.constants[identifier] = f"static const {c_type} {identifier}[{len(rows)}] = {{\n{body}}};\n"
        return identifier

    def sink(self, constant: str, step: Step) -> tuple[str, str]:
        return self.updates.sink(constant, step)

    # How a function comes about.

    def _define_function(self, index: int, step: Step) -> None:
        body = OPERATORS[step.op.kind].emit(step, self)
        if body and step.op.stack:
            body = f"int8_t scratch[{step.op.stack}] __attribute__((aligned(8)));\n{body}"
        if step.chain is not None:
            body = "\n".join(self._banded(step, step.chain, body))
        if body:
            head = f"{self.name(index)}({self._parameter(step)[0]})"
            indented = body.replace("\n", "\n    ")
            self.functions[index] = f"FT_STEP {head} {{\n    {indented}\n}}\n\n"

    def _banded(self, step: Step, chain: Chain, body: str) -> Iterator[str]:
        """Yield the statements of a step in a chain: rows that are still needed move, new ones are made."""
        table = self._memory.band_table(chain)
        at = table.position(step.op)
        yield from self._moves(step, chain)
        yield f"const int y0 = {table.begin(at)}, y1 = {table.end(at)};"
        yield "if (y0 == y1)\n    return;"
        yield body

    def _moves(self, step: Step, chain: Chain) -> Iterator[str]:
        """Yield the statements that move rows of rolling buffers which `step` is the first to write to."""
        table = self._memory.band_table(chain)
        for buffer, roll in table.rolls.items():
            if roll.writers[0] == table.position(step.op):
                yield from self._move(buffer, roll, table)

    def _move(self, buffer: str, roll: Roll, table: BandTable) -> Iterator[str]:
        first, before = table.first(buffer), table.first_before(buffer)
        row = roll.row * element_bytes(self._memory.graph.tensors[buffer])
        made = table.begin(roll.writers[0])
        for other in roll.writers[1:]:
            made = f"FT_LARGER({made}, {table.begin(other)})"
        start = f"at({self._memory.plan.offsets[buffer]})"
        yield f"if ({first} != {before})"
        yield f"    memmove({start}, {start} + ({first} - {before}) * {row},"
        yield f"        (size_t)({made} - {first}) * {row});"

    def _parameter(self, step: Step) -> tuple[str, str]:
        """Return declaration and argument of the step's function."""
        if step.chain is not None:
            return f"const {self._memory.band_table(step.chain).c_type} *band", "band"
        if step.op.phase == "update" and self.updates.late:
            return "void", ""  # gradients are only collected; apply() needs the hyper-parameters
        return PARAMETERS.get(step.op.phase, ("void", ""))

    def _define_array(self, name: str, value: np.ndarray, attribute: str = "") -> None:
        if name not in self.constants:
            body = "".join(c_initializers(value))
            c_type = CONSTANT_TYPES[value.dtype.name]
            self.constants[name] = f"static const {c_type} {name}[{value.size}]{attribute} = {{\n{body}}};\n"
