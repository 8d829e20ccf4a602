"""Functions of one 8-bit value, as tables of 256 bytes (C: kernels/lookup.h).

Each function below makes the table that gives the bits of TFLite's reference kernel; where TFLite computes in
float32, so does the function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from boards import Isa
from fieldtune.errors import ModelError
from firmware_gen.fixed_point import (
    Integers,
    activation_range,
    integer_range,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
    rounding_divide_by_pot,
    single_ratio,
)
from firmware_gen.graph import Constant, DType, Op, Quantization, Tensor
from firmware_gen.operators import lookup_mve
from firmware_gen.operators.base import Emitter, Lowered
from firmware_gen.operators.quantize import Rounding
from firmware_gen.operators.variants import Variant, VariedOperator

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

Floats = NDArray[np.float32]
RealFunction = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Lookup(VariedOperator):
    """y = table[x]: one constant of 256 bytes, in the order of the bytes of x."""

    kind = "lookup"
    row_by_row = True
    variants: ClassVar[Mapping[Isa, tuple[Variant[object], ...]]] = {"mve": (lookup_mve,)}

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def emit_portable(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return (
            f"ft_lookup({c.pointer(x)}, {c.map(x)}, {c.weight(step.op.constants[0])},\n"
            f"    {c.pointer(y)}, {c.map(y)}, {c.rows(step)});"
        )


def lower_lookup(y: Tensor, values: ArrayLike) -> Lowered:
    """Return the operator that makes `y`: `values` for the bytes 0..255 of its input, saturated here."""
    known = np.nan_to_num(np.asarray(values, np.float64))  # scales near the end of the floats give anything
    table = np.clip(known, *integer_range(y.dtype)).astype(np.int64)
    return Lowered("lookup", None, (Constant(f"{y.name}.table", table.astype(np.uint8).view(np.int8)),))


def all_integers(dtype: DType) -> Integers:
    """Return the 256 values of an 8-bit type in the order of their bytes."""
    byte = np.arange(256, dtype=np.uint8)
    return (byte.view(np.int8) if dtype == "i8" else byte).astype(np.int64)


def all_reals(x: Tensor) -> Floats:
    """Return what the 256 values of `x` stand for, in single precision."""
    return np.float32(_quantization(x).scale) * _offsets(x).astype(np.float32)


def real_function(function: RealFunction, x: Tensor, y: Tensor) -> Lowered:
    """Lower y = function(x), rounded as TFLite's table kernels do: logistic, tanh, exp, gelu, ...

    `function` is asked in double precision; its result is rounded to single, where TFLite has the C library's
    single-precision function.
    """
    quantization = _quantization(y)
    with np.errstate(over="ignore", invalid="ignore"):
        result = function(all_reals(x).astype(np.float64)).astype(np.float32)
        steps = result * (np.float32(1) / np.float32(quantization.scale))
    return lower_lookup(y, round_half_away(steps) + quantization.zero_point)


def onnx_function(function: RealFunction, x: Tensor, y: Tensor) -> Lowered:
    """Lower QuantizeLinear(function(DequantizeLinear(x)))."""
    with np.errstate(over="ignore", invalid="ignore"):
        real = function(all_reals(x).astype(np.float64)).astype(np.float32)
    return lower_lookup(y, quantized(real, "even", y))


def quantized(real: Floats, rounding: Rounding, y: Tensor) -> NDArray[np.float64]:
    """Return the integers of a ``quantize`` of `real`, before they saturate."""
    quantization = _quantization(y)
    with np.errstate(over="ignore"):
        steps = (real / np.float32(quantization.scale)).astype(np.float64)
    whole = np.rint(steps) if rounding == "even" else round_half_away(steps)
    return whole + quantization.zero_point


def requantize(x: Tensor, y: Tensor) -> Lowered:
    """Lower TFLite's QUANTIZE between 8-bit types."""
    return lower_lookup(y, _rescaled(x, y, float(_quantization(x).scale) / _quantization(y).scale))


def relu(x: Tensor, y: Tensor, low: float = 0.0, high: float = math.inf) -> Lowered:
    """Lower y = x clamped to low..high: RELU, RELU6, RELU_N1_TO_1 and their like."""
    limits = activation_range(low, high, _quantization(y), y.dtype)
    return lower_lookup(y, np.clip(_rescaled(x, y, _scale_ratio(x, y)), *limits))


def leaky_relu(x: Tensor, y: Tensor, alpha: float) -> Lowered:
    """Lower y = x above 0, alpha * x below."""
    slope = single_ratio(_quantization(x).scale, alpha, divisor=_quantization(y).scale)
    above, below = _rescaled(x, y, _scale_ratio(x, y)), _rescaled(x, y, slope)
    return lower_lookup(y, np.where(_offsets(x) >= 0, above, below))


def absolute(x: Tensor, y: Tensor) -> Lowered:
    """Lower y = |x|."""
    return lower_lookup(y, _rescaled(x, y, _scale_ratio(x, y), np.abs(_offsets(x))))


def hard_swish(x: Tensor, y: Tensor) -> Lowered:
    """Lower y = x * clip(x + 3, 0, 6) / 6 in TFLite's 16-bit arithmetic.

    Raises:
        ModelError: the output's scale is below 1/128 of the input's, which TFLite refuses too.
    """
    fine_scale = _quantization(x).scale / 128
    multiplier, shift = _multiplier_16(single_ratio(fine_scale, divisor=_quantization(y).scale))
    if shift > 0:
        raise ModelError(f"the scale of '{y.name}' is too small for a hard swish of '{x.name}'")
    fine = _offsets(x) << 7
    out = _high_mul_16(fine, multiplier)
    # The gate: 3.0 is 2^15, so that -3..3 fills 16 bits and saturates beyond.
    gate_multiplier, gate_shift = _multiplier_16(single_ratio(fine_scale, divisor=3 / 32768))
    gate = fine
    if gate_shift > 0:
        gate = _saturate_16(gate << (gate_shift - 1))
    gate = _high_mul_16(gate, gate_multiplier)
    gate = _saturate_16(gate << 1) if gate_shift > 0 else rounding_divide_by_pot(gate, -gate_shift)
    gate = (gate + (1 << 15)) >> 1
    product = np.trunc(gate * out / (1 << 15)).astype(np.int64)
    return lower_lookup(y, rounding_divide_by_pot(product, -shift) + _quantization(y).zero_point)


def _quantization(tensor: Tensor) -> Quantization:
    if tensor.quantization is None:
        raise ModelError(f"the tensor '{tensor.name}' is of type {tensor.dtype} without quantization")
    return tensor.quantization


def _offsets(x: Tensor) -> Integers:
    return all_integers(x.dtype) - _quantization(x).zero_point


def _scale_ratio(x: Tensor, y: Tensor) -> float:
    return single_ratio(_quantization(x).scale, divisor=_quantization(y).scale)


def _rescaled(x: Tensor, y: Tensor, factor: float, offsets: Integers | None = None) -> Integers:
    steps = multiply_by_quantized_multiplier(
        _offsets(x) if offsets is None else offsets, *quantize_multiplier(factor)
    )
    return steps + _quantization(y).zero_point


def _multiplier_16(factor: float) -> tuple[int, int]:
    multiplier, shift = quantize_multiplier(factor)
    return min((multiplier + (1 << 15)) >> 16, (1 << 15) - 1), shift


def _high_mul_16(a: Integers, b: int) -> Integers:
    return (a * b + (1 << 14)) >> 15


def _saturate_16(x: Integers) -> Integers:
    return np.clip(x, -(1 << 15), (1 << 15) - 1)
