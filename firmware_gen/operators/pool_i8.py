"""Poolings and reductions of int8 maps: the bits of TFLite's reference kernels (C: kernels/pool_i8.h)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from boards import Isa
from firmware_gen.fixed_point import activation_range, quantize_multiplier
from firmware_gen.graph import Graph, Op, Quantization
from firmware_gen.operators import pool_i8_dsp, pool_i8_mve, pool_i8_xpulp
from firmware_gen.operators.base import Emitter, Lowered, Operator, Rows
from firmware_gen.operators.variants import Variant, VariedOperator
from firmware_gen.window import LINEAR, Activation, Window

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


@dataclass(frozen=True)
class PoolAttrsI8:
    """A pooling window and the limits of the result."""

    window: Window
    low: int
    high: int

    def c(self) -> str:
        """Return the kernels' arguments."""
        return f"{self.window.c()}, {self.low}, {self.high}"


@dataclass(frozen=True)
class SumAttrsI8:
    """(sum + offset) * multiplier * 2^(shift - 31) + zero_point."""

    offset: int
    multiplier: int
    shift: int
    zero_point: int

    def c(self) -> str:
        """Return the ft_sum_t literal."""
        return f"(ft_sum_t){{{self.offset}, {self.multiplier}, {self.shift}, {self.zero_point}}}"


class _ReductionI8(VariedOperator):
    variants: ClassVar[Mapping[Isa, tuple[Variant[PoolAttrsI8 | SumAttrsI8], ...]]] = {
        "dsp": (pool_i8_dsp,),
        "mve": (pool_i8_mve,),
        "xpulp": (pool_i8_xpulp,),
    }
    function: ClassVar[str]

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        if not isinstance(op.attrs, PoolAttrsI8):
            return None
        return op.attrs.window.rows_below(row, graph.shape(op.inputs[k])[0])

    def emit_portable(self, step: Step, c: Emitter) -> str:
        attrs = step.op.attrs
        assert isinstance(attrs, PoolAttrsI8 | SumAttrsI8)
        x, y = step.op.inputs[0], step.op.outputs[0]
        return (
            f"{self.function}({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {attrs.c()}, {c.rows(step)});"
        )


class MaxPoolI8(_ReductionI8):
    """y = largest value of each window."""

    kind = "max_pool_i8"
    function = "ft_max_pool_i8"


class AveragePoolI8(_ReductionI8):
    """y = mean of each window's taps on the map."""

    kind = "average_pool_i8"
    function = "ft_average_pool_i8"


def lower_pool(
    kind: Literal["max", "average"],
    window: Window,
    quantization: Quantization,
    activation: Activation = LINEAR,
) -> Lowered:
    """Return the pooling of a map whose input and output have this quantization.

    `activation` is linear, relu or clip.
    """
    low, high = -math.inf, math.inf
    if activation.kind == "relu":
        low = 0.0
    elif activation.kind == "clip":
        low, high = activation.a, activation.b
    limits = activation_range(low, high, quantization)
    return Lowered(f"{kind}_pool_i8", PoolAttrsI8(window, *limits))


class SumI8(_ReductionI8):
    """y = the sum or mean over the axes that have one position in y."""

    kind = "sum_i8"
    function = "ft_sum_i8"


class MeanI8(SumI8):
    """y = the mean over the axes that have one position in y."""

    kind = "mean_i8"


def lower_sum(count: int, x: Quantization, y: Quantization) -> Lowered:
    """Return the sum over `count` values of a map quantized as `x`, rescaled to `y`."""
    return Lowered("sum_i8", SumAttrsI8(-count * x.zero_point, *_scale_ratio(x, y), y.zero_point))


def lower_mean(count: int, x: Quantization, y: Quantization) -> Lowered:
    """Return the mean over `count` values of a map quantized as `x`, rescaled to `y`.

    The division is part of the multiplier, as in TFLite's QuantizedMeanOrSum: it is cut off, not rounded.
    """
    multiplier, shift = _scale_ratio(x, y)
    up = min(count.bit_length() - 1, 32, 31 + shift)
    multiplier = (multiplier << up) // count
    return Lowered("mean_i8", SumAttrsI8(-count * x.zero_point, multiplier, shift - up, y.zero_point))


def _scale_ratio(x: Quantization, y: Quantization) -> tuple[int, int]:
    return quantize_multiplier(x.scale / y.scale)


class _ExtremeI8(Operator):
    sign: ClassVar[int]

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return (
            f"ft_extreme_i8({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {self.sign}, {c.rows(step)});"
        )


class ReduceMaxI8(_ExtremeI8):
    """y = the largest value over the axes that have one position in y."""

    kind = "reduce_max_i8"
    sign = 1


class ReduceMinI8(_ExtremeI8):
    """y = the smallest value over the axes that have one position in y."""

    kind = "reduce_min_i8"
    sign = -1
