/* From sums to outputs, four at a time, with Helium: the bits of ft_requantized_i8. */
#ifndef FT_MVE_REQUANTIZE_I8_H
#define FT_MVE_REQUANTIZE_I8_H

#include <arm_mve.h>
#include "../conv2d_i8.h"

/* Keeps a vector in its register from here on: GCC would load and compute far ahead, only to spill it. */
#define FT_MVE_PIN(vector) __asm volatile("" : "+w"(vector)::"memory")

/* sums * multipliers * 2^(shifts - 31), rounded as ft_requantize does. |sum| < 2^30, -31 <= shift <= -1. */
FT_INLINE int32x4_t ft_mve_scaled(int32x4_t sums, const int32_t *multipliers, const int8_t *shifts) {
    const int32x4_t product = vqrdmulhq_s32(sums, vldrwq_s32(multipliers));
    /* The shift rounds halves up; one less below 0 makes that away from 0. */
    const int32x4_t lowered = vaddq_s32(product, vshrq_n_s32(product, 31));
    return vrshlq_s32(lowered, vldrbq_s32(shifts));
}

/* The same for one factor, of all that ft_requantize takes. Constant multiplier, shift. */
FT_INLINE int32x4_t ft_mve_scaled_n(int32x4_t x, int32_t multiplier, int32_t shift) {
    if (shift > 0)
        x = vshlq_r_s32(x, shift);
    const int32x4_t high = vqrdmulhq_n_s32(x, multiplier);
    return shift < 0 ? vrshlq_n_s32(vaddq_s32(high, vshrq_n_s32(high, 31)), shift) : high;
}

/* sums * (multipliers * 2^31 + rests) * 2^(shifts - 62), rounded as ft_round_once does. |sum| < 2^30,
 * -31 <= shift <= -2: so the bits that decide the rounding lie in the upper half of the product. */
FT_INLINE int32x4_t ft_mve_scaled_once(int32x4_t sums, const int32_t *multipliers, const int32_t *rests,
                                       const int8_t *shifts) {
    const uint32x4_t size = vreinterpretq_u32_s32(vabsq_s32(sums));
    const uint32x4_t rest = vreinterpretq_u32_s32(vldrwq_s32(rests));
    const uint32x4_t multiplier = vreinterpretq_u32_s32(vldrwq_s32(multipliers));
    /* size * rest / 2^31, below 2^30 */
    const uint32x4_t added = vsriq_n_u32(vshlq_n_u32(vmulhq_u32(size, rest), 1), vmulq_u32(size, rest), 31);
    const uint32x4_t low = vmulq_u32(size, multiplier);
    const uint32x4_t sum = vaddq_u32(low, added);
    const uint32x4_t carry = vshrq_n_u32(vbicq_u32(low, sum), 31); /* the top bit of `added` is 0 */
    const uint32x4_t high = vaddq_u32(vmulhq_u32(size, multiplier), carry);
    const int32x4_t rounded = vreinterpretq_s32_u32(vrshlq_u32(high, vaddq_n_s32(vldrbq_s32(shifts), 1)));
    const int32x4_t negative = vshrq_n_s32(sums, 31);
    return vsubq_s32(veorq_s32(rounded, negative), negative);
}

/* The outputs of channels o to o + 3. */
FT_INLINE int32x4_t ft_mve_requantized_i8(int32x4_t sums, int o, ft_requantize_t to) {
    int32x4_t scaled = to.rests != NULL
                           ? ft_mve_scaled_once(sums, to.multipliers + o, to.rests + o, to.shifts + o)
                           : ft_mve_scaled(sums, to.multipliers + o, to.shifts + o);
    if (to.negative_multipliers != NULL)
        scaled = vpselq_s32(ft_mve_scaled(sums, to.negative_multipliers + o, to.negative_shifts + o), scaled,
                            vcmpltq_n_s32(sums, 0));
    const int32x4_t at_least = vmaxq_s32(vaddq_n_s32(scaled, to.zero), vdupq_n_s32(to.low));
    return vminq_s32(at_least, vdupq_n_s32(to.high));
}

/* The low bytes of the values, which belong to channels o to o + 3 of `out`. Constant out. */
FT_INLINE void ft_mve_store_i8(int8_t *y, int32x4_t values, int o, int out) {
    if (out % 4 == 0 || out - o >= 4)
        vstrbq_s32(y, values);
    else
        vstrbq_p_s32(y, values, vctp32q((uint32_t)(out - o)));
}

/* Outputs o to o + 3 of `out` by the portable arithmetic: for all factors and sums. */
FT_INLINE void ft_mve_store_slowly_i8(int8_t *y, int32x4_t sums, int o, int out, ft_requantize_t to) {
    int32_t sum[4];
    vstrwq_s32(sum, sums);
    for (int k = 0; k < 4 && o + k < out; k++)
        y[o + k] = ft_requantized_i8((uint32_t)sum[k], o + k, to);
}

#endif
