"""Convolution, transposed convolution and fully connected layers on int8 (C: kernels/conv2d_i8.h).

acc = bias + sum of (x - zero point of x) * w, in integers modulo 2^32; y = acc * factor + zero point of y,
clamped, with factor = multiplier * 2^(shift - 31). Weights lie as those of the float layers, see
:mod:`firmware_gen.operators.conv2d`.

The rounding is that of LiteRT's reference kernels: twice for convolutions (`ft_requantize`), once for fully
connected layers, where LiteRT 2 multiplies in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from boards import Isa
from fieldtune.errors import ModelError
from firmware_gen.fixed_point import (
    activation_range,
    quantize_multiplier,
    wrap_int32,
)
from firmware_gen.graph import Constant, Graph, Op, Quantization
from firmware_gen.operators import (
    conv2d_i8_dsp,
    conv2d_i8_mve,
    conv2d_i8_xpulp,
    depthwise_i8_dsp,
    depthwise_i8_mve,
    depthwise_i8_xpulp,
)
from firmware_gen.operators.base import Emitter, Lowered, Rows
from firmware_gen.operators.conv2d import ConvAttrs, conv_macs, conv_reach, forward_literal
from firmware_gen.operators.rounding import fast_rounding
from firmware_gen.operators.variants import Variant, VariedOperator
from firmware_gen.window import LINEAR, Activation, Window

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


@dataclass(frozen=True)
class ConvI8Attrs:
    """Attributes of an int8 convolution: its geometry, zero points of x and y, limits of y.

    `leaky`: negative sums have multipliers of their own. `once`: the product is rounded once. `activation`:
    what limits and factors stand for, in real values.
    """

    conv: ConvAttrs
    x_zero: int
    y_zero: int
    low: int
    high: int
    leaky: bool = False
    once: bool = False
    activation: Activation = LINEAR

    def requantize_literal(self, factors: Sequence[str], c: Emitter) -> str:
        """Return the ft_requantize_t for a layer's constants behind weight and bias."""
        return self.tables_literal([c.weight(name) for name in factors])

    def tables_literal(self, tables: Sequence[str]) -> str:
        """Return the ft_requantize_t for these C arrays: factors, in the order of the constants."""
        tables = list(tables)
        if not self.once:
            tables.insert(2, "NULL")
        tables += ["NULL"] * (5 - len(tables))
        numbers = (*tables, self.y_zero, self.low, self.high)
        return f"(ft_requantize_t){{{', '.join(map(str, numbers))}}}"


class Conv2dI8(VariedOperator):
    """Constants: weight, bias, multipliers, shifts, then rests if rounded once, or the multipliers and shifts
    of negative sums if leaky.
    """

    kind = "conv2d_i8"
    variants: ClassVar[Mapping[Isa, tuple[Variant[ConvI8Attrs], ...]]] = {
        "dsp": (depthwise_i8_dsp, conv2d_i8_dsp),
        "mve": (depthwise_i8_mve, conv2d_i8_mve),
        "xpulp": (depthwise_i8_xpulp, conv2d_i8_xpulp),
    }

    def parameters(self, op: Op) -> tuple[str, ...]:
        return op.constants[:2]

    def macs(self, op: Op, graph: Graph) -> int:
        return conv_macs(op, _attrs(op).conv, graph)

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return conv_reach(_attrs(op).conv, row, graph.shape(op.inputs[k])[0])

    def emit_portable(self, step: Step, c: Emitter) -> str:
        op, attrs = step.op, _attrs(step.op)
        weight, bias, *factors = op.constants
        shape = step.graph.constants[weight].value.shape
        x, y = op.inputs[0], op.outputs[0]
        fast = None if attrs.once else _fast_tables(op, attrs, step.graph)
        if fast is None:
            requantize = attrs.requantize_literal(factors, c)
        else:
            names = [c.array(f"{name}.fast", table) for name, table in zip(factors, fast, strict=True)]
            requantize = attrs.tables_literal(names)
        if attrs.conv.transposed:
            kernel, outside = "ft_conv2d_transpose_i8", str(attrs.x_zero)
        else:
            kernel, outside = "ft_conv2d_i8", _padding(step, attrs, c)
        return (
            f"{kernel}({c.pointer(x)}, {c.map(x)}, {outside}, {c.weight(weight)}, {c.weight(bias)},\n"
            f"    {c.pointer(y)}, {c.map(y)}, {forward_literal(attrs.conv, shape)},\n"
            f"    {requantize}, {int(fast is not None)}, {c.rows(step)});"
        )


def _attrs(op: Op) -> ConvI8Attrs:
    assert isinstance(op.attrs, ConvI8Attrs)
    return op.attrs


def _fast_tables(op: Op, attrs: ConvI8Attrs, graph: Graph) -> list[NDArray[Any]] | None:
    """Return multipliers and shifts, also of negative sums if leaky, for ft_requantized_fast_i8.

    None where its conditions cannot be proved for every channel.
    """
    weight, bias, *factors = (graph.constants[name].value for name in op.constants)
    columns = fast_rounding(weight, bias, factors, attrs.y_zero)
    if columns is None:
        return None
    tables: list[NDArray[Any]] = []
    for multipliers, _, right in np.split(columns[:, 1:].T, len(factors) // 2):
        tables += [multipliers, (-right).astype(np.int8)]
    return tables


def real_weight(weight: Constant, conv: ConvAttrs) -> NDArray[np.float64]:
    """Return the real values of an int8 weight in the kernels' order, whose scales belong to outputs."""
    value, groups = weight.value.astype(np.float64), conv.groups
    if not conv.transposed:
        return np.asarray(value * np.asarray(weight.scales))
    rows, columns, _, outer = value.shape
    scales = np.broadcast_to(weight.scales, (groups * outer,)).reshape(groups, 1, outer)
    return np.asarray((value.reshape(rows, columns, groups, -1, outer) * scales).reshape(value.shape))


def real_bias(op: Op, graph: Graph) -> NDArray[np.float32]:
    """Return the bias of an int8 layer in real values, without what the zero point of x has added to it."""
    attrs, x = _attrs(op), graph.tensors[op.inputs[0]].quantization
    assert x is not None
    weight, bias = (graph.constants[name] for name in op.constants[:2])
    start = bias.value.astype(np.float64)
    if not attrs.conv.transposed:
        start = start + x.zero_point * weight.value.sum(axis=(0, 1, 2), dtype=np.int64)
    return np.asarray(start * x.scale * np.asarray(weight.scales), np.float32)


def _padding(step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    """Return the values of an input pixel in the padding, NULL when there is none."""
    window = attrs.conv.window
    if not any((*window.pad, *window.pad_end)):
        return "NULL"
    channels = step.graph.shape(step.op.inputs[0])[2]
    return c.array(f"{step.op.constants[0]}.padding", np.full(channels, attrs.x_zero, np.int8))


def quantized_conv2d(
    layer: str,
    conv: ConvAttrs,
    x: Quantization,
    weight: Constant,
    bias: NDArray[np.int32] | None,
    y: Quantization,
) -> Lowered:
    """Return the int8 layer for an int8 `weight` in the kernels' order, with one scale or one a channel of y.

    The unit of `bias` is x.scale * the weight's scale. `conv.activation` is linear, relu, clip or leaky_relu,
    of real values. A channel's factor is x.scale * w.scale / y.scale in double precision, as in TFLite.
    """
    return _lower(layer, conv, x, weight, bias, y)


def quantized_fully_connected(
    layer: str,
    activation: Activation,
    x: Quantization,
    weight: Constant,
    bias: NDArray[np.int32] | None,
    y: Quantization,
) -> Lowered:
    """Return TFLite's int8 layer for a `weight` of shape (1, 1, in, out); the rest as `quantized_conv2d`."""
    return _lower(layer, ConvAttrs(Window((1, 1)), activation=activation), x, weight, bias, y, once=True)


def _lower(
    layer: str,
    conv: ConvAttrs,
    x: Quantization,
    weight: Constant,
    bias: NDArray[np.int32] | None,
    y: Quantization,
    once: bool = False,
) -> Lowered:
    groups = conv.groups if conv.transposed else 1
    channels = weight.value.shape[3] * groups
    start = np.zeros(channels, np.int64) if bias is None else bias.astype(np.int64)
    if not conv.transposed:
        # The kernel adds x * w for every tap, in the padding as well, where x is the zero point.
        start = start - x.zero_point * weight.value.sum(axis=(0, 1, 2), dtype=np.int64)
    kind, low, high = conv.activation.kind, -math.inf, math.inf
    assert kind in ("linear", "relu", "clip", "leaky_relu"), kind
    if kind == "relu":
        low = 0.0
    elif kind == "clip":
        low, high = conv.activation.a, conv.activation.b
    limits = activation_range(low, high, y)
    tables = [weight, Constant(f"{layer}.bias", wrap_int32(start).astype(np.int32))]
    linear = replace(conv, activation=LINEAR)
    attrs = ConvI8Attrs(
        linear, x.zero_point, y.zero_point, *limits, kind == "leaky_relu", once, conv.activation
    )
    factors = np.broadcast_to(x.scale * np.asarray(weight.scales, np.float64) / y.scale, (channels,))
    tables += _double_tables(layer, factors) if once else _factor_tables(layer, factors)
    if attrs.leaky:
        tables += _factor_tables(f"{layer}.negative", factors * conv.activation.a)
    return Lowered("conv2d_i8", attrs, tuple(tables))


def _factor_tables(layer: str, factors: NDArray[np.float64]) -> list[Constant]:
    """Return multipliers and shifts, one an output channel."""
    multipliers, shifts = zip(*(quantize_multiplier(factor) for factor in factors.tolist()), strict=True)
    return [
        Constant(f"{layer}.multiplier", np.array(multipliers, np.int32)),
        Constant(f"{layer}.shift", np.array(shifts, np.int8)),
    ]


def _double_tables(layer: str, factors: NDArray[np.float64]) -> list[Constant]:
    """Return multipliers, shifts and rests: factor = (multiplier * 2^31 + rest) * 2^(shift - 62), exactly.

    Raises:
        ModelError: the scales are absurd.
    """
    if factors.max() >= 2.0**30:
        raise ModelError(
            f"the scales of layer '{layer}' give the factor {factors.max():g}; check the quantization"
        )
    mantissas, exponents = np.frexp(np.where(factors < 2.0**-32, 0.0, factors))  # below: never half a unit
    high = np.floor(mantissas * 2.0**31)
    rests = (mantissas * 2.0**31 - high) * 2.0**31
    return [
        Constant(f"{layer}.multiplier", high.astype(np.int32)),
        Constant(f"{layer}.shift", exponents.astype(np.int8)),
        Constant(f"{layer}.rest", rests.astype(np.int32)),
    ]
