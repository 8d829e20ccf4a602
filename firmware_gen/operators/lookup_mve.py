"""Functions of one 8-bit value with Helium (C: kernels/mve/lookup.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


def takes(op: Op, attrs: object, graph: Graph) -> bool:
    """Return True."""
    return True


def scratch_bytes(op: Op, attrs: object, graph: Graph) -> int:
    """Return 0."""
    return 0


def emit(step: Step, attrs: object, c: Emitter) -> str:
    """Return the kernel's call."""
    x, y = step.op.inputs[0], step.op.outputs[0]
    return (
        f"ft_mve_lookup({c.pointer(x)}, {c.map(x)}, {c.weight(step.op.constants[0])},\n"
        f"    {c.pointer(y)}, {c.map(y)}, {c.rows(step)});"
    )
