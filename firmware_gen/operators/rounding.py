"""Where an int8 layer may be rounded in fewer instructions than TFLite's rule takes, with the same result.

What is exact follows from how large a channel's sums can become with its weights and bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def fast_rounding(
    weight: NDArray[np.int8], bias: NDArray[np.int32], factors: Sequence[NDArray[Any]], zero: int
) -> NDArray[np.int32] | None:
    """Return bias, multiplier, half and right shift of each channel.

    Then y = (p + half - (p < 0)) >> shift for the rounded product p of sum and multiplier, instead of two
    roundings and an addition.

    `factors`: multipliers and shifts, then, of a leaky layer, those of negative sums, which add three more
    columns. None where the rounding is not exact: it is for sums in [-2^30, 2^30) and right shifts from 1 on.
    `half` is half a unit and the zero point of y, which must not overflow on top of the largest product.
    """
    w = weight.astype(np.int64)
    highest = bias + np.maximum(w * 127, w * -128).sum(axis=(0, 1, 2))
    lowest = bias + np.minimum(w * 127, w * -128).sum(axis=(0, 1, 2))
    exact = (highest < 1 << 30) & (lowest >= -(1 << 30))
    largest = np.maximum(np.abs(highest), np.abs(lowest)) + 1  # also of products, as they are rounded
    columns: list[NDArray[Any]] = [bias]
    for multipliers, shifts in zip(factors[::2], factors[1::2], strict=True):
        right = -shifts.astype(np.int64)
        # Channels whose products all round to nothing: often dead ones, with factors near 0.
        nothing = (multipliers == 0) | (largest + 1 < np.int64(1) << np.maximum(right - 1, 0))
        right = np.where(nothing, 1, right)
        half = (np.int64(1) << np.maximum(right - 1, 0)) + (np.int64(zero) << np.maximum(right, 0))
        exact &= (right >= 1) & (largest + 1 + np.abs(half) < 1 << 31)
        columns += [np.where(nothing, 0, multipliers), half, right]
    return np.stack(columns, axis=1).astype(np.int32) if np.all(exact) else None


def once_rounding(
    weight: NDArray[np.int8], bias: NDArray[np.int32], factors: Sequence[NDArray[Any]], zero: int
) -> NDArray[np.int32] | None:
    """Return bias, multiplier, rest and shift (see ft_round_once_fast) of each channel.

    `factors`: multipliers, shifts and rests. None where the rounding is not exact: it is for factors below
    1/4, as long as the zero point does not overflow on top of the largest product. Sums may wrap.
    """
    multipliers, shifts, rests, *negative = (factor.astype(np.int64) for factor in factors)
    if negative:
        return None
    largest = np.abs(bias.astype(np.int64)) + 128 * np.abs(weight.astype(np.int64)).sum(axis=(0, 1, 2))
    largest = np.minimum(largest, 1 << 31)
    nothing = (multipliers == 0) | (largest < np.int64(1) << np.maximum(-1 - shifts, 0))
    multipliers, rests, right = (np.where(nothing, 0, table) for table in (multipliers, rests, -2 - shifts))
    high = (largest * multipliers >> 32) + 2
    if right.min() < 0 or (high + (np.abs(2 * zero + 1) << right)).max() >= 1 << 31:
        return None
    return np.stack((bias, multipliers, rests, right), axis=1).astype(np.int32)
