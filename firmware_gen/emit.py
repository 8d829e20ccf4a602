"""The generated C: deterministic, readable, shapes as literals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from boards import Isa
from firmware_gen.band_table import BandTable, band_tables
from firmware_gen.bf16 import to_bf16
from firmware_gen.c_text import Names, c_float, c_initializers, c_name, c_string
from firmware_gen.graph import DType, Op, Range, Tensor, gradient_name
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.learning_i8 import learning_weight
from firmware_gen.plan import GUARD_BYTES, Plan, keeps_gradients, static_bytes, updates_late
from firmware_gen.schedule import Chain, Step
from firmware_gen.storage import Roll, element_bytes
from firmware_gen.update import CORRECTIONS, GENERATOR

KERNELS = (
    "conv2d",
    "conv2d_i8",
    "conv2d_i8_f32",
    "elementwise",
    "elementwise_i8",
    "layout",
    "learning_i8",
    "lookup",
    "loss",
    "moving",
    "moving_i16",
    "moving_sums",
    "pool",
    "pool_i8",
    "quantize",
    "resize",
    "resize_i8",
    "softmax",
    "softmax_i8",
    "update",
)
# Kernels that only boards with these instructions get.
ISA_KERNELS: dict[Isa, tuple[str, ...]] = {
    "c": (),
    "dsp": (
        "dsp/conv2d_i16",
        "dsp/conv2d_i8",
        "dsp/depthwise_i8",
        "dsp/elementwise_i8",
        "dsp/grad_w_i8",
        "dsp/pack_i8",
        "dsp/pool_i8",
    ),
    "mve": (
        "mve/conv2d_i8",
        "mve/depthwise_i8",
        "mve/elementwise_i8",
        "mve/grad_w_i8",
        "mve/lookup",
        "mve/pack_i8",
        "mve/pool_i8",
    ),
}
C_TYPES = {
    "f32": "float",
    "u8": "uint8_t",
    "i8": "int8_t",
    "i32": "int32_t",
    "bits": "uint8_t",
    "bf16": "uint16_t",
    "i16": "int16_t",
}
CONSTANT_TYPES = {
    "float32": "float",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "uint16": "uint16_t",
}
# GCC (12 at least) may compute a tensor's address from that of another one in the same array, and then
# believe that nothing is stored: calls of whole steps vanished. So it must not see that all lie in one array.
AT = """/* Where the tensor at this offset of the arena lies. Opaque: see AT in the generator. */
static inline __attribute__((always_inline)) uint8_t *at(uint32_t offset) {
    uint8_t *pointer = arena.data + offset;
    __asm__("" : "+r"(pointer));
    return pointer;
}
"""
# What the C names of state begin with, by kind.
STATE_PREFIXES = {"gradient": "g", "velocity": "v", "moment1": "m1", "moment2": "m2"}
# What the functions of a phase are passed; everything else is a constant or in the arena.
PARAMETERS = {"loss": ("float *losses", "losses"), "update": ("const ft_hyper_t *hyper", "hyper")}


PartPhase = Literal["forward", "backward", "update"]


@dataclass(frozen=True)
class Part:
    """A piece of a training step: a step of the plan, or what gradients and optimizer need besides."""

    name: str
    step: int | None  # index in `Plan.steps`


def step_parts(plan: Plan) -> tuple[Part, ...]:
    """Return what ``step`` in the firmware counts from `first` to `end`; () when nothing learns."""
    if not plan.graph.trained:
        return ()
    parts = [Part(step.op.name, index) for index, step in enumerate(plan.steps)]
    # Before all that is not inference: that the loss comes first is not promised by the order.
    first = next(index for index, step in enumerate(plan.steps) if step.op.phase != "forward")
    while (
        first
        and plan.steps[first].chain is not None
        and plan.steps[first - 1].chain == plan.steps[first].chain
    ):
        first -= 1  # the bands of a chain stay together
    if keeps_gradients(plan.graph):
        parts.insert(first, Part("clear", None))
    if updates_late(plan.graph):
        parts.append(Part("apply", None))
    elif CORRECTIONS in plan.graph.state:
        parts.insert(first, Part("advance", None))
    if plan.graph.ranges:
        parts.append(Part("move_ranges", None))
    return tuple(parts)


def part_phase(plan: Plan, part: Part) -> PartPhase:
    """Return the phase that a part counts to, where work is measured."""
    if part.step is None:
        return "update"
    phase = plan.steps[part.step].op.phase
    return "backward" if phase == "loss" else phase


def model_c(plan: Plan, symbol: str = "ft_model", *, marks: bool = False) -> str:
    """Return ``model.c``: `symbol` is the only name that the file defines outside itself.

    With `marks` it tells the board's port which phase runs (``ft_port_mark``).
    """
    return "".join(_Model(plan, symbol, marks).text())


class _Model:
    """One model.c in the making; the `Emitter` that operators see."""

    def __init__(self, plan: Plan, symbol: str, marks: bool) -> None:
        self._plan = plan
        self._marks = marks
        self.isa = plan.board.isa
        self.prefer = plan.prefer
        self._graph = plan.graph
        self._symbol = symbol
        self._names = Names()
        self._constants: dict[str, str] = {}  # C name -> definition
        self._kept = keeps_gradients(plan.graph)  # over steps
        self._late = updates_late(plan.graph)
        self._functions: dict[int, str] = {}  # of the steps that have something to do
        self._bands = band_tables(plan.steps, plan.rolls)

    # What operators ask for: see firmware_gen.operators.base.Emitter.

    def rows(self, step: Step) -> str:
        return f"{step.rows[0]}, {step.rows[1]}" if step.chain is None else "y0, y1"

    def pointer(self, tensor: str) -> str:
        view = self._plan.views[tensor]
        described = self._graph.tensors[tensor]
        offset = self._plan.offsets[view.buffer] + view.channel * element_bytes(described)
        pointer = f"({C_TYPES[described.dtype]} *)at({offset})"
        roll = self._plan.rolls.get(view.buffer)
        if roll is None:
            return pointer
        return f"({pointer} - {self._table(roll.chain).first(view.buffer)} * {view.row})"

    def scratch(self, op: Op) -> str:
        if op.stack:
            return "scratch"
        return self.pointer(op.scratch[-1]) if op.scratch else "NULL"

    def map(self, tensor: str, channels: int | None = None) -> str:
        view = self._plan.views[tensor]
        height, width, depth = self._graph.shape(tensor)
        numbers = (height, width, depth if channels is None else channels, view.row, view.pixel)
        return f"(ft_map_t){{{', '.join(map(str, numbers))}}}"

    def strides(self, tensor: str) -> tuple[int, int]:
        view = self._plan.views[tensor]
        return view.row, view.pixel

    def grid(self, tensor: str) -> str:
        described = self._graph.tensors[tensor]
        if described.range:
            return f"ranges[{self._range_index(tensor)}].grid"
        known = described.quantization
        assert known is not None
        return f"(ft_grid_t){{{c_float(known.scale)}, {known.zero_point}}}"

    def range(self, tensor: str) -> str:
        return f"&ranges[{self._range_index(tensor)}]"

    def range_rule(self, tensor: str) -> str:
        return _range_rule(self._graph.ranges[self._graph.tensors[tensor].range])

    def _range_index(self, tensor: str) -> int:
        return list(self._graph.ranges).index(self._graph.tensors[tensor].range)

    def inside(self, part: str, whole: str, channel: int = 0) -> bool:
        views = self._plan.views
        at = (views[whole].buffer, views[whole].channel + channel)
        return (views[part].buffer, views[part].channel) == at

    def weight(self, constant: str, axes: tuple[int, ...] | None = None) -> str:
        if self.learns(constant):
            return self._ram_name(constant)
        value = self._graph.constants[constant].value
        name = f"w_{self._names(constant)}"
        if axes is not None and axes != tuple(range(value.ndim)):
            value = value.transpose(axes)
            name = f"w{''.join(map(str, axes))}_{self._names(constant)}"
        self._define_array(name, value)
        return name

    def learns(self, constant: str) -> bool:
        return constant in self._graph.trained

    def array(self, name: str, values: NDArray[Any]) -> str:
        identifier = f"p_{self._names(name)}"
        self._define_array(identifier, values, " __attribute__((aligned(8)))")
        return identifier

    def table(self, name: str, c_type: str, rows: Sequence[str]) -> str:
        identifier = f"t_{self._names(name)}"
        body = "".join(f"    {row},\n" for row in rows)
        self._constants[identifier] = f"static const {c_type} {identifier}[{len(rows)}] = {{\n{body}}};\n"
        return identifier

    def sink(self, constant: str, step: Step) -> tuple[str, str]:
        if not self._late:
            return self._update(constant)
        if self._kept:
            return "", f"(ft_sink_t){{.g = {self._state_name(gradient_name(constant))}}}"
        (total,) = step.op.outputs
        g = self.pointer(total)
        first = "" if step.chain is None else "if (y0 == 0)\n    "
        zeros = f"{first}memset({g}, 0, {self._graph.tensors[total].bytes});\n"
        return zeros, f"(ft_sink_t){{.g = {g}}}"

    # The file, part by part.

    def text(self) -> Iterator[str]:
        for index, step in enumerate(self._plan.steps):
            if step.band == 0:
                self._define_function(index, step)
        for constant in self._graph.trained:
            self._define_array(f"initial_{self._names(constant)}", self._initial(constant))
        board = self._plan.board.id
        yield f"/* {c_name(self._graph.name)}: generated by Fieldtune for {board}; do not edit. */\n"
        yield '#include "model_api.h"\n#include <string.h>\n'
        if self._marks:
            yield '#include "link/port.h"\n'
        if self._plan.field is not None:
            yield '#include "field/field.h"\n'
        kernels = (*KERNELS, *ISA_KERNELS[self.isa])
        yield from (f'#include "kernels/{kernel}.h"\n' for kernel in kernels)
        yield "\n/* Each layer is a function of its own: its shapes stay constants, it can be measured. */\n"
        yield "#define FT_STEP static __attribute__((noinline)) void\n\n"
        if self._bands:
            yield "#define FT_LARGER(a, b) ((a) > (b) ? (a) : (b))\n\n"
        yield from self._memory()
        yield from self._constants.values()
        for table in self._bands:
            rows = "".join(f"    {{{', '.join(map(str, row))}}},\n" for row in table.rows)
            yield f"static const {table.c_type} {table.name}[][{table.columns}] = {{\n{rows}}};\n"
        yield "\n"
        yield from self._functions.values()
        yield from self._entry_points()
        yield from self._tensor_table()
        yield from self._field()
        yield from self._descriptor()

    def _initial(self, constant: str) -> NDArray[Any]:
        value = self._graph.constants[constant].value
        return to_bf16(value) if self._graph.learned(constant).dtype == "bf16" else value

    def _ram_name(self, constant: str) -> str:
        return f"w_{self._names(constant)}"

    def _state_name(self, name: str) -> str:
        kind, _, constant = name.partition(".")
        return f"{STATE_PREFIXES[kind]}_{self._names(constant)}" if constant else kind

    def _update(self, constant: str) -> tuple[str, str]:
        """Return the declaration that the ft_sink_t which applies gradients needs, if any, and that."""
        optimizer, w = self._graph.optimizer, self._weights(constant)
        if optimizer == "sgd":
            velocity = self._reals(f"velocity.{constant}")
            return "", f"(ft_sink_t){{.sgd = ft_sgd(hyper, {w}, {velocity})}}"
        first, second = self._reals(f"moment1.{constant}"), self._state_name(f"moment2.{constant}")
        adam = f"ft_adam(hyper, FT_{optimizer.upper()}, {w},\n        {first}, {second}, {CORRECTIONS})"
        return f"const ft_adam_t adam = {adam};\n", "(ft_sink_t){.adam = &adam}"

    def _gradient(self, constant: str) -> tuple[str, DType]:
        """Return C pointer and type of a gradient, which waits for all others or for further samples."""
        name = gradient_name(constant)
        if self._kept:
            return self._state_name(name), "f32"
        return self.pointer(name), self._graph.tensors[name].dtype

    def _weights(self, constant: str) -> str:
        """Return the ft_weights_t of a constant that learns."""
        dtype, array = self._graph.learned(constant).dtype, self._ram_name(constant)
        if dtype == "f32":
            return f"(ft_weights_t){{.f32 = {array}}}"
        drawn = f"1, ft_next_key({GENERATOR})" if GENERATOR in self._graph.state else "0, 0"
        if dtype == "bf16":
            return f"(ft_weights_t){{.bf16 = {{{array}, {drawn}}}}}"
        known = learning_weight(constant, self._graph, self)
        return f"(ft_weights_t){{.steps = {{{known}, {drawn}}}}}"

    def _reals(self, name: str) -> str:
        """Return the ft_reals_t of a state, without any array when the plan keeps none."""
        state = self._graph.state.get(name)
        if state is None:
            return "(ft_reals_t){NULL, NULL}"
        array = self._state_name(name)
        return f"(ft_reals_t){{{f'NULL, {array}' if state.dtype == 'bf16' else f'{array}, NULL'}}}"

    def _define_array(self, name: str, value: np.ndarray, attribute: str = "") -> None:
        if name not in self._constants:
            body = "".join(c_initializers(value))
            c_type = CONSTANT_TYPES[value.dtype.name]
            self._constants[name] = f"static const {c_type} {name}[{value.size}]{attribute} = {{\n{body}}};\n"

    def _memory(self) -> Iterator[str]:
        size = self._plan.arena_bytes
        guards = GUARD_BYTES // 4
        yield "static struct {\n"
        yield f"    uint32_t low[{guards}];\n"
        yield f"    uint8_t data[{size}];\n"
        yield f"    uint32_t high[{guards}];\n"
        yield "} arena __attribute__((aligned(16)));\n"
        yield AT
        for name in self._graph.trained:
            yield _array_in_ram(self._ram_name(name), self._graph.learned(name))
        for name, tensor in self._graph.state.items():
            yield _array_in_ram(self._state_name(name), tensor)
        if self._kept:
            yield "static int32_t accumulated;\n"
        if self._plan.field is not None:
            yield from self._plan.field.arrays(self._graph)
        if self._graph.ranges:
            count = len(self._graph.ranges)
            yield f"static ft_moving_range_t ranges[{count}];\n"
            yield f"static const ft_moving_rule_t range_rules[{count}] = {{\n"
            yield from (f"    {_range_rule(moving)},\n" for moving in self._graph.ranges.values())
            yield "};\n"

    def _define_function(self, index: int, step: Step) -> None:
        body = OPERATORS[step.op.kind].emit(step, self)
        if body and step.op.stack:
            body = f"int8_t scratch[{step.op.stack}] __attribute__((aligned(8)));\n{body}"
        if step.chain is not None:
            body = "\n".join(self._banded(step, step.chain, body))
        if body:
            head = f"{_step_name(index, step)}({self._parameter(step)[0]})"
            indented = body.replace("\n", "\n    ")
            self._functions[index] = f"FT_STEP {head} {{\n    {indented}\n}}\n\n"

    def _banded(self, step: Step, chain: Chain, body: str) -> Iterator[str]:
        """Yield the statements of a step in a chain: rows that are still needed move, new ones are made."""
        table = self._table(chain)
        at = table.position(step.op)
        for buffer, roll in table.rolls.items():
            if roll.writers[0] == at:
                yield from self._move(buffer, roll, table)
        yield f"const int y0 = {table.begin(at)}, y1 = {table.end(at)};"
        yield "if (y0 == y1)\n    return;"
        yield body

    def _move(self, buffer: str, roll: Roll, table: BandTable) -> Iterator[str]:
        first, before = table.first(buffer), table.first_before(buffer)
        row = roll.row * element_bytes(self._graph.tensors[buffer])
        made = table.begin(roll.writers[0])
        for other in roll.writers[1:]:
            made = f"FT_LARGER({made}, {table.begin(other)})"
        start = f"at({self._plan.offsets[buffer]})"
        yield f"if ({first} != {before})"
        yield f"    memmove({start}, {start} + ({first} - {before}) * {row},"
        yield f"        (size_t)({made} - {first}) * {row});"

    def _table(self, chain: Chain) -> BandTable:
        return next(table for table in self._bands if table.chain is chain)

    def _parameter(self, step: Step) -> tuple[str, str]:
        """Return declaration and argument of the step's function."""
        if step.chain is not None:
            return f"const {self._table(step.chain).c_type} *band", "band"
        if step.op.phase == "update" and self._late:
            return "void", ""  # gradients are only collected; apply() needs the hyper-parameters
        return PARAMETERS.get(step.op.phase, ("void", ""))

    def _entry_points(self) -> Iterator[str]:
        yield "static void reset(void) {\n"
        yield f"    for (int k = 0; k < {GUARD_BYTES // 4}; k++)\n"
        yield "        arena.low[k] = arena.high[k] = 0xA5A5A5A5u;\n"
        yield f"    memset(arena.data, 0, {self._plan.arena_bytes});\n"
        for name in self._graph.trained:
            initial = f"initial_{self._names(name)}"
            yield f"    memcpy({self._ram_name(name)}, {initial}, sizeof {initial});\n"
        for name in self._graph.state:
            yield f"    memset({self._state_name(name)}, 0, sizeof {self._state_name(name)});\n"
        if self._kept:
            yield "    accumulated = 0;\n"
        for index, moving in enumerate(self._graph.ranges.values()):
            yield f"    ranges[{index}].low = {c_float(moving.low)};\n"
            yield f"    ranges[{index}].high = {c_float(moving.high)};\n"
        yield "}\n\nstatic int intact(void) {\n"
        yield f"    for (int k = 0; k < {GUARD_BYTES // 4}; k++)\n"
        yield "        if (arena.low[k] != 0xA5A5A5A5u || arena.high[k] != 0xA5A5A5A5u)\n"
        yield "            return 0;\n    return 1;\n}\n\n"
        yield from self._inference()
        if self._graph.trained:
            yield from self._training()

    def _inference(self) -> Iterator[str]:
        forward = [index for index, step in enumerate(self._plan.steps) if step.op.phase == "forward"]
        yield "static void forward(uint32_t index) {\n"
        yield from self._switch([Part(self._plan.steps[index].op.name, index) for index in forward])
        yield "}\n\n"
        if self._graph.ranges:
            yield from self._ranges()
        yield "static void infer(uint32_t first, uint32_t end) {\n"
        yield from self._begin_ranges()
        yield from self._mark("FT_MARK_FORWARD")
        yield f"    for (uint32_t k = first; k < end && k < {len(forward)}; k++)\n"
        yield "        forward(k);\n"
        yield from self._mark("FT_MARK_REST")
        yield "}\n\n"

    def _ranges(self) -> Iterator[str]:
        count = len(self._graph.ranges)
        for name, function in (("begin_ranges", "ft_range_begin"), ("move_ranges", "ft_range_move")):
            yield f"FT_STEP {name}(void) {{\n    for (int k = 0; k < {count}; k++)\n"
            yield f"        {function}(&ranges[k], range_rules[k]);\n}}\n\n"

    def _begin_ranges(self, *starts: int) -> Iterator[str]:
        """Yield the call before the first step, 0, and the other `starts`."""
        if self._graph.ranges:
            begins = " || ".join(f"first == {start}" for start in sorted({0, *starts}))
            yield f"    if ({begins})\n        begin_ranges();\n"

    def _training(self) -> Iterator[str]:
        if self._kept:
            yield from self._clear()
        if self._late:
            yield from self._apply()
        elif CORRECTIONS in self._graph.state:
            yield from self._advance()
        yield "static void part(uint32_t index, const ft_hyper_t *hyper, float *losses) {\n"
        yield "    (void)hyper, (void)losses;\n"
        yield from self._switch(step_parts(self._plan))
        yield "}\n\n"
        if self._marks:
            yield from self._mark_of()
        yield "static void step(uint32_t first, uint32_t end, const ft_hyper_t *hyper, float *losses) {\n"
        yield from self._begin_ranges(self._plan.latent_step)
        yield f"    for (uint32_t k = first; k < end && k < {len(step_parts(self._plan))}; k++) {{\n"
        yield from self._mark("mark_of(k)", indent=8)
        yield "        part(k, hyper, losses);\n    }\n"
        yield from self._mark("FT_MARK_REST")
        yield "}\n\n"

    def _mark(self, mark: str, indent: int = 4) -> Iterator[str]:
        if self._marks:
            yield f"{' ' * indent}ft_port_mark({mark});\n"

    def _mark_of(self) -> Iterator[str]:
        """Yield a function: the phase of a part by its index."""
        phases = [part_phase(self._plan, part) for part in step_parts(self._plan)]
        yield "static ft_mark_t mark_of(uint32_t index) {\n    switch (index) {\n"
        for phase, run in itertools.groupby(range(len(phases)), phases.__getitem__):
            numbers = list(run)
            yield f"    case {numbers[0]} ... {numbers[-1]}:\n        return FT_MARK_{phase.upper()};\n"
        yield "    default:\n        return FT_MARK_REST;\n    }\n}\n\n"

    def _switch(self, parts: Sequence[Part]) -> Iterator[str]:
        """Yield the calls by `index`, without those whose result the plan has put in place."""
        yield "    switch (index) {\n"
        runs = itertools.groupby(enumerate(parts), lambda numbered: self._run(*numbered))
        for _, run in runs:
            numbers, members = zip(*run, strict=True)
            call = self._call(members[0])
            chain = self._chain(members[0])
            if chain is not None:
                yield from self._bands_case(numbers[0], members, self._table(chain))
            elif call:
                yield f"    case {numbers[0]}:\n        {call};\n        break;\n"
        yield "    }\n"

    def _chain(self, part: Part) -> Chain | None:
        return None if part.step is None else self._plan.steps[part.step].chain

    def _run(self, index: int, part: Part) -> int:
        """Return what the parts of a chain have in common, and nothing else has."""
        chain = self._chain(part)
        return index if chain is None else -1 - self._table(chain).index

    def _bands_case(self, first: int, parts: Sequence[Part], table: BandTable) -> Iterator[str]:
        """Yield the case of a whole chain: of each band, all operators of the phase."""
        count = len(parts) // table.chain.bands
        indices = [part.step for part in parts[:count] if part.step is not None]
        names = [_step_name(index, self._plan.steps[index]) for index in indices]
        functions = ",\n            ".join(names)
        yield f"    case {first} ... {first + len(parts) - 1}: {{\n"
        yield f"        static void (*const layers[])(const {table.c_type} *band) = {{\n"
        yield f"            {functions}}};\n"
        yield f"        layers[(index - {first}) % {count}]({table.name}[(index - {first}) / {count} + 1]);\n"
        yield "        break;\n    }\n"

    def _call(self, part: Part) -> str:
        """Return the call that runs `part`, "" when the plan has put its result in place."""
        if part.step is None:
            return f"{part.name}({'hyper' if part.name in ('advance', 'apply') else ''})"
        if part.step not in self._functions:
            return ""
        step = self._plan.steps[part.step]
        return f"{_step_name(part.step, step)}({self._parameter(step)[1]})"

    def _clear(self) -> Iterator[str]:
        yield "/* No gradient, before the first sample of an update. */\n"
        yield "FT_STEP clear(void) {\n    if (accumulated != 0)\n        return;\n"
        for name in self._graph.trained:
            pointer = self._state_name(f"gradient.{name}")
            yield f"    memset({pointer}, 0, sizeof {pointer});\n"
        yield "}\n\n"

    def _apply(self) -> Iterator[str]:
        yield "/* After the last sample of an update: the mean gradient, clipped, to the weights. */\n"
        yield "FT_STEP apply(const ft_hyper_t *hyper) {\n"
        mean = "1.0f"
        if self._kept:
            yield "    if (++accumulated < (int32_t)hyper->accumulate)\n        return;\n"
            mean = "1.0f / (float)accumulated"
        yield "    float sum = 0.0f;\n"
        counts = {name: self._graph.constants[name].value.size for name in self._graph.trained}
        gradients = {name: self._gradient(name) for name in counts}
        for name, count in counts.items():
            pointer, dtype = gradients[name]
            yield f"    sum = ft_square_sum_{dtype}({pointer}, {count}, sum);\n"
        yield f"    const float factor = ft_clip_factor(sum, {mean}, hyper->clip_norm);\n"
        if CORRECTIONS in self._graph.state:
            yield f"    ft_adam_advance(hyper, {CORRECTIONS});\n"
        for name, count in counts.items():
            declaration, sink = self._update(name)
            pointer, dtype = gradients[name]
            call = f"ft_apply_{dtype}({sink}, {pointer}, {count}, factor);"
            yield f"    {{\n        {declaration}        {call}\n    }}\n" if declaration else f"    {call}\n"
        yield "    accumulated = 0;\n}\n\n" if self._kept else "}\n\n"

    def _advance(self) -> Iterator[str]:
        yield "/* Another update, which every layer's own part makes. */\n"
        yield "FT_STEP advance(const ft_hyper_t *hyper) {\n"
        yield f"    ft_adam_advance(hyper, {CORRECTIONS});\n}}\n\n"

    def _tensor_table(self) -> Iterator[str]:
        graph = self._graph
        yield "static const ft_tensor_t tensors[] = {\n"
        for role, names in (
            ("FT_INPUT", graph.inputs),
            ("FT_LABEL", graph.labels),
            ("FT_MASK", graph.masks),
            ("FT_OUTPUT", graph.outputs),
            ("FT_LATENT", graph.latents),
        ):
            for name in names:
                tensor = graph.tensors[name]
                view = self._plan.views[name]
                offset = self._plan.offsets[view.buffer]
                yield _entry(name, f"arena.data + {offset}", tensor, role)
        for name in graph.trained:
            yield _entry(name, f"(uint8_t *){self._ram_name(name)}", graph.learned(name), "FT_WEIGHT")
        for name, tensor in graph.state.items():
            role = "FT_GRADIENT" if name.startswith("gradient.") else "FT_STATE"
            yield _entry(name, f"(uint8_t *){self._state_name(name)}", tensor, role)
        if self._late and not self._kept:
            for name in map(gradient_name, graph.trained):
                offset = self._plan.offsets[self._plan.views[name].buffer]
                yield _entry(name, f"arena.data + {offset}", graph.tensors[name], "FT_GRADIENT")
        for index, name in enumerate(graph.ranges):
            ends = Tensor(f"range.{name}", (1, 1, 2))
            yield _entry(ends.name, f"(uint8_t *)&ranges[{index}]", ends, "FT_RANGE")
        if self._kept:
            counter = Tensor("accumulated", (1, 1, 1), "i32")
            yield _entry("accumulated", "(uint8_t *)&accumulated", counter, "FT_STATE")
        if self._plan.field is not None:
            for name, data, tensor, role in self._plan.field.entries(graph):
                yield _entry(name, data, tensor, role)
        yield f'    {{"arena", arena.data, {self._plan.arena_bytes}, {{0, 0, 0}}, FT_ARENA, FT_U8}},\n'
        yield "};\n\n"

    def _field(self) -> Iterator[str]:
        """Yield the tables of the sample buffer, if there is one."""
        if self._plan.field is None:
            return
        graph = self._graph
        places = {
            name: f"arena.data + {self._plan.offsets[self._plan.views[name].buffer]}"
            for name in (*graph.inputs, *graph.labels, *graph.masks)
        }
        kept = {name: f"(uint8_t *){self._ram_name(name)}" for name in graph.trained}
        kept |= {name: f"(uint8_t *){self._state_name(name)}" for name in graph.state}
        kept |= {f"range.{name}": f"(uint8_t *)&ranges[{k}]" for k, name in enumerate(graph.ranges)}
        kept["accumulated"] = "(uint8_t *)&accumulated"
        steps = [
            None if part.step is None else self._plan.steps[part.step] for part in step_parts(self._plan)
        ]
        losses = [k for k, step in enumerate(steps) if step is not None and step.op.phase == "loss"]
        yield from self._plan.field.tables(graph, places, kept, losses)

    def _descriptor(self) -> Iterator[str]:
        plan = self._plan
        step = "step" if self._graph.trained else "NULL"
        losses = sum(s.op.kind == "loss" for s in plan.steps)
        yield f"const ft_model_t {self._symbol} = {{\n"
        yield f"    .name = {c_string(self._graph.name)},\n"
        yield f"    .model_hash = {self._graph.fingerprint():#010x}u,\n"
        yield f"    .plan_hash = {plan.hash():#010x}u,\n"
        yield "    .tensors = tensors,\n"
        yield "    .tensor_count = sizeof tensors / sizeof tensors[0],\n"
        yield f"    .loss_count = {losses},\n"
        yield f"    .step_parts = {len(step_parts(plan))},\n"
        yield f"    .reset = reset,\n    .infer = infer,\n    .step = {step},\n    .intact = intact,\n"
        yield f"    .field = {'NULL' if plan.field is None else '&field'},\n}};\n"


def _entry(name: str, data: str, tensor: Tensor, role: str) -> str:
    shape = ", ".join(map(str, tensor.shape))
    dtype = f"FT_{tensor.dtype.upper()}"
    return f"    {{{c_string(name)}, {data}, {tensor.bytes}, {{{shape}}}, {role}, {dtype}}},\n"


def _array_in_ram(name: str, tensor: Tensor) -> str:
    count = static_bytes(tensor) // element_bytes(tensor)
    aligned = " __attribute__((aligned(4)))" if tensor.dtype == "i8" else ""
    return f"static {C_TYPES[tensor.dtype]} {name}[{count}]{aligned};\n"


def _range_rule(moving: Range) -> str:
    return (
        f"(ft_moving_rule_t){{{c_float(moving.headroom)}, {c_float(moving.rate)}, {int(moving.symmetric)}}}"
    )


def _step_name(index: int, step: Step) -> str:
    return f"s{index:03d}_{c_name(step.op.name)}_{step.op.kind}"
