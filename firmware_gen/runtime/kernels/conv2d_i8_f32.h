/* Convolution of int8 values whose sums become floats: y has no grid, so nothing is rounded to one and
 * nothing saturates. */
#ifndef FT_CONV2D_I8_F32_H
#define FT_CONV2D_I8_F32_H

#include "activation.h"
#include "conv2d_i8.h"
#include "quantize.h"

/* Rows y0 <= row < y1 of y = activation(bias + sum of (x - from.zero) * from.scale * w * scales[channel]).
 * scales: of the weights; sums: of the weights of each output, which the zero point of x is folded with;
 * bias: NULL or real values. One group; arguments else as for ft_conv2d_i8. No scratch. */
FT_INLINE void ft_conv2d_i8_f32(const int8_t *x, ft_map_t xm, const int8_t *padding, ft_grid_t from,
                                const int8_t *w, const float *scales, const int32_t *sums, const float *bias,
                                float *y, ft_map_t ym, ft_conv_t conv, ft_activation_t act, int y0, int y1) {
    const ft_window_t win = conv.window;
    const ft_requantize_t none = {NULL, NULL, NULL, NULL, NULL, 0, 0, 0};
    const ft_conv_i8_t layer = {x, xm, win.stride_x, padding, 0, w, NULL, conv, 0, none, 0};
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int top = row * win.stride_y - win.pad_y, left = col * win.stride_x - win.pad_x;
            const int inside = padding == NULL ||
                               (top >= 0 && left >= 0 && top + (win.kernel_y - 1) * win.dilation_y < xm.h &&
                                left + (win.kernel_x - 1) * win.dilation_x < xm.w);
            const ft_taps_t rows = {0, 1, top, win.dilation_y, win.kernel_y};
            const ft_taps_t cols = {0, 1, left, win.dilation_x, win.kernel_x};
            for (int o = 0; o < ym.c; o++) {
                uint32_t acc[FT_BLOCK_I8][FT_SINGLE_I8];
                acc[0][0] = (uint32_t)(-from.zero * sums[o]);
                ft_conv_taps_i8(acc, layer, 0, o, rows, cols, inside, FT_UNROLL_I8, 1, 1);
                const float real = (float)(int32_t)acc[0][0] * (from.scale * scales[o]);
                y[row * ym.row + col * ym.pixel + o] = ft_activate(bias ? real + bias[o] : real, act);
            }
        }
}

#endif
