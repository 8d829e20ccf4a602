"""Poolings, sums and means of int8 maps with Cortex-M's SIMD (C: kernels/dsp/pool_i8.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter

if TYPE_CHECKING:
    from firmware_gen.operators.pool_i8 import PoolAttrsI8, SumAttrsI8
    from firmware_gen.schedule import Step

MOST_TAPS = 255  # FT_DSP_TAPS
CHANNELS = 4  # in a word
KERNELS = {
    "max_pool_i8": "ft_pool_i8_dsp(FT_DSP_MAX_POOL, ",
    "average_pool_i8": "ft_pool_i8_dsp(FT_DSP_AVERAGE_POOL, ",
    "sum_i8": "ft_sum_i8_dsp(",
    "mean_i8": "ft_sum_i8_dsp(",
}


def takes(op: Op, attrs: PoolAttrsI8 | SumAttrsI8, graph: Graph) -> bool:
    """Tell whether all channels stay apart, there are enough of them, and sums are of few enough values."""
    x, y = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
    if x[2] != y[2] or x[2] < CHANNELS:
        return False
    if op.kind in ("sum_i8", "mean_i8"):
        return x[0] * x[1] // (y[0] * y[1]) <= MOST_TAPS
    return op.kind == "max_pool_i8" or cast("PoolAttrsI8", attrs).window.taps <= MOST_TAPS


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
