"""Operators that combine two int8 values at a time, with Helium (C: kernels/mve/elementwise_i8.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.binary import operands

if TYPE_CHECKING:
    from firmware_gen.operators.elementwise_i8 import BinaryAttrsI8
    from firmware_gen.schedule import Step

# ft_mve_kind_t; a difference is a sum whose second multiplier is negative.
KINDS = {
    "add_i8": "FT_MVE_ADD",
    "sub_i8": "FT_MVE_ADD",
    "mul_i8": "FT_MVE_MUL",
    "prelu_i8": "FT_MVE_PRELU",
    "maximum_i8": "FT_MVE_MAXIMUM",
    "minimum_i8": "FT_MVE_MINIMUM",
}


def takes(op: Op, attrs: BinaryAttrsI8, graph: Graph) -> bool:
    """Return True: all shapes and factors."""
    return True


def scratch_bytes(op: Op, attrs: BinaryAttrsI8, graph: Graph) -> int:
    """Return 0."""
    return 0


def emit(step: Step, attrs: BinaryAttrsI8, c: Emitter) -> str:
    """Return the kernel's call."""
    y = step.op.outputs[0]
    return (
        f"ft_mve_binary_i8({KINDS[step.op.kind]}, {operands(step, c)},\n"
        f"    {c.pointer(y)}, {c.map(y)}, {attrs.c()}, {c.rows(step)});"
    )
