"""Poolings, sums and means of int8 maps with GAP9's SIMD (C: kernels/xpulp/pool_i8.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter

if TYPE_CHECKING:
    from firmware_gen.operators.pool_i8 import PoolAttrsI8, SumAttrsI8
    from firmware_gen.schedule import Step

CHANNELS = 4  # in a word
# The kernel, and the portable one for maps that are slices of wider ones, where words lie across pixels.
KERNELS = {
    "max_pool_i8": ("ft_pool_i8_xpulp(FT_MAX_POOL_XPULP, ", "ft_max_pool_i8("),
    "average_pool_i8": ("ft_pool_i8_xpulp(FT_AVERAGE_POOL_XPULP, ", "ft_average_pool_i8("),
    "sum_i8": ("ft_sum_i8_xpulp(", "ft_sum_i8("),
    "mean_i8": ("ft_sum_i8_xpulp(", "ft_sum_i8("),
}


def takes(op: Op, attrs: PoolAttrsI8 | SumAttrsI8, graph: Graph) -> bool:
    """Tell whether all channels stay apart and are whole words."""
    x, y = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
    return x[2] == y[2] and x[2] % CHANNELS == 0


def scratch_bytes(op: Op, attrs: PoolAttrsI8 | SumAttrsI8, graph: Graph) -> int:
    """Return 0."""
    return 0


def emit(step: Step, attrs: PoolAttrsI8 | SumAttrsI8, c: Emitter) -> str:
    """Return the kernel's call."""
    x, y = step.op.inputs[0], step.op.outputs[0]
    words, portable = KERNELS[step.op.kind]
    maps = f"{c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)}"
    if not c.aligned(x, CHANNELS):
        return f"{portable}{maps},\n    {attrs.c()}, {c.rows(step)});"
    channels = c.channels(step.graph.shape(y)[2], CHANNELS)
    return f"{words}{maps},\n    {attrs.c()}, {c.rows(step)}, {channels});"
