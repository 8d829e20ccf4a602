/* Blocks of depthwise convolution: one input and one output channel a group, so vectors run across the
 * groups. Included by conv2d.h, whose functions choose them; weights [tap][channel], order of summation as
 * there. */
#ifndef FT_DEPTHWISE_H
#define FT_DEPTHWISE_H

#include "activation.h"

/* `pixels` x `vectors` outputs, arguments as for ft_conv_block_f32; `channels` is the distance between taps
 * in w. */
FT_INLINE void ft_depthwise_block_f32(const float *x, int x_pixel, ft_map_t xm, const float *w, int channels,
                                      const float *bias, float *y, int y_pixel, int kernel_x, ft_taps_t rows,
                                      ft_taps_t cols, ft_activation_t act, int pixels, int vectors,
                                      int count) {
    ft_vec acc[FT_BLOCK][FT_VECTORS];
    FT_EACH(p, pixels)
        FT_EACH(v, vectors)
            acc[p][v] = bias ? ft_gather(bias + v * FT_LANES, 1, count) : ft_splat(0.0f);
    for (int j = 0; j < rows.n; j++)
        for (int i = 0; i < cols.n; i++) {
            const float *x_tap = x + j * rows.i_step * xm.row + i * cols.i_step * xm.pixel;
            const float *w_tap =
                w + ((rows.k + j * rows.k_step) * kernel_x + cols.k + i * cols.k_step) * channels;
            FT_EACH(v, vectors) {
                const ft_vec weight = ft_gather(w_tap + v * FT_LANES, 1, count);
                FT_EACH(p, pixels)
                    acc[p][v] =
                        ft_fma(ft_gather(x_tap + p * x_pixel + v * FT_LANES, 1, count), weight, acc[p][v]);
            }
        }
    FT_EACH(p, pixels)
        FT_EACH(v, vectors)
            ft_store_activated(y + p * y_pixel + v * FT_LANES, acc[p][v], count, act);
}

/* All channels of `pixels` neighbouring pixels. bias: NULL or one a channel. */
FT_INLINE void ft_depthwise_pixels_f32(const float *x, int x_pixel, ft_map_t xm, const float *w, int channels,
                                       const float *bias, float *y, int y_pixel, int kernel_x, ft_taps_t rows,
                                       ft_taps_t cols, ft_activation_t act, int pixels) {
    for (int c = 0; c < channels;) {
        const int left = channels - c;
        const float *start = bias ? bias + c : NULL;
        if (left >= FT_VECTORS * FT_LANES) {
            ft_depthwise_block_f32(x + c, x_pixel, xm, w + c, channels, start, y + c, y_pixel, kernel_x, rows,
                                   cols, act, pixels, FT_VECTORS, FT_LANES);
            c += FT_VECTORS * FT_LANES;
        } else {
            const int count = left >= FT_LANES ? FT_LANES : left;
            ft_depthwise_block_f32(x + c, x_pixel, xm, w + c, channels, start, y + c, y_pixel, kernel_x, rows,
                                   cols, act, pixels, 1, count);
            c += count;
        }
    }
}

/* Adds to g[0..channels) the gradients of one tap over the pixels ys x xs. */
FT_INLINE void ft_depthwise_grad_w_f32(const float *x, int x_row, int x_pixel, const float *dy, int dy_row,
                                       int dy_pixel, float *g, int channels, ft_range_t ys, ft_range_t xs) {
    for (int c = 0; c < channels; c += FT_LANES) {
        const int count = channels - c >= FT_LANES ? FT_LANES : channels - c;
        ft_vec acc = ft_gather(g + c, 1, count);
        for (int row = ys.from; row < ys.to; row++)
            for (int col = xs.from; col < xs.to; col++)
                acc = ft_fma(ft_gather(x + row * x_row + col * x_pixel + c, 1, count),
                             ft_gather(dy + row * dy_row + col * dy_pixel + c, 1, count), acc);
        ft_scatter(g + c, acc, count);
    }
}

#endif
