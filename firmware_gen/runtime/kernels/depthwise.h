/* Blocks of depthwise convolution: one input and one output channel a group, so vectors run across the
 * groups. Included by conv2d.h, whose functions choose them; weights [tap][channel], order of summation as
 * there. */
#ifndef FT_DEPTHWISE_H
#define FT_DEPTHWISE_H

#include "activation.h"
#include "blocks.h"
#include "update.h"

/* `pixels` x `vectors` outputs, arguments as for ft_conv_block_f32; `channels` is the distance between taps
 * in w. */
FT_INLINE void ft_depthwise_block_f32(const float *x, int x_pixel, ft_map_t xm, const float *w, int channels,
                                      const float *start, int start_pixel, float *y, int y_pixel,
                                      int kernel_x, ft_taps_t rows, ft_taps_t cols, ft_activation_t act,
                                      int pixels, int vectors, int count) {
    ft_vec acc[FT_BLOCK_VECTORS];
    ft_block_start(acc, start, start_pixel, pixels, vectors, count);
    for (int j = 0; j < rows.n; j++)
        ft_block_multiply(acc, x + j * rows.i_step * xm.row, x_pixel, cols.i_step * xm.pixel,
                          w + ((rows.k + j * rows.k_step) * kernel_x + cols.k) * channels,
                          cols.k_step * channels, cols.n, pixels, vectors, count);
    FT_EACH(p, pixels)
        FT_EACH(v, vectors)
            ft_store_activated(y + p * y_pixel + v * FT_LANES, acc[p * vectors + v], count, act);
}

/* How many neighbouring pixels share the weights that are loaded: where one pixel's block is as fast as
 * several's, one does for the border as well. */
FT_INLINE int ft_depthwise_pixels(int channels) {
    return FT_VFP && channels >= FT_STRIP ? 1 : FT_BLOCK;
}

/* All channels of `pixels` neighbouring pixels. start: NULL or the first pixel's start values. */
FT_INLINE void ft_depthwise_pixels_f32(const float *x, int x_pixel, ft_map_t xm, const float *w, int channels,
                                       const float *start, int start_pixel, float *y, int y_pixel,
                                       int kernel_x, ft_taps_t rows, ft_taps_t cols, ft_activation_t act,
                                       int pixels) {
    const int most = pixels == 1 ? FT_STRIP : FT_VECTORS;
    for (int c = 0; c < channels;) {
        const int left = channels - c;
        const float *from = start ? start + c : NULL;
        if (left >= most * FT_LANES) {
            ft_depthwise_block_f32(x + c, x_pixel, xm, w + c, channels, from, start_pixel, y + c, y_pixel,
                                   kernel_x, rows, cols, act, pixels, most, FT_LANES);
            c += most * FT_LANES;
        } else {
            const int count = left >= FT_LANES ? FT_LANES : left;
            ft_depthwise_block_f32(x + c, x_pixel, xm, w + c, channels, from, start_pixel, y + c, y_pixel,
                                   kernel_x, rows, cols, act, pixels, 1, count);
            c += count;
        }
    }
}

/* Gradients of `vectors` vectors of weights, see ft_depthwise_grad_w_f32. */
FT_INLINE void ft_depthwise_grad_w_block_f32(const float *x, int x_row, int x_pixel, const float *dy,
                                             int dy_row, int dy_pixel, ft_sink_t to, int at, ft_range_t ys,
                                             ft_range_t xs, int vectors, int count) {
    ft_vec acc[FT_BLOCK_VECTORS];
    ft_block_start(acc, to.g ? to.g + at : NULL, 0, 1, vectors, count);
    for (int row = ys.from; row < ys.to; row++)
        ft_block_multiply(acc, x + row * x_row + xs.from * x_pixel, 0, x_pixel,
                          dy + row * dy_row + xs.from * dy_pixel, dy_pixel, xs.to - xs.from, 1, vectors,
                          count);
    FT_EACH(v, vectors)
        ft_sink_finish(to, at + v * FT_LANES, acc[v], count);
}

/* The gradients of one tap over the pixels ys x xs, which go to the place `at` of the sink. */
FT_INLINE void ft_depthwise_grad_w_f32(const float *x, int x_row, int x_pixel, const float *dy, int dy_row,
                                       int dy_pixel, ft_sink_t to, int at, int channels, ft_range_t ys,
                                       ft_range_t xs) {
    for (int c = 0; c < channels;) {
        const int left = channels - c;
        if (left >= FT_STRIP * FT_LANES) {
            ft_depthwise_grad_w_block_f32(x + c, x_row, x_pixel, dy + c, dy_row, dy_pixel, to, at + c, ys, xs,
                                          FT_STRIP, FT_LANES);
            c += FT_STRIP * FT_LANES;
        } else {
            const int count = left >= FT_LANES ? FT_LANES : left;
            ft_depthwise_grad_w_block_f32(x + c, x_row, x_pixel, dy + c, dy_row, dy_pixel, to, at + c, ys, xs,
                                          1, count);
            c += count;
        }
    }
}

#endif
