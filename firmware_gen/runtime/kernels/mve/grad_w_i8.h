/* Weight gradients of int8 layers with Helium: sixteen pixels at once. */
#ifndef FT_MVE_GRAD_W_I8_H
#define FT_MVE_GRAD_W_I8_H

#include "../learning_i8.h"
#include <arm_mve.h>

typedef int8_t ft_dot_t;
#define FT_DOT_STEP 16

FT_INLINE void ft_dots_gather(int8_t *to, int pitch, ft_steps_over_t from, int channels, ft_range_t ys,
                              ft_range_t xs) {
    const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)pitch);
    for (int row = ys.from; row < ys.to; row++) {
        const int8_t *at = from.at + row * from.row + xs.from * from.pixel;
        _Pragma("GCC unroll 1") for (int col = xs.from; col < xs.to; col++) {
            _Pragma("GCC unroll 1") for (int c = 0; c < channels; c += 8) {
                const mve_pred16_t some = vctp16q((uint32_t)(channels - c));
                vstrbq_scatter_offset_p_s16(to + c * pitch, offsets, vldrbq_z_s16(at + c, some), some);
            }
            at += from.pixel;
            to++;
        }
    }
}

FT_INLINE int32_t ft_dots_sum(const int8_t *row, int count) {
    int32_t sum = 0;
    for (int k = 0; k < count; k += 16)
        sum = vaddvaq_s8(sum, vldrbq_s8(row + k));
    return sum;
}

FT_INLINE void ft_dots_2x2(const int8_t *x0, const int8_t *x1, const int8_t *dy0, const int8_t *dy1,
                           int count, int32_t sums[4]) {
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    _Pragma("GCC unroll 1") for (int k = 0; k < count; k += 16) {
        const int8x16_t a = vldrbq_s8(x0 + k), b = vldrbq_s8(x1 + k);
        const int8x16_t c = vldrbq_s8(dy0 + k), d = vldrbq_s8(dy1 + k);
        s0 = vmladavaq_s8(s0, a, c);
        s1 = vmladavaq_s8(s1, a, d);
        s2 = vmladavaq_s8(s2, b, c);
        s3 = vmladavaq_s8(s3, b, d);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

#include "../grad_w_dots_i8.h"

#endif
