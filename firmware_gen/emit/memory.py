"""Where tensors lie, and what the arrays outside the arena are called in C."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from firmware_gen.band_table import BandTable, band_tables
from firmware_gen.bf16 import to_bf16
from firmware_gen.c_text import C_TYPES, Names, c_float, c_initializers
from firmware_gen.graph import Range, Tensor
from firmware_gen.plan import GUARD_BYTES, Plan, keeps_gradients, static_bytes
from firmware_gen.schedule import Chain
from firmware_gen.storage import element_bytes

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


class Memory:
    """The RAM of a plan: the arena, and what learns, its state and ranges beside it."""

    def __init__(self, plan: Plan) -> None:
        """Lay out the memory of `plan`."""
        self.plan, self.graph = plan, plan.graph
        self.names = Names()
        self.keeps_gradients = keeps_gradients(plan.graph)  # over steps
        self.bands = band_tables(plan.steps, plan.rolls)

    def band_table(self, chain: Chain) -> BandTable:
        """Return the table of a chain."""
        return next(table for table in self.bands if table.chain is chain)

    def pointer(self, tensor: str) -> str:
        """Return the typed C pointer to logical row 0 of a tensor in the arena."""
        view = self.plan.views[tensor]
        described = self.graph.tensors[tensor]
        offset = self.plan.offsets[view.buffer] + view.channel * element_bytes(described)
        pointer = f"({C_TYPES[described.dtype]} *)at({offset})"
        roll = self.plan.rolls.get(view.buffer)
        if roll is None:
            return pointer
        return f"({pointer} - {self.band_table(roll.chain).first(view.buffer)} * {view.row})"

    def weight(self, constant: str) -> str:
        """Return the name of the array in which a constant learns."""
        return f"w_{self.names(constant)}"

    def state(self, name: str) -> str:
        """Return the name of the array of a state, such as ``velocity.dec.weight``."""
        kind, _, constant = name.partition(".")
        return f"{STATE_PREFIXES[kind]}_{self.names(constant)}" if constant else kind

    def range(self, tensor: str) -> str:
        """Return the ft_moving_range_t of an int8 tensor."""
        return self.range_of(self.graph.tensors[tensor].range)

    def range_of(self, name: str) -> str:
        """Return the ft_moving_range_t of this name in `Graph.ranges`."""
        return f"ranges[{list(self.graph.ranges).index(name)}]"

    def initial(self, constant: str) -> NDArray[Any]:
        """Return the first values of a constant that learns, as they lie in RAM."""
        value = self.graph.constants[constant].value
        return to_bf16(value) if self.graph.learned(constant).dtype == "bf16" else value

    def declarations(self) -> Iterator[str]:
        """Yield all that is in RAM."""
        size = self.plan.arena_bytes
        guards = GUARD_BYTES // 4
        yield "static struct {\n"
        yield f"    uint32_t low[{guards}];\n"
        yield f"    uint8_t data[{size}];\n"
        yield f"    uint32_t high[{guards}];\n"
        yield "} arena __attribute__((aligned(16)));\n"
        yield AT
        for name in self.graph.trained:
            values = None if self.plan.keeps_initial else self.initial(name)
            yield _array_in_ram(self.weight(name), self.graph.learned(name), values)
        for name, tensor in self.graph.state.items():
            yield _array_in_ram(self.state(name), tensor)
        if self.keeps_gradients:
            yield "static int32_t accumulated;\n"
        if self.plan.field is not None:
            yield from self.plan.field.arrays(self.graph)
        if self.graph.ranges:
            count = len(self.graph.ranges)
            yield f"static ft_moving_range_t ranges[{count}];\n"
            yield f"static const ft_moving_rule_t range_rules[{count}] = {{\n"
            yield from (f"    {range_rule(moving)},\n" for moving in self.graph.ranges.values())
            yield "};\n"


def _array_in_ram(name: str, tensor: Tensor, values: NDArray[Any] | None = None) -> str:
    count = static_bytes(tensor) // element_bytes(tensor)
    aligned = " __attribute__((aligned(4)))" if tensor.dtype == "i8" else ""
    body = "" if values is None else f" = {{\n{''.join(c_initializers(values))}}}"
    return f"static {C_TYPES[tensor.dtype]} {name}[{count}]{aligned}{body};\n"


def range_rule(moving: Range) -> str:
    """Return the ft_moving_rule_t of a range."""
    return (
        f"(ft_moving_rule_t){{{c_float(moving.headroom)}, {c_float(moving.rate)}, {int(moving.symmetric)}}}"
    )
