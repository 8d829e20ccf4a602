/* bf16: the upper half of a float. It saves memory and is never calculated with: values are rounded when they
 * are stored, and are floats again when they are loaded. */
#ifndef FT_BF16_H
#define FT_BF16_H

#include "cores.h"
#include "ft_math.h"

FT_INLINE float ft_bf16_to_float(uint16_t bits) {
    return ft_bits_to_float((uint32_t)bits << 16);
}

/* To the nearest, ties to even; from half a step beyond the largest bf16 on to infinity. A NaN stays one. */
FT_INLINE uint16_t ft_float_to_bf16(float x) {
    const uint32_t bits = ft_float_to_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u); /* or the rounding could carry it to infinity */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* An array that lies in memory as one type or the other; both pointers are NULL where there is none. Which is
 * set is a constant of the plan. */
typedef struct {
    float *f32;
    uint16_t *bf16;
} ft_reals_t;

/* Values `at` and behind it into the first `count` lanes; the others hold 0. */
FT_INLINE ft_vec ft_reals_load(ft_reals_t from, int at, int count) {
    if (from.f32)
        return ft_gather(from.f32 + at, 1, count);
    float lane[FT_LANES] = {0};
    for (int k = 0; k < count; k++)
        lane[k] = ft_bf16_to_float(from.bf16[at + k]);
    return ft_load(lane);
}

/* The first `count` lanes to the place `at` and behind it. */
FT_INLINE void ft_reals_store(ft_reals_t to, int at, ft_vec v, int count) {
    if (to.f32) {
        ft_scatter(to.f32 + at, v, count);
        return;
    }
    float lane[FT_LANES];
    ft_store(lane, v);
    for (int k = 0; k < count; k++)
        to.bf16[at + k] = ft_float_to_bf16(lane[k]);
}

/* y = x, rounded; they do not overlap. Cores divide them. */
FT_INLINE void ft_round_bf16(const float *x, uint16_t *y, int count, ft_cores_t cores) {
    const ft_range_t mine = ft_part(cores, count);
    for (int k = mine.from; k < mine.to; k++)
        y[k] = ft_float_to_bf16(x[k]);
}

/* Floats of a weight, or of `out` of its output channels, for the kernels: y[(t * in + i) * out + o] =
 * w[t * w_tap + i * w_in + o * w_out]. */
FT_INLINE void ft_widen(const uint16_t *w, float *y, int taps, int w_tap, int in, int w_in, int out,
                        int w_out) {
    for (int t = 0; t < taps; t++)
        for (int i = 0; i < in; i++)
            for (int o = 0; o < out; o++)
                *y++ = ft_bf16_to_float(w[t * w_tap + i * w_in + o * w_out]);
}

#endif
