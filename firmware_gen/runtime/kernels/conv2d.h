/* Convolution, transposed convolution, fully connected layers (1 x 1 maps) and their gradients, float32.
 *
 * A convolution gathers: an output pixel sums over the taps of its window (rows, then columns, ascending),
 * then over the input channels. A transposed convolution gathers as well: over the taps that reach the output
 * pixel. So the input gradient of either is the other one with the strides of the weights exchanged, and four
 * functions serve both passes.
 *
 * Order of summation, part of the contract: bias or 0, then tap by tap in
 * ascending order, channel by channel; padded taps are left out. Weight gradients: what g holds, then pixel
 * by pixel in raster order.
 */
#ifndef FT_CONV2D_H
#define FT_CONV2D_H

#include "depthwise.h"

/* `in` channels of each group are summed to `out` channels. Weight of tap t, channel i of group n, output o:
 * w[t * w_tap + n * w_group + i * w_in + o * w_out]. */
typedef struct {
    ft_window_t window;
    int groups, in, out;
    int w_tap, w_group, w_in, w_out;
} ft_conv_t;

/* One channel in and out of each of several groups: weights lie [tap][group], whatever the direction. */
FT_INLINE int ft_is_depthwise(ft_conv_t conv) {
    return conv.groups > 1 && conv.in == 1 && conv.out == 1;
}

/* `pixels` x `vectors` outputs. x points at the first tap of the first pixel; neighbouring pixels lie x_pixel
 * apart in x and y_pixel apart in y; bias: NULL or the start values. Constant pixels, vectors. */
FT_INLINE void ft_conv_block_f32(const float *x, int x_pixel, ft_map_t xm, const float *w, const float *bias,
                                 float *y, int y_pixel, ft_conv_t conv, ft_taps_t rows, ft_taps_t cols,
                                 ft_activation_t act, int pixels, int vectors, int count) {
    ft_vec acc[FT_BLOCK][FT_VECTORS];
    FT_EACH(p, pixels)
        FT_EACH(v, vectors)
            acc[p][v] = bias ? ft_gather(bias + v * FT_LANES, 1, count) : ft_splat(0.0f);
    for (int j = 0; j < rows.n; j++) {
        const float *x_row = x + j * rows.i_step * xm.row;
        const int tap_row = (rows.k + j * rows.k_step) * conv.window.kernel_x;
        for (int i = 0; i < cols.n; i++) {
            const float *x_tap = x_row + i * cols.i_step * xm.pixel;
            const float *w_tap = w + (tap_row + cols.k + i * cols.k_step) * conv.w_tap;
            _Pragma("GCC unroll 1") for (int c = 0; c < conv.in; c++) {
                ft_vec weight[FT_VECTORS];
                FT_EACH(v, vectors)
                    weight[v] = ft_gather(w_tap + v * FT_LANES * conv.w_out, conv.w_out, count);
                FT_EACH(p, pixels) {
                    const ft_vec value = ft_splat(x_tap[p * x_pixel + c]);
                    FT_EACH(v, vectors)
                        acc[p][v] = ft_fma(value, weight[v], acc[p][v]);
                }
                w_tap += conv.w_in;
            }
        }
    }
    FT_EACH(p, pixels)
        FT_EACH(v, vectors)
            ft_store_activated(y + p * y_pixel + v * FT_LANES, acc[p][v], count, act);
}

/* All output channels of `pixels` neighbouring pixels. */
FT_INLINE void ft_conv_pixels_f32(const float *x, int x_pixel, ft_map_t xm, const float *w, const float *bias,
                                  float *y, int y_pixel, ft_conv_t conv, ft_taps_t rows, ft_taps_t cols,
                                  ft_activation_t act, int pixels) {
    x += rows.i * xm.row + cols.i * xm.pixel;
    if (ft_is_depthwise(conv)) {
        ft_depthwise_pixels_f32(x, x_pixel, xm, w, conv.groups, bias, y, y_pixel, conv.window.kernel_x, rows,
                                cols, act, pixels);
        return;
    }
    for (int n = 0; n < conv.groups; n++) {
        const float *xg = x + n * conv.in;
        for (int o = 0; o < conv.out;) {
            const int left = conv.out - o;
            const int channel = n * conv.out + o;
            const float *wo = w + n * conv.w_group + o * conv.w_out;
            float *yo = y + channel;
            const float *start = bias ? bias + channel : NULL;
            if (left >= FT_VECTORS * FT_LANES) {
                ft_conv_block_f32(xg, x_pixel, xm, wo, start, yo, y_pixel, conv, rows, cols, act, pixels,
                                  FT_VECTORS, FT_LANES);
                o += FT_VECTORS * FT_LANES;
            } else if (left >= FT_LANES) {
                ft_conv_block_f32(xg, x_pixel, xm, wo, start, yo, y_pixel, conv, rows, cols, act, pixels, 1,
                                  FT_LANES);
                o += FT_LANES;
            } else {
                ft_conv_block_f32(xg, x_pixel, xm, wo, start, yo, y_pixel, conv, rows, cols, act, pixels, 1,
                                  left);
                o += left;
            }
        }
    }
}

/* y[y0..y1) = activation(bias + sum of x * w), direct or transposed window. bias may be NULL. x and y do not
 * overlap. No scratch. */
FT_INLINE void ft_conv_gather_f32(const float *x, ft_map_t xm, const float *w, const float *bias, float *y,
                                  ft_map_t ym, ft_conv_t conv, ft_activation_t act, int y0, int y1,
                                  int transposed) {
    const ft_window_t win = conv.window;
    /* Neighbours whose windows have the same taps: all of a row, or every stride-th column of a transposed
     * one. */
    const int step = transposed ? win.stride_x : 1;
    const int x_pixel = (transposed ? 1 : win.stride_x) * xm.pixel;
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            transposed ? ft_taps_transposed(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h)
                       : ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
        for (int phase = 0; phase < step; phase++)
            for (int col = phase; col < ym.w;) {
                float *yp = y + row * ym.row + col * ym.pixel;
                const int last = col + (FT_BLOCK - 1) * step;
                ft_taps_t cols, far;
                if (transposed) {
                    cols =
                        ft_taps_transposed(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
                    far =
                        ft_taps_transposed(last, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
                } else {
                    cols = ft_taps_direct(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
                    far = ft_taps_direct(last, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
                }
                if (last < ym.w && ft_same_taps(cols, far)) {
                    ft_conv_pixels_f32(x, x_pixel, xm, w, bias, yp, step * ym.pixel, conv, rows, cols, act,
                                       FT_BLOCK);
                    col += FT_BLOCK * step;
                } else {
                    ft_conv_pixels_f32(x, x_pixel, xm, w, bias, yp, step * ym.pixel, conv, rows, cols, act,
                                       1);
                    col += step;
                }
            }
    }
}

FT_INLINE void ft_conv2d_f32(const float *x, ft_map_t xm, const float *w, const float *bias, float *y,
                             ft_map_t ym, ft_conv_t conv, ft_activation_t act, int y0, int y1) {
    ft_conv_gather_f32(x, xm, w, bias, y, ym, conv, act, y0, y1, 0);
}

FT_INLINE void ft_conv2d_transpose_f32(const float *x, ft_map_t xm, const float *w, const float *bias,
                                       float *y, ft_map_t ym, ft_conv_t conv, ft_activation_t act, int y0,
                                       int y1) {
    ft_conv_gather_f32(x, xm, w, bias, y, ym, conv, act, y0, y1, 1);
}

/* `rows` x `vectors` weight gradients of one tap over the pixels ys x xs of the map that the window steps
 * over. */
FT_INLINE void ft_conv_grad_w_block_f32(const float *x, int x_row, int x_pixel, const float *dy, int dy_row,
                                        int dy_pixel, float *g, int g_row, ft_range_t ys, ft_range_t xs,
                                        int rows, int vectors, int count) {
    ft_vec acc[FT_BLOCK][FT_VECTORS];
    FT_EACH(r, rows)
        FT_EACH(v, vectors)
            acc[r][v] = ft_gather(g + r * g_row + v * FT_LANES, 1, count);
    for (int row = ys.from; row < ys.to; row++) {
        const float *xp = x + row * x_row + xs.from * x_pixel;
        const float *dp = dy + row * dy_row + xs.from * dy_pixel;
        _Pragma("GCC unroll 1") for (int col = xs.from; col < xs.to; col++) {
            ft_vec grad[FT_VECTORS];
            FT_EACH(v, vectors)
                grad[v] = ft_gather(dp + v * FT_LANES, 1, count);
            FT_EACH(r, rows) {
                const ft_vec value = ft_splat(xp[r]);
                FT_EACH(v, vectors)
                    acc[r][v] = ft_fma(value, grad[v], acc[r][v]);
            }
            xp += x_pixel;
            dp += dy_pixel;
        }
    }
    FT_EACH(r, rows)
        FT_EACH(v, vectors)
            ft_scatter(g + r * g_row + v * FT_LANES, acc[r][v], count);
}

/* All outputs of `rows` neighbouring weight rows. */
FT_INLINE void ft_conv_grad_w_rows_f32(const float *x, int x_row, int x_pixel, const float *dy, int dy_row,
                                       int dy_pixel, float *g, int g_row, int out, ft_range_t ys,
                                       ft_range_t xs, int rows) {
    for (int o = 0; o < out;) {
        const int left = out - o;
        if (left >= FT_VECTORS * FT_LANES) {
            ft_conv_grad_w_block_f32(x, x_row, x_pixel, dy + o, dy_row, dy_pixel, g + o, g_row, ys, xs, rows,
                                     FT_VECTORS, FT_LANES);
            o += FT_VECTORS * FT_LANES;
        } else if (left >= FT_LANES) {
            ft_conv_grad_w_block_f32(x, x_row, x_pixel, dy + o, dy_row, dy_pixel, g + o, g_row, ys, xs, rows,
                                     1, FT_LANES);
            o += FT_LANES;
        } else {
            ft_conv_grad_w_block_f32(x, x_row, x_pixel, dy + o, dy_row, dy_pixel, g + o, g_row, ys, xs, rows,
                                     1, left);
            o += left;
        }
    }
}

/* Adds to g the weight gradients of one tap and the weight rows c0 <= c < c1, summed over the rows y0 <= row
 * < y1 of the map that the window steps over (dy of a convolution, x of a transposed one).
 *
 * Convolution: weights are [tap][in][groups * out], c counts the channels of a group. Transposed:
 * [tap][groups * in] [out], c counts all input channels. g points at weight row c0 of the tap. */
FT_INLINE void ft_conv_correlate_f32(const float *x, ft_map_t xm, const float *dy, ft_map_t dym, float *g,
                                     ft_conv_t conv, int tap, int c0, int c1, int y0, int y1,
                                     int transposed) {
    const ft_window_t win = conv.window;
    const int ky = tap / win.kernel_x, kx = tap % win.kernel_x;
    const ft_map_t near = transposed ? xm : dym, far = transposed ? dym : xm;
    ft_range_t ys = ft_positions(ky, win.stride_y, win.pad_y, win.dilation_y, far.h, y1);
    const ft_range_t xs = ft_positions(kx, win.stride_x, win.pad_x, win.dilation_x, far.w, near.w);
    ys.from = ys.from > y0 ? ys.from : y0;
    const int offset =
        (ky * win.dilation_y - win.pad_y) * far.row + (kx * win.dilation_x - win.pad_x) * far.pixel;
    const int far_row = win.stride_y * far.row, far_pixel = win.stride_x * far.pixel;
    const int x_row = transposed ? xm.row : far_row, x_pixel = transposed ? xm.pixel : far_pixel;
    const int dy_row = transposed ? far_row : dym.row, dy_pixel = transposed ? far_pixel : dym.pixel;
    if (ft_is_depthwise(conv)) {
        const int from = transposed ? c0 : 0, to = transposed ? c1 : conv.groups;
        ft_depthwise_grad_w_f32(x + from + (transposed ? 0 : offset), x_row, x_pixel,
                                dy + from + (transposed ? offset : 0), dy_row, dy_pixel, g, to - from, ys,
                                xs);
        return;
    }
    for (int n = 0; n < conv.groups; n++) {
        const int first = transposed && c0 < n * conv.in ? n * conv.in : c0;
        const int last = transposed && c1 > (n + 1) * conv.in ? (n + 1) * conv.in : c1;
        const int x_base = transposed ? 0 : n * conv.in + offset;
        const float *d = dy + n * conv.out + (transposed ? offset : 0);
        const int g_row = transposed ? conv.out : conv.groups * conv.out;
        for (int c = first; c < last;) {
            const float *xc = x + x_base + c;
            float *gc = g + (c - c0) * g_row + (transposed ? 0 : n * conv.out);
            const int rows = last - c >= FT_BLOCK ? FT_BLOCK : 1;
            if (rows == FT_BLOCK)
                ft_conv_grad_w_rows_f32(xc, x_row, x_pixel, d, dy_row, dy_pixel, gc, g_row, conv.out, ys, xs,
                                        FT_BLOCK);
            else
                ft_conv_grad_w_rows_f32(xc, x_row, x_pixel, d, dy_row, dy_pixel, gc, g_row, conv.out, ys, xs,
                                        1);
            c += rows;
        }
    }
}

FT_INLINE void ft_conv2d_grad_w_f32(const float *x, ft_map_t xm, const float *dy, ft_map_t dym, float *g,
                                    ft_conv_t conv, int tap, int c0, int c1, int y0, int y1) {
    ft_conv_correlate_f32(x, xm, dy, dym, g, conv, tap, c0, c1, y0, y1, 0);
}

FT_INLINE void ft_conv2d_transpose_grad_w_f32(const float *x, ft_map_t xm, const float *dy, ft_map_t dym,
                                              float *g, ft_conv_t conv, int tap, int c0, int c1, int y0,
                                              int y1) {
    ft_conv_correlate_f32(x, xm, dy, dym, g, conv, tap, c0, c1, y0, y1, 1);
}

/* Adds to g[c] the sum of dy over the rows y0..y1, pixel by pixel. */
FT_INLINE void ft_bias_grad_f32(const float *dy, ft_map_t dym, float *g, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < dym.w; col++)
            for (int c = 0; c < dym.c; c++)
                g[c] = g[c] + dy[row * dym.row + col * dym.pixel + c];
}

#endif
