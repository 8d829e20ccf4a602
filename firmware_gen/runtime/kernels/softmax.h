/* Softmax over the channels of each pixel and its gradient, float32. */
#ifndef FT_SOFTMAX_H
#define FT_SOFTMAX_H

#include "ft_math.h"
#include "map.h"

/* y = e^(x - max) / sum, channels summed in ascending order. y may be x. */
FT_INLINE void ft_softmax_f32(const float *x, ft_map_t xm, float *y, ft_map_t ym, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const float *in = x + row * xm.row + col * xm.pixel;
            float *out = y + row * ym.row + col * ym.pixel;
            float top = in[0], sum = 0.0f;
            for (int c = 1; c < ym.c; c++)
                top = in[c] > top ? in[c] : top;
            for (int c = 0; c < ym.c; c++) {
                out[c] = ft_expf(in[c] - top);
                sum = sum + out[c];
            }
            for (int c = 0; c < ym.c; c++)
                out[c] = out[c] / sum;
        }
}

/* dx = y * (dy - sum(dy * y)). dx may be dy. */
FT_INLINE void ft_softmax_grad_f32(const float *dy, ft_map_t dym, const float *y, ft_map_t ym, float *dx,
                                   ft_map_t dxm, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const float *d = dy + row * dym.row + col * dym.pixel;
            const float *p = y + row * ym.row + col * ym.pixel;
            float *out = dx + row * dxm.row + col * dxm.pixel;
            float sum = 0.0f;
            for (int c = 0; c < ym.c; c++)
                sum = __builtin_fmaf(d[c], p[c], sum);
            for (int c = 0; c < ym.c; c++)
                out[c] = p[c] * (d[c] - sum);
        }
}

#endif
