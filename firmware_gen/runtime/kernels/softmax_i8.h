/* Softmax over the channels of each pixel, int8, in gemmlowp's fixed-point arithmetic: the bits of TFLite's
 * reference kernel. */
#ifndef FT_SOFTMAX_I8_H
#define FT_SOFTMAX_I8_H

#include "fixed_point.h"
#include "map.h"

/* 1 / (1 + a), both times 2^31, 0 <= a < 1: three Newton-Raphson steps from 48/17 - 32/17 d, d = (1 + a) / 2.
 */
FT_INLINE int32_t ft_one_over_one_plus(int32_t a) {
    const int32_t d = (int32_t)(((int64_t)a + INT32_MAX + 1) >> 1);
    int32_t x = 1515870810 + ft_high_mul(d, -1010580540);
    for (int k = 0; k < 3; k++)
        x += ft_high_mul(x, (1 << 29) - ft_high_mul(d, x)) * 4;
    return x < (1 << 30) ? x * 2 : INT32_MAX;
}

/* y = e^(x - max) / sum in steps of 1/256 from -128, then through `output` unless that is NULL.
 * `exponentials`: e^(-k * scale) times 2^31 for k = 0..255. At most 4095 channels, whose sum fits. y may be
 * x. */
FT_INLINE void ft_softmax_i8(const int8_t *x, ft_map_t xm, const int32_t *exponentials, const int8_t *output,
                             int8_t *y, ft_map_t ym, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int8_t *in = x + row * xm.row + col * xm.pixel;
            int8_t *out = y + row * ym.row + col * ym.pixel;
            int top = in[0];
            for (int c = 1; c < ym.c; c++)
                top = in[c] > top ? in[c] : top;
            int32_t sum = 0; /* times 2^19; the largest value alone gives 2^19 */
            for (int c = 0; c < ym.c; c++)
                sum += ft_divide_by_pot(exponentials[top - in[c]], 12);
            const int zeros = __builtin_clz((uint32_t)sum);
            const int32_t scale = ft_one_over_one_plus((int32_t)(((uint32_t)sum << zeros) - (1u << 31)));
            /* From 512 channels on the sum may be so large that every share rounds to nothing. */
            const int shift = 35 - zeros;
            for (int c = 0; c < ym.c; c++) {
                const int32_t share = ft_high_mul(scale, exponentials[top - in[c]]);
                const int32_t steps = shift > 31 ? 0 : ft_divide_by_pot(share, shift);
                const int8_t byte = (int8_t)ft_clamp_i32(steps - 128, -128, 127);
                out[c] = output != NULL ? output[(uint8_t)byte] : byte;
            }
        }
}

#endif
