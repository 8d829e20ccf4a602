"""Poolings, sums and means of int8 maps with Helium (C: kernels/mve/pool_i8.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter

if TYPE_CHECKING:
    from firmware_gen.operators.pool_i8 import PoolAttrsI8, SumAttrsI8
    from firmware_gen.schedule import Step

MEAN_TAPS = 4080  # FT_MVE_MEAN_TAPS
KERNELS = {
    "max_pool_i8": "ft_mve_pool_i8(FT_MVE_MAX_POOL, ",
    "average_pool_i8": "ft_mve_pool_i8(FT_MVE_AVERAGE_POOL, ",
    "sum_i8": "ft_mve_sum_i8(",
    "mean_i8": "ft_mve_sum_i8(",
}


def takes(op: Op, attrs: PoolAttrsI8 | SumAttrsI8, graph: Graph) -> bool:
    """Tell whether all channels stay apart, and windows of means have few enough taps."""
    if op.kind == "average_pool_i8" and cast("PoolAttrsI8", attrs).window.taps > MEAN_TAPS:
        return False
    return graph.shape(op.inputs[0])[2] == graph.shape(op.outputs[0])[2]


def scratch_bytes(op: Op, attrs: PoolAttrsI8 | SumAttrsI8, graph: Graph) -> int:
    """Return 0."""
    return 0


def emit(step: Step, attrs: PoolAttrsI8 | SumAttrsI8, c: Emitter) -> str:
    """Return the kernel's call."""
    x, y = step.op.inputs[0], step.op.outputs[0]
    return (
        f"{KERNELS[step.op.kind]}{c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
        f"    {attrs.c()}, {c.rows(step)});"
    )
