/* Convolution, transposed convolution and fully connected layers on int8.
 *
 * acc = bias + sum of products, modulo 2^32: whatever the order, the bits are the same. Then y = acc as a
 * fixed-point number times the channel's factor, plus the zero point of y, clamped to [low, high].
 *
 * Convolution: the products are x * w, a tap in the padding counts as the zero point of x, and the bias holds
 * -zero point * sum of w. Transposed: the products are (x - zero point) * w over the taps that reach the
 * pixel.
 */
#ifndef FT_CONV2D_I8_H
#define FT_CONV2D_I8_H

#include "conv2d.h"
#include "fixed_point.h"

/* Output channels that one inner loop holds in registers. */
#define FT_CHANNELS_I8 (FT_LANES * FT_VECTORS)

/* From sums to outputs, tables of one entry an output channel. rests: NULL, or the 31 bits that follow those
 * of the multipliers; then the product is rounded once (ft_round_once), not twice (ft_requantize).
 * negative_multipliers: NULL, or with negative_shifts the factors of sums below 0. -128 <= low <= high <=
 * 127. */
typedef struct {
    const int32_t *multipliers;
    const int8_t *shifts;
    const int32_t *rests;
    const int32_t *negative_multipliers;
    const int8_t *negative_shifts;
    int32_t zero, low, high;
} ft_requantize_t;

/* sum * (multiplier * 2^31 + rest) * 2^(shift - 62), rounded to nearest with halves away from zero; 2^30 for
 * all that is larger. 0 <= multiplier, rest; -31 <= shift <= 30. */
FT_INLINE int32_t ft_round_once(int32_t sum, int32_t multiplier, int32_t rest, int32_t shift) {
    const uint64_t size = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
    const uint64_t product = size * (uint32_t)multiplier + (size * (uint32_t)rest >> 31);
    const uint64_t rounded = (product + ((uint64_t)1 << (30 - shift))) >> (31 - shift);
    const int32_t limited = rounded < (1u << 30) ? (int32_t)rounded : 1 << 30;
    return sum < 0 ? -limited : limited;
}

/* The output of channel o for the sum acc. */
FT_INLINE int8_t ft_requantized_i8(uint32_t acc, int o, ft_requantize_t to) {
    const int32_t sum = (int32_t)acc;
    const int negative = to.negative_multipliers != NULL && sum < 0;
    const int32_t multiplier = negative ? to.negative_multipliers[o] : to.multipliers[o];
    const int32_t shift = negative ? to.negative_shifts[o] : to.shifts[o];
    const int32_t scaled = to.rests != NULL ? ft_round_once(sum, multiplier, to.rests[o], shift)
                                            : ft_requantize(sum, multiplier, shift);
    return (int8_t)ft_clamp_i32((int32_t)((uint32_t)scaled + (uint32_t)to.zero), to.low, to.high);
}

/* acc[p][k] += (x - zero) * w for one tap, all input channels of a group, `pixels` neighbours that lie
 * x_pixel apart and `count` output channels. Depthwise: channel `first` + k has the input channel / conv.out.
 * Constant pixels, count. */
FT_INLINE void ft_conv_tap_i8(uint32_t acc[FT_BLOCK][FT_CHANNELS_I8], const int8_t *x, int x_pixel,
                              int32_t zero, const int8_t *w, ft_conv_t conv, int first, int pixels,
                              int count) {
    if (conv.in == 1 && conv.groups > 1) {
        for (int p = 0; p < pixels; p++)
            for (int k = 0; k < count; k++)
                acc[p][k] += (uint32_t)((x[p * x_pixel + (first + k) / conv.out] - zero) * w[k]);
        return;
    }
    for (int c = 0; c < conv.in; c++) {
        for (int p = 0; p < pixels; p++) {
            const int32_t value = x[p * x_pixel + c] - zero;
            for (int k = 0; k < count; k++)
                acc[p][k] += (uint32_t)(value * w[k]);
        }
        w += conv.w_in;
    }
}

/* The same where the tap lies in the padding: x is the constant `padding`. */
FT_INLINE void ft_conv_padding_i8(uint32_t acc[FT_BLOCK][FT_CHANNELS_I8], int32_t padding, const int8_t *w,
                                  ft_conv_t conv, int count) {
    for (int c = 0; c < conv.in; c++) {
        for (int k = 0; k < count; k++)
            acc[0][k] += (uint32_t)(padding * w[k]);
        w += conv.w_in;
    }
}

/* Outputs of `count` channels from channel `first` on, `pixels` neighbours. x points at the first tap of the
 * first pixel and w at the weights of channel `first`; neighbouring pixels lie x_pixel apart in x and y_pixel
 * in y. `padding`: the value of the taps that `rows` and `cols` leave out, used if `padded`; then pixels
 * is 1. Constant pixels, count, padded. */
FT_INLINE void ft_conv_block_i8(const int8_t *x, int x_pixel, ft_map_t xm, int32_t zero, const int8_t *w,
                                const int32_t *bias, int8_t *y, int y_pixel, ft_conv_t conv, ft_taps_t rows,
                                ft_taps_t cols, ft_requantize_t to, int first, int pixels, int count,
                                int padded, int32_t padding) {
    uint32_t acc[FT_BLOCK][FT_CHANNELS_I8];
    for (int p = 0; p < pixels; p++)
        for (int k = 0; k < count; k++)
            acc[p][k] = (uint32_t)bias[first + k];
    for (int j = 0; j < rows.n; j++)
        for (int i = 0; i < cols.n; i++) {
            const int tap = (rows.k + j * rows.k_step) * conv.window.kernel_x + cols.k + i * cols.k_step;
            ft_conv_tap_i8(acc, x + j * rows.i_step * xm.row + i * cols.i_step * xm.pixel, x_pixel, zero,
                           w + tap * conv.w_tap, conv, first, pixels, count);
        }
    for (int ky = 0; padded && ky < conv.window.kernel_y; ky++)
        for (int kx = 0; kx < conv.window.kernel_x; kx++) {
            const int on_map = ky >= rows.k && ky < rows.k + rows.n && kx >= cols.k && kx < cols.k + cols.n;
            if (!on_map)
                ft_conv_padding_i8(acc, padding, w + (ky * conv.window.kernel_x + kx) * conv.w_tap, conv,
                                   count);
        }
    for (int p = 0; p < pixels; p++)
        for (int k = 0; k < count; k++)
            y[p * y_pixel + first + k] = ft_requantized_i8(acc[p][k], first + k, to);
}

/* All output channels of `pixels` neighbours; arguments as for ft_conv_block_i8. */
FT_INLINE void ft_conv_pixels_i8(const int8_t *x, int x_pixel, ft_map_t xm, int32_t zero, const int8_t *w,
                                 const int32_t *bias, int8_t *y, int y_pixel, ft_conv_t conv, ft_taps_t rows,
                                 ft_taps_t cols, ft_requantize_t to, int pixels, int padded,
                                 int32_t padding) {
    /* Depthwise weights lie side by side for all groups, and so do their outputs. */
    const int depthwise = conv.in == 1 && conv.groups > 1;
    const int groups = depthwise ? 1 : conv.groups;
    const int out = depthwise ? conv.groups * conv.out : conv.out;
    x += rows.i * xm.row + cols.i * xm.pixel;
    for (int n = 0; n < groups; n++)
        for (int o = 0; o < out;) {
            const int8_t *wo = w + n * conv.w_group + o;
            if (out - o >= FT_CHANNELS_I8) {
                ft_conv_block_i8(x + n * conv.in, x_pixel, xm, zero, wo, bias, y, y_pixel, conv, rows, cols,
                                 to, n * out + o, pixels, FT_CHANNELS_I8, padded, padding);
                o += FT_CHANNELS_I8;
            } else {
                ft_conv_block_i8(x + n * conv.in, x_pixel, xm, zero, wo, bias, y, y_pixel, conv, rows, cols,
                                 to, n * out + o, pixels, out - o, padded, padding);
                o = out;
            }
        }
}

/* Rows y0 <= row < y1 of y. `zero` is the zero point of x. Weight of tap t, channel i of group n, output o:
 * w[t * w_tap + n * w_group + i * w_in + o] (w_out is 1). bias: one an output channel, with the zero point
 * folded in. x and y do not overlap. No scratch. */
FT_INLINE void ft_conv2d_i8(const int8_t *x, ft_map_t xm, int32_t zero, const int8_t *w, const int32_t *bias,
                            int8_t *y, ft_map_t ym, ft_conv_t conv, ft_requantize_t to, int y0, int y1) {
    const ft_window_t win = conv.window;
    const int x_pixel = win.stride_x * xm.pixel;
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
        for (int col = 0; col < ym.w;) {
            int8_t *yp = y + row * ym.row + col * ym.pixel;
            const ft_taps_t cols =
                ft_taps_direct(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
            const ft_taps_t far = ft_taps_direct(col + FT_BLOCK - 1, win.kernel_x, win.stride_x, win.pad_x,
                                                 win.dilation_x, xm.w);
            if (rows.n < win.kernel_y || cols.n < win.kernel_x) {
                ft_conv_pixels_i8(x, x_pixel, xm, 0, w, bias, yp, ym.pixel, conv, rows, cols, to, 1, 1, zero);
                col++;
            } else if (col + FT_BLOCK > ym.w || far.n < win.kernel_x) {
                ft_conv_pixels_i8(x, x_pixel, xm, 0, w, bias, yp, ym.pixel, conv, rows, cols, to, 1, 0, 0);
                col++;
            } else {
                ft_conv_pixels_i8(x, x_pixel, xm, 0, w, bias, yp, ym.pixel, conv, rows, cols, to, FT_BLOCK, 0,
                                  0);
                col += FT_BLOCK;
            }
        }
    }
}

/* The same for a transposed window; bias without the zero point. */
FT_INLINE void ft_conv2d_transpose_i8(const int8_t *x, ft_map_t xm, int32_t zero, const int8_t *w,
                                      const int32_t *bias, int8_t *y, ft_map_t ym, ft_conv_t conv,
                                      ft_requantize_t to, int y0, int y1) {
    const ft_window_t win = conv.window;
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            ft_taps_transposed(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
        /* Neighbours stride_x apart are reached by the same taps. */
        for (int phase = 0; phase < win.stride_x; phase++)
            for (int col = phase; col < ym.w;) {
                int8_t *yp = y + row * ym.row + col * ym.pixel;
                const int last = col + (FT_BLOCK - 1) * win.stride_x;
                const ft_taps_t cols =
                    ft_taps_transposed(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
                const ft_taps_t far =
                    ft_taps_transposed(last, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
                const int block = last < ym.w && ft_same_taps(cols, far);
                if (block)
                    ft_conv_pixels_i8(x, xm.pixel, xm, zero, w, bias, yp, win.stride_x * ym.pixel, conv, rows,
                                      cols, to, FT_BLOCK, 0, 0);
                else
                    ft_conv_pixels_i8(x, xm.pixel, xm, zero, w, bias, yp, win.stride_x * ym.pixel, conv, rows,
                                      cols, to, 1, 0, 0);
                col += (block ? FT_BLOCK : 1) * win.stride_x;
            }
    }
}

#endif
