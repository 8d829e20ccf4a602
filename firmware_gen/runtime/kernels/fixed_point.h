/* The integer arithmetic of TFLite's reference kernels (gemmlowp): an int32 times a real factor that is given
 * as multiplier * 2^(shift - 31), rounded twice. firmware_gen/fixed_point.py is the same in Python. */
#ifndef FT_FIXED_POINT_H
#define FT_FIXED_POINT_H

#include "lanes.h"

/* a * b / 2^31, rounded to nearest with halves up, saturated. */
FT_INLINE int32_t ft_high_mul(int32_t a, int32_t b) {
    if (a == INT32_MIN && b == INT32_MIN)
        return INT32_MAX;
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* The same for b >= 0. It cannot saturate, and with b doubled the result is the upper word of the product,
 * rounded: no shift crosses words. */
FT_INLINE int32_t ft_high_mul_positive(int32_t a, int32_t b) {
    const int64_t product = (int64_t)a * ((uint32_t)b << 1);
    return (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
}

/* x / 2^exponent, rounded to nearest with halves away from zero. 0 <= exponent <= 31. */
FT_INLINE int32_t ft_divide_by_pot(int32_t x, int32_t exponent) {
    const int32_t mask = (int32_t)((1u << exponent) - 1u);
    const int32_t threshold = (mask >> 1) + (x < 0);
    return (x >> exponent) + ((x & mask) > threshold);
}

/* x * multiplier * 2^(shift - 31). -31 <= shift <= 31; x * 2^shift wraps as two's complement does. Most calls
 * let the compiler know the sign of the multiplier. To the right it is ft_divide_by_pot in fewer steps: the
 * last bit that is shifted out rounds, and one less for negative numbers lets their halves fall away from
 * zero. */
FT_INLINE int32_t ft_requantize(int32_t x, int32_t multiplier, int32_t shift) {
    const int32_t shifted = shift >= 0 ? (int32_t)((uint32_t)x << shift) : x;
    const int32_t high =
        multiplier >= 0 ? ft_high_mul_positive(shifted, multiplier) : ft_high_mul(shifted, multiplier);
    if (shift >= 0)
        return high; /* else above INT32_MIN */
    const int32_t doubled = (high + (high >> 31)) >> (-shift - 1);
    return (doubled >> 1) + (doubled & 1);
}

FT_INLINE int32_t ft_clamp_i32(int32_t x, int32_t low, int32_t high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

#endif
