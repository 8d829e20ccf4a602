/* Convolution, transposed convolution, fully connected layers (1 x 1 maps) and their gradients, float32.
 *
 * A convolution gathers: an output pixel sums over the taps of its window (rows, then columns, ascending),
 * then over the input channels. A transposed convolution gathers as well: over the taps that reach the output
 * pixel. So the input gradient of either is the other one with the strides of the weights exchanged, and four
 * functions serve both passes.
 *
 * Order of summation, part of the contract: the start value (bias, another part of the sum, or 0), then tap
 * by tap in ascending order, channel by channel; padded taps are left out. Weight gradients: what g holds,
 * then pixel by pixel in raster order.
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
 * apart in x and y_pixel apart in y; start: NULL or the start values, start_pixel apart. Constant pixels,
 * vectors, count. */
FT_INLINE void ft_conv_block_f32(const float *x, int x_pixel, ft_map_t xm, const float *w, const float *start,
                                 int start_pixel, float *y, int y_pixel, ft_conv_t conv, ft_taps_t rows,
                                 ft_taps_t cols, ft_activation_t act, int pixels, int vectors, int count) {
    /* The taps of a row can be one run of values and weights. */
    const int whole = conv.groups == 1 && xm.pixel == conv.in && cols.i_step == 1 && cols.k_step == 1 &&
                      conv.w_tap == conv.in * conv.w_in;
    const int runs = whole ? 1 : cols.n, length = whole ? cols.n * conv.in : conv.in;
    ft_vec acc[FT_BLOCK_VECTORS];
    ft_block_start(acc, start, start_pixel, pixels, vectors, count);
    for (int j = 0; j < rows.n; j++) {
        const float *x_row = x + j * rows.i_step * xm.row;
        const int tap_row = (rows.k + j * rows.k_step) * conv.window.kernel_x;
        for (int i = 0; i < runs; i++)
            ft_block_matmul(acc, x_row + i * cols.i_step * xm.pixel, x_pixel,
                            w + (tap_row + cols.k + i * cols.k_step) * conv.w_tap, conv.w_in, conv.w_out,
                            length, pixels, vectors, count);
    }
    FT_EACH(p, pixels)
        FT_EACH(v, vectors)
            ft_store_activated(y + p * y_pixel + v * FT_LANES, acc[p * vectors + v], count, act);
}

/* All output channels of `pixels` neighbouring pixels. */
FT_INLINE void ft_conv_pixels_f32(const float *x, int x_pixel, ft_map_t xm, const float *w,
                                  const float *start, int start_pixel, float *y, int y_pixel, ft_conv_t conv,
                                  ft_taps_t rows, ft_taps_t cols, ft_activation_t act, int pixels) {
    x += rows.i * xm.row + cols.i * xm.pixel;
    if (ft_is_depthwise(conv)) {
        ft_depthwise_pixels_f32(x, x_pixel, xm, w, conv.groups, start, start_pixel, y, y_pixel,
                                conv.window.kernel_x, rows, cols, act, pixels);
        return;
    }
    const int most = pixels == 1 ? FT_SINGLE : FT_VECTORS;
    for (int n = 0; n < conv.groups; n++) {
        const float *xg = x + n * conv.in;
        for (int o = 0; o < conv.out;) {
            const int left = conv.out - o;
            const int channel = n * conv.out + o;
            const float *wo = w + n * conv.w_group + o * conv.w_out;
            float *yo = y + channel;
            const float *from = start ? start + channel : NULL;
            if (left >= most * FT_LANES) {
                ft_conv_block_f32(xg, x_pixel, xm, wo, from, start_pixel, yo, y_pixel, conv, rows, cols, act,
                                  pixels, most, FT_LANES);
                o += most * FT_LANES;
            } else if (left >= FT_LANES) {
                ft_conv_block_f32(xg, x_pixel, xm, wo, from, start_pixel, yo, y_pixel, conv, rows, cols, act,
                                  pixels, 1, FT_LANES);
                o += FT_LANES;
            } else {
                ft_conv_block_f32(xg, x_pixel, xm, wo, from, start_pixel, yo, y_pixel, conv, rows, cols, act,
                                  pixels, 1, left);
                o += left;
            }
        }
    }
}

/* y[y0..y1) = activation(start + sum of x * w), direct or transposed window. start: NULL, or the values of
 * row 0, rows and pixels start_row and start_pixel apart (a bias: 0 apart). It may be y with its strides. x
 * and y do not overlap. No scratch. */
FT_INLINE void ft_conv_gather_f32(const float *x, ft_map_t xm, const float *w, const float *start,
                                  int start_row, int start_pixel, float *y, ft_map_t ym, ft_conv_t conv,
                                  ft_activation_t act, int y0, int y1, int transposed) {
    const ft_window_t win = conv.window;
    if (ft_is_pointwise(win) && ft_is_one_run(xm) && ft_is_one_run(ym) && start_row == ym.w * start_pixel) {
        /* All rows are one, of which fewer pixels are left over. */
        x += y0 * xm.row;
        start = start ? start + y0 * start_row : NULL;
        y += y0 * ym.row;
        xm.w = ym.w = (y1 - y0) * ym.w;
        xm.h = y1 = 1;
        y0 = 0;
    }
    /* Neighbours whose windows have the same taps: all of a row, or every stride-th column of a transposed
     * one. */
    const int step = transposed ? win.stride_x : 1;
    const int block = ft_is_depthwise(conv) ? ft_depthwise_pixels(conv.groups) : FT_BLOCK;
    const int x_pixel = (transposed ? 1 : win.stride_x) * xm.pixel;
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            transposed ? ft_taps_transposed(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h)
                       : ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
        for (int phase = 0; phase < step; phase++)
            for (int col = phase; col < ym.w;) {
                float *yp = y + row * ym.row + col * ym.pixel;
                const float *sp = start ? start + row * start_row + col * start_pixel : NULL;
                const int last = col + (block - 1) * step;
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
                if (block > 1 && last < ym.w && ft_same_taps(cols, far)) {
                    ft_conv_pixels_f32(x, x_pixel, xm, w, sp, step * start_pixel, yp, step * ym.pixel, conv,
                                       rows, cols, act, block);
                    col += block * step;
                } else {
                    ft_conv_pixels_f32(x, x_pixel, xm, w, sp, step * start_pixel, yp, step * ym.pixel, conv,
                                       rows, cols, act, 1);
                    col += step;
                }
            }
    }
}

FT_INLINE void ft_conv2d_f32(const float *x, ft_map_t xm, const float *w, const float *bias, float *y,
                             ft_map_t ym, ft_conv_t conv, ft_activation_t act, int y0, int y1) {
    ft_conv_gather_f32(x, xm, w, bias, 0, 0, y, ym, conv, act, y0, y1, 0);
}

/* y[y0..y1) = activation(what `part`, a map of y's shape, holds + sum of x * w). `part` may be y with its
 * strides. */
FT_INLINE void ft_conv2d_onto_f32(const float *x, ft_map_t xm, const float *w, const float *part, ft_map_t pm,
                                  float *y, ft_map_t ym, ft_conv_t conv, ft_activation_t act, int y0,
                                  int y1) {
    ft_conv_gather_f32(x, xm, w, part, pm.row, pm.pixel, y, ym, conv, act, y0, y1, 0);
}

FT_INLINE void ft_conv2d_transpose_f32(const float *x, ft_map_t xm, const float *w, const float *bias,
                                       float *y, ft_map_t ym, ft_conv_t conv, ft_activation_t act, int y0,
                                       int y1) {
    ft_conv_gather_f32(x, xm, w, bias, 0, 0, y, ym, conv, act, y0, y1, 1);
}

FT_INLINE void ft_conv2d_transpose_onto_f32(const float *x, ft_map_t xm, const float *w, const float *part,
                                            ft_map_t pm, float *y, ft_map_t ym, ft_conv_t conv,
                                            ft_activation_t act, int y0, int y1) {
    ft_conv_gather_f32(x, xm, w, part, pm.row, pm.pixel, y, ym, conv, act, y0, y1, 1);
}

/* `rows` x `vectors` weight gradients of one tap over the pixels ys x xs of the map that the window steps
 * over; `at` is the place of the first in the sink, where rows lie `pitch` apart. */
FT_INLINE void ft_conv_grad_w_block_f32(const float *x, int x_row, int x_pixel, const float *dy, int dy_row,
                                        int dy_pixel, ft_sink_t to, int at, int pitch, ft_range_t ys,
                                        ft_range_t xs, int rows, int vectors, int count) {
    ft_vec acc[FT_BLOCK_VECTORS];
    ft_block_start(acc, NULL, 0, rows, vectors, count);
    if (to.g)
        FT_EACH(r, rows)
            FT_EACH(v, vectors)
                acc[r * vectors + v] = ft_gather(to.g + at + r * pitch + v * FT_LANES, 1, count);
    for (int row = ys.from; row < ys.to; row++)
        ft_block_outer(acc, x + row * x_row + xs.from * x_pixel, x_pixel,
                       dy + row * dy_row + xs.from * dy_pixel, dy_pixel, xs.to - xs.from, rows, vectors,
                       count);
    FT_EACH(r, rows)
        FT_EACH(v, vectors)
            ft_sink_finish(to, at + r * pitch + v * FT_LANES, acc[r * vectors + v], count);
}

/* All outputs of `rows` neighbouring weight rows. */
FT_INLINE void ft_conv_grad_w_rows_f32(const float *x, int x_row, int x_pixel, const float *dy, int dy_row,
                                       int dy_pixel, ft_sink_t to, int at, int pitch, int out, ft_range_t ys,
                                       ft_range_t xs, int rows) {
    for (int o = 0; o < out;) {
        const int left = out - o;
        if (left >= FT_VECTORS * FT_LANES) {
            ft_conv_grad_w_block_f32(x, x_row, x_pixel, dy + o, dy_row, dy_pixel, to, at + o, pitch, ys, xs,
                                     rows, FT_VECTORS, FT_LANES);
            o += FT_VECTORS * FT_LANES;
        } else if (left >= FT_LANES) {
            ft_conv_grad_w_block_f32(x, x_row, x_pixel, dy + o, dy_row, dy_pixel, to, at + o, pitch, ys, xs,
                                     rows, 1, FT_LANES);
            o += FT_LANES;
        } else {
            ft_conv_grad_w_block_f32(x, x_row, x_pixel, dy + o, dy_row, dy_pixel, to, at + o, pitch, ys, xs,
                                     rows, 1, left);
            o += left;
        }
    }
}

/* The weight gradients of one tap and of output channels o0..o1 of each group, summed over the rows y0..y1 of
 * the map that the window steps over (dy of a convolution, x of a transposed one), which go to the place `at`
 * of the sink. Depthwise layers have no such channels.
 *
 * Convolution: weights are [tap][in][groups * out]. Transposed: [tap][groups * in][out]. */
FT_INLINE void ft_conv_tap_grad_w_f32(const float *x, ft_map_t xm, const float *dy, ft_map_t dym,
                                      ft_sink_t to, int at, ft_conv_t conv, int ky, int kx, int transposed,
                                      int o0, int o1, int y0, int y1) {
    const ft_window_t win = conv.window;
    const ft_map_t near = transposed ? xm : dym, far = transposed ? dym : xm;
    ft_range_t ys = ft_positions(ky, win.stride_y, win.pad_y, win.dilation_y, far.h, near.h);
    ft_range_t xs = ft_positions(kx, win.stride_x, win.pad_x, win.dilation_x, far.w, near.w);
    const int offset =
        (ky * win.dilation_y - win.pad_y) * far.row + (kx * win.dilation_x - win.pad_x) * far.pixel;
    const int far_row = win.stride_y * far.row, far_pixel = win.stride_x * far.pixel;
    const int x_row = transposed ? xm.row : far_row, x_pixel = transposed ? xm.pixel : far_pixel;
    const int dy_row = transposed ? far_row : dym.row, dy_pixel = transposed ? far_pixel : dym.pixel;
    ys.from = ys.from > y0 ? ys.from : y0;
    ys.to = ys.to < y1 ? ys.to : y1;
    if (ft_is_pointwise(win) && ft_is_one_run(xm) && ft_is_one_run(dym)) {
        xs = (ft_range_t){ys.from * xs.to, ys.to * xs.to};
        ys = (ft_range_t){0, 1};
    }
    if (ft_is_depthwise(conv)) {
        ft_depthwise_grad_w_f32(x + (transposed ? 0 : offset), x_row, x_pixel, dy + (transposed ? offset : 0),
                                dy_row, dy_pixel, to, at, conv.groups, ys, xs);
        return;
    }
    const int pitch = transposed ? conv.out : conv.groups * conv.out;
    for (int n = 0; n < conv.groups; n++) {
        const float *xg = x + n * conv.in + (transposed ? 0 : offset);
        const float *d = dy + n * conv.out + o0 + (transposed ? offset : 0);
        const int first = at + o0 + (transposed ? n * conv.in * pitch : n * conv.out);
        int c = 0;
        for (; c + FT_BLOCK <= conv.in; c += FT_BLOCK)
            ft_conv_grad_w_rows_f32(xg + c, x_row, x_pixel, d, dy_row, dy_pixel, to, first + c * pitch, pitch,
                                    o1 - o0, ys, xs, FT_BLOCK);
        for (; c < conv.in; c++)
            ft_conv_grad_w_rows_f32(xg + c, x_row, x_pixel, d, dy_row, dy_pixel, to, first + c * pitch, pitch,
                                    o1 - o0, ys, xs, 1);
    }
}

FT_INLINE void ft_conv_grad_w_f32(const float *x, ft_map_t xm, const float *dy, ft_map_t dym, ft_sink_t to,
                                  ft_conv_t conv, int transposed, int o0, int o1, int y0, int y1) {
    const int width = conv.window.kernel_x;
    _Pragma("GCC unroll 1") for (int ky = 0; ky < conv.window.kernel_y; ky++)
        _Pragma("GCC unroll 1") for (int kx = 0; kx < width; kx++) ft_conv_tap_grad_w_f32(
            x, xm, dy, dym, to, (ky * width + kx) * conv.w_tap, conv, ky, kx, transposed, o0, o1, y0, y1);
}

/* The weight gradients of a convolution with input x and output gradient dy, of its output channels o0..o1
 * (of each group) and rows y0..y1 of dy, go to the sink. Where that adds to g, rows may come in several
 * calls, ascending: the same sums. No scratch. */
FT_INLINE void ft_conv2d_grad_w_f32(const float *x, ft_map_t xm, const float *dy, ft_map_t dym, ft_sink_t to,
                                    ft_conv_t conv, int o0, int o1, int y0, int y1) {
    ft_conv_grad_w_f32(x, xm, dy, dym, to, conv, 0, o0, o1, y0, y1);
}

/* The same of a transposed convolution, of rows y0..y1 of x. */
FT_INLINE void ft_conv2d_transpose_grad_w_f32(const float *x, ft_map_t xm, const float *dy, ft_map_t dym,
                                              ft_sink_t to, ft_conv_t conv, int o0, int o1, int y0, int y1) {
    ft_conv_grad_w_f32(x, xm, dy, dym, to, conv, 1, o0, o1, y0, y1);
}

/* The bias gradients of `vectors` vectors of channels from `at` on. */
FT_INLINE void ft_bias_grad_block_f32(const float *dy, ft_map_t dym, ft_sink_t to, int at, int vectors,
                                      int count, int y0, int y1) {
    ft_vec acc[FT_SINGLE];
    FT_EACH(v, vectors)
        acc[v] = to.g ? ft_gather(to.g + at + v * FT_LANES, 1, count) : ft_splat(0.0f);
    for (int row = y0; row < y1; row++) {
        const float *d = dy + row * dym.row + at;
        _Pragma("GCC unroll 1") for (int col = 0; col < dym.w; col++) {
            FT_EACH(v, vectors)
                acc[v] = acc[v] + ft_gather(d + v * FT_LANES, 1, count);
            d += dym.pixel;
        }
    }
    FT_EACH(v, vectors)
        ft_sink_finish(to, at + v * FT_LANES, acc[v], count);
}

/* The bias gradients of channels c0..c1, sums of rows y0..y1 of dy pixel by pixel, go to the sink, as weight
 * gradients do. No scratch. */
FT_INLINE void ft_bias_grad_f32(const float *dy, ft_map_t dym, ft_sink_t to, int c0, int c1, int y0, int y1) {
    for (int c = c0; c < c1;) {
        const int left = c1 - c;
        if (left >= FT_SINGLE * FT_LANES) {
            ft_bias_grad_block_f32(dy, dym, to, c, FT_SINGLE, FT_LANES, y0, y1);
            c += FT_SINGLE * FT_LANES;
        } else {
            const int count = left >= FT_LANES ? FT_LANES : left;
            ft_bias_grad_block_f32(dy, dym, to, c, 1, count, y0, y1);
            c += count;
        }
    }
}

#endif
