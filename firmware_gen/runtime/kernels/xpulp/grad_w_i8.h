/* Weight gradients of int8 layers with Xpulp's SIMD: four pixels at once. */
#ifndef FT_XPULP_GRAD_W_I8_H
#define FT_XPULP_GRAD_W_I8_H

#include "../learning_i8.h"
#include "xpulp.h"

typedef int8_t ft_dot_t;
#define FT_DOT_STEP 4

FT_INLINE void ft_dots_gather(int8_t *to, int pitch, ft_steps_over_t from, int channels, ft_range_t ys,
                              ft_range_t xs) {
    for (int row = ys.from; row < ys.to; row++) {
        const int8_t *at = from.at + row * from.row + xs.from * from.pixel;
        _Pragma("GCC unroll 1") for (int col = xs.from; col < xs.to; col++) {
            int8_t *value = to;
            _Pragma("GCC unroll 4") for (int c = 0; c < channels; c++) {
                *value = at[c];
                value += pitch;
            }
            at += from.pixel;
            to++;
        }
    }
}

FT_INLINE int32_t ft_dots_sum(const int8_t *row, int count) {
    uint32_t sum = 0;
    for (int k = 0; k < count; k += 4)
        sum = ft_sdotsp4_xpulp(ft_load_xpulp(&row, 4), 0x01010101u, sum);
    return (int32_t)sum;
}

FT_INLINE void ft_dots_2x2(const int8_t *x0, const int8_t *x1, const int8_t *dy0, const int8_t *dy1,
                           int count, int32_t sums[4]) {
    uint32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    _Pragma("GCC unroll 4") for (int k = 0; k < count; k += 4) {
        const uint32_t a = ft_load_xpulp(&x0, 4), b = ft_load_xpulp(&x1, 4);
        const uint32_t c = ft_load_xpulp(&dy0, 4), d = ft_load_xpulp(&dy1, 4);
        s0 = ft_sdotsp4_xpulp(a, c, s0);
        s1 = ft_sdotsp4_xpulp(a, d, s1);
        s2 = ft_sdotsp4_xpulp(b, c, s2);
        s3 = ft_sdotsp4_xpulp(b, d, s3);
    }
    sums[0] = (int32_t)s0, sums[1] = (int32_t)s1, sums[2] = (int32_t)s2, sums[3] = (int32_t)s3;
}

#include "../grad_w_dots_i8.h"

#endif
