/* Weight gradients of int8 layers with Cortex-M's SIMD: two pixels at once. */
#ifndef FT_DSP_GRAD_W_I8_H
#define FT_DSP_GRAD_W_I8_H

#include "../learning_i8.h"
#include <arm_acle.h>

typedef int16_t ft_dot_t;
#define FT_DOT_STEP 2

FT_INLINE void ft_dots_gather(int16_t *to, int pitch, ft_steps_over_t from, int channels, ft_range_t ys,
                              ft_range_t xs) {
    for (int row = ys.from; row < ys.to; row++) {
        const int8_t *at = from.at + row * from.row + xs.from * from.pixel;
        _Pragma("GCC unroll 1") for (int col = xs.from; col < xs.to; col++) {
            int16_t *value = to;
            int c = 0;
            _Pragma("GCC unroll 1") for (; c + 4 <= channels; c += 4) {
                FT_EACH(k, 4) {
                    value[k * pitch] = at[c + k];
                }
                value += 4 * pitch;
            }
            for (; c < channels; c++) {
                *value = at[c];
                value += pitch;
            }
            at += from.pixel;
            to++;
        }
    }
}

/* Two values that lie side by side. */
FT_INLINE int16x2_t ft_dot_pair(const int16_t *p) {
    int16x2_t pair;
    memcpy(&pair, p, sizeof pair);
    return pair;
}

FT_INLINE int32_t ft_dots_sum(const int16_t *row, int count) {
    int32_t sum = 0;
    for (int k = 0; k < count; k += 2)
        sum = __smlad(ft_dot_pair(row + k), 0x00010001, sum);
    return sum;
}

FT_INLINE void ft_dots_2x2(const int16_t *x0, const int16_t *x1, const int16_t *dy0, const int16_t *dy1,
                           int count, int32_t sums[4]) {
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    _Pragma("GCC unroll 4") for (int k = 0; k < count; k += 2) {
        const int16x2_t a = ft_dot_pair(x0 + k), b = ft_dot_pair(x1 + k);
        const int16x2_t c = ft_dot_pair(dy0 + k), d = ft_dot_pair(dy1 + k);
        s0 = __smlad(a, c, s0);
        s1 = __smlad(a, d, s1);
        s2 = __smlad(b, c, s2);
        s3 = __smlad(b, d, s3);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

#include "../grad_w_dots_i8.h"

#endif
