"""Sums and products of two int8 values on Cortex-M's and GAP9's SIMD (C: kernels/ISA/elementwise_i8.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.binary import operands

if TYPE_CHECKING:
    from firmware_gen.operators.elementwise_i8 import BinaryAttrsI8
    from firmware_gen.schedule import Step

# What the kernel does; a difference is a sum whose second multiplier is negative.
KINDS = {"add_i8": "ADD", "sub_i8": "ADD", "mul_i8": "MUL"}
# To the right, the zero point of y is added before the shift: further, it overflows.
LARGEST_SHIFT = 23


def takes(op: Op, attrs: BinaryAttrsI8, graph: Graph) -> bool:
    """Tell whether the operator is a sum, a difference or a product whose factor is between 2^-24 and 1/2."""
    return op.kind in KINDS and -LARGEST_SHIFT <= attrs.y.shift <= -1


def scratch_bytes(op: Op, attrs: BinaryAttrsI8, graph: Graph) -> int:
    """Return 0."""
    return 0


def emit(step: Step, attrs: BinaryAttrsI8, c: Emitter) -> str:
    """Return the kernel's call."""
    y = step.op.outputs[0]
    return (
        f"ft_binary_i8_{c.isa}(FT_{KINDS[step.op.kind]}_{c.isa.upper()}, {operands(step, c)},\n"
        f"    {c.pointer(y)}, {c.map(y)}, {attrs.c()}, {c.rows(step)});"
    )
