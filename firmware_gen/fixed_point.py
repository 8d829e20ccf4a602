"""The integer arithmetic of TFLite's reference kernels (gemmlowp), on numpy arrays.

Functions take integers and return int64 arrays whose values are int32 numbers, so that nothing overflows on
the way. `multiply_by_quantized_multiplier` is ft_requantize of kernels/fixed_point.h. A fixed-point number
with `i` integer bits stands for raw / 2^(31 - i).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fieldtune.errors import ModelError
from firmware_gen.graph import DType, Quantization

Integers = NDArray[np.int64]

INT32_MAX = (1 << 31) - 1
# e^-(2^k) for k from -2, no integer bits.
_EXP_FACTORS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
_EXP_OF_MINUS_EIGHTH, _ONE_THIRD = 1895147668, 715827883


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Return (multiplier, shift) with real ~ multiplier * 2^(shift - 31), 2^30 <= |multiplier| < 2^31.

    A factor below 2^-32 becomes (0, 0), as in TFLite.

    Raises:
        ModelError: the factor is no number, or beyond 2^31.
    """
    if not abs(real) <= INT32_MAX:
        raise ModelError(f"the scales of a quantized layer give the factor {real:g}; check the quantization")
    mantissa, shift = math.frexp(real)
    multiplier = int(round_half_away(mantissa * (1 << 31)))
    if abs(multiplier) == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def single_ratio(*factors: float, divisor: float) -> float:
    """Return the product over `divisor`, each step in single precision as in most of TFLite's kernels."""
    with np.errstate(over="ignore"):
        product = np.float32(1)
        for factor in factors:
            product = product * np.float32(factor)
        return float(product / np.float32(divisor))


def round_half_away(x: ArrayLike) -> NDArray[np.float64]:
    """Return the nearest whole numbers, halves away from zero; `x`: single precision, or below 2^51."""
    value = np.asarray(x, np.float64)
    return np.trunc(value + np.copysign(0.5, value))


def activation_range(
    low: float, high: float, quantization: Quantization, dtype: DType = "i8"
) -> tuple[int, int]:
    """Return the integers between which outputs are clamped for the real limits `low` and `high`.

    TFLite's CalculateActivationRangeQuantized; infinite limits stand for none.
    """
    lowest, highest = integer_range(dtype)

    def quantized(limit: float) -> int:
        with np.errstate(over="ignore"):
            steps = np.float32(limit) / np.float32(quantization.scale)
        at = float(round_half_away(steps)) + quantization.zero_point
        return int(min(max(at, lowest), highest))

    return quantized(low), quantized(high)


def integer_range(dtype: DType) -> tuple[int, int]:
    """Return the lowest and highest value of an 8-bit type."""
    return {"i8": (-128, 127), "u8": (0, 255)}[dtype]


def wrap_int32(x: ArrayLike) -> Integers:
    """Return the int32 numbers that are left when only the low 32 bits are kept."""
    return np.asarray(x, np.int64).astype(np.int32).astype(np.int64)


def saturating_rounding_doubling_high_mul(a: ArrayLike, b: ArrayLike) -> Integers:
    """Return a * b / 2^31, rounded to nearest with halves up, saturated."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return np.asarray(np.minimum((product + (1 << 30)) >> 31, INT32_MAX), np.int64)


def rounding_divide_by_pot(x: ArrayLike, exponent: int) -> Integers:
    """Return x / 2^exponent, rounded to nearest with halves away from zero; 0 <= exponent <= 31."""
    value = np.asarray(x, np.int64)
    half = (1 << exponent) >> 1
    return (value + half - (value < 0)) >> exponent if exponent else value


def multiply_by_quantized_multiplier(x: ArrayLike, multiplier: int, shift: int) -> Integers:
    """Return x * multiplier * 2^(shift - 31), rounded twice; -31 <= shift <= 31, x << shift wraps."""
    shifted = wrap_int32(np.asarray(x, np.int64) << max(shift, 0))
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(shifted, multiplier), max(-shift, 0))


def exp_on_negative_values(a: ArrayLike, integer_bits: int) -> Integers:
    """Return e^a with 0 integer bits for a <= 0 with `integer_bits`, at most 5: a table of softmax."""
    value = np.asarray(a, np.int64)
    fraction = 31 - integer_bits
    quarter = 1 << (fraction - 2)
    rest = (value & (quarter - 1)) - quarter  # -1/4 <= rest < 0
    result = _exp_of_quarter(rest << integer_bits)
    remainder = rest - value
    for k, factor in enumerate(_EXP_FACTORS[: integer_bits + 2]):
        bit = (remainder >> (fraction + k - 2)) & 1
        result = np.where(bit, saturating_rounding_doubling_high_mul(result, factor), result)
    return np.where(value == 0, INT32_MAX, result)


def _exp_of_quarter(a: Integers) -> Integers:
    """Return e^a for -1/4 <= a < 0, no integer bits: the Taylor polynomial of degree 4 around -1/8."""
    mul = saturating_rounding_doubling_high_mul
    x = a + (1 << 28)
    x2 = mul(x, x)
    x3, x4 = mul(x2, x), mul(x2, x2)
    tail = rounding_divide_by_pot(mul(rounding_divide_by_pot(x4, 2) + x3, _ONE_THIRD) + x2, 1)
    return _EXP_OF_MINUS_EIGHTH + mul(_EXP_OF_MINUS_EIGHTH, x + tail)
