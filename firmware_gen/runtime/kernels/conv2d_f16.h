/* Convolution, transposed convolution and their gradients with products in binary16 and sums in binary16 and
 * float32: for GAP9's cores, which multiply and add two pairs of binary16 in one instruction, and with the
 * same bits everywhere. Maps, weights and gradients lie in memory as they do for conv2d.h.
 *
 * The contract:
 * - Values are rounded to binary16 after they were multiplied by a power of two, which brings the largest one
 *   of those that have it in common to at least 2^(t-1) and below 2^t: t = 5 for x, 4 for weights; in weight
 *   gradients 5 for the map that the window steps over (dy; of a transposed layer x) and 4 for the other one.
 *   So a chain stays below 2^15, and what is not smaller than 2^-17 times the largest keeps 11 bits.
 * - A chain starts from 0 and has at most FT_CHAIN_F16 fused multiply-adds in binary16. Padded taps, and
 *   channels that fill up a word, add products with 0. The chain's sum, a float, is divided by the powers and
 *   added in float32.
 * - Outputs: the values of a row of x have one power, the weights of an output channel have one. Each row of
 *   the window that lies on the map gives chains of its own, rows in ascending order of taps: column of x
 *   by column, ascending, and channel by channel, those with an even number in one chain and the odd ones in
 *   another one beside it. Both are added, then to the output's sum, which starts from 0. In the end it is
 * divided by the weights' power and added to the start value in one fused multiply-add. Padding beside the
 * map is summed.
 * - Weight gradients: rows of the map that the window steps over are taken in groups, counted from row 0;
 *   each group gives a chain, pixel by pixel in raster order, or several where a row is longer than a chain.
 *   Four channels of x that follow one another (the first a multiple of 4) have one power in all rows that
 *   the group's windows see, eight of dy in the group's rows; or the other way round if transposed. Columns
 *   in the padding are summed, rows are left out. The sum starts from what g holds, or from 0.
 */
#ifndef FT_CONV2D_F16_H
#define FT_CONV2D_F16_H

#include "conv2d.h"
#include "half.h"

#define FT_CHAIN_F16      64 /* 64 * 2^5 * 2^4 = 2^15 */
#define FT_TOP_F16        5
#define FT_TOP_W_F16      4
#define FT_BLOCK_F16      4    /* pixels and channels of a block of outputs */
#define FT_SLAB_BYTES_F16 2304 /* of weights that lie in scratch at once, or those of a block */

/* Weights in float32, or in bf16, or frozen ones as ft_pack_f16 makes them of all channels, with a unit for
 * each. Which pointer is not NULL is a constant. */
typedef struct {
    const float *f32;
    const uint16_t *bf16;
    const uint32_t *packed;
    const float *units;
} ft_weights_f16_t;

FT_INLINE float ft_weight_f16(ft_weights_f16_t w, int at) {
    return w.f32 ? w.f32[at] : ft_bf16_to_float(w.bf16[at]);
}

/* What values are multiplied by, and its inverse. */
typedef struct {
    float up, unit;
} ft_power_f16_t;

/* The power of two that brings values, the largest of which has these bits without its sign, below 2^top:
 * as far as it and its inverse are normal numbers. */
FT_INLINE ft_power_f16_t ft_power_f16(uint32_t largest, int top) {
    const int biased = (int)(largest >> 23), exponent = top + 126 - (biased > 8 ? biased : 8);
    return (ft_power_f16_t){ft_bits_to_float((uint32_t)(127 + exponent) << 23),
                            ft_bits_to_float((uint32_t)(127 - exponent) << 23)};
}

/* The larger one of `largest` and the bits of x without its sign. */
FT_INLINE uint32_t ft_larger_f16(uint32_t largest, float x) {
    const uint32_t size = ft_float_to_bits(x) & 0x7fffffffu;
#if FT_HALF_XPULP
    return (uint32_t)ft_max_xpulp((int32_t)largest, (int32_t)size);
#else
    return largest > size ? largest : size;
#endif
}

/* The largest magnitude among `channels` channels of `pixels` pixels. */
FT_INLINE uint32_t ft_largest_f16(const float *x, int pixels, int x_pixel, int channels, uint32_t largest) {
    if (x_pixel == channels) {
        channels *= pixels;
        pixels = 1;
    }
    _Pragma("GCC unroll 1") for (int p = 0; p < pixels; p++, x += x_pixel) FT_PRODUCTS(c, channels) largest =
        ft_larger_f16(largest, x[c]);
    return largest;
}

/* `channels` channels of `pixels` pixels, multiplied by `up`, as words of two, of which a pixel takes
 * `words`; what is left of them is 0. */
FT_INLINE void ft_halve_f16(const float *x, int pixels, int x_pixel, int channels, float up, uint32_t *y,
                            int words) {
    if (x_pixel == channels && channels == 2 * words) {
        channels *= pixels;
        words *= pixels;
        pixels = 1;
    }
    const int whole = channels / 2;
    _Pragma("GCC unroll 1") for (int p = 0; p < pixels; p++, x += x_pixel, y += words) {
        FT_PRODUCTS(k, whole) y[k] = ft_halves(ft_single_mul(x[2 * k], up), ft_single_mul(x[2 * k + 1], up));
        for (int k = whole; k < words; k++)
            y[k] = 2 * k < channels ? ft_halves(ft_single_mul(x[2 * k], up), 0.0f) : 0;
    }
}

/* A row of a map, `wide` pixels from column `first` on, as words; 0 beside the map. */
FT_INLINE void ft_halve_row_f16(const float *row, ft_map_t xm, int channels, float up, uint32_t *y, int words,
                                int first, int wide) {
    const int left = first < 0 ? -first : 0, end = first + wide < xm.w ? first + wide : xm.w;
    const int inside = end > first + left ? end - first - left : 0;
    for (int k = 0; k < (left < wide ? left : wide) * words; k++)
        y[k] = 0;
    if (inside > 0)
        ft_halve_f16(row + (first + left) * xm.pixel, inside, xm.pixel, channels, up, y + left * words,
                     words);
    for (int k = (left + inside) * words; k < wide * words; k++)
        y[k] = 0;
}

/* ---- Outputs ---- */

/* The columns of a row of x that lie in scratch, and the taps by which an output pixel reads them. `first`:
 * its first column; `wide`: how many; x_pixel: from one output pixel to the next of a block. */
typedef struct {
    int first, wide, x_pixel;
} ft_line_f16_t;

FT_INLINE int ft_up_f16(int count, int to) {
    return (count + to - 1) / to * to;
}

/* Quotient of integers, rounded down. */
FT_INLINE int ft_down_f16(int a, int b) {
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

FT_INLINE ft_line_f16_t ft_line_f16(ft_window_t win, int y_columns, int transposed) {
    const int span = (win.kernel_x - 1) * win.dilation_x;
    if (!transposed) {
        const int last = (ft_up_f16(y_columns, FT_BLOCK_F16) - 1) * win.stride_x;
        return (ft_line_f16_t){-win.pad_x, last + span + 1, win.stride_x};
    }
    const int of_phase = ft_up_f16((y_columns + win.stride_x - 1) / win.stride_x, FT_BLOCK_F16);
    const int first = ft_down_f16(win.pad_x - span, win.stride_x);
    const int last = (win.stride_x - 1 + win.pad_x) / win.stride_x + of_phase - 1;
    return (ft_line_f16_t){first, last - first + 1, 1};
}

/* Rows of x that lie in scratch at once. */
FT_INLINE int ft_lines_f16(ft_window_t win, int transposed) {
    const int span = (win.kernel_y - 1) * win.dilation_y;
    return (transposed ? span / win.stride_y : span) + 1;
}

/* Words of a pixel of x. */
FT_INLINE int ft_words_f16(ft_conv_t conv) {
    return (conv.in + 1) / 2;
}

/* Words of the weights of four output channels. */
FT_INLINE int ft_block_words_f16(ft_conv_t conv) {
    return conv.window.kernel_y * conv.window.kernel_x * ft_words_f16(conv) * FT_BLOCK_F16;
}

/* Output channels whose weights lie in scratch at once. */
FT_INLINE int ft_slab_f16(ft_conv_t conv) {
    const int most = FT_SLAB_BYTES_F16 / (4 * ft_block_words_f16(conv)) * FT_BLOCK_F16;
    const int all = ft_up_f16(conv.out, FT_BLOCK_F16), some = most > all ? all : most;
    return some > FT_BLOCK_F16 ? some : FT_BLOCK_F16;
}

/* Weights of `count` <= 4 output channels as [tap][words][4 channels], what is missing 0, and their units.
 * Columns of a transposed window lie in descending order, which is the ascending one in x. */
FT_INLINE void ft_pack_f16(ft_weights_f16_t w, ft_conv_t conv, int o, int count, int transposed,
                           uint32_t *packed, float units[FT_BLOCK_F16]) {
    const int taps = conv.window.kernel_y * conv.window.kernel_x, words = ft_words_f16(conv);
    for (int k = 0; k < FT_BLOCK_F16; k++) {
        const int from = (o + k) * conv.w_out;
        uint32_t largest = 0, *to = packed + k;
        if (k < count)
            for (int t = 0; t < taps; t++)
                FT_PRODUCTS(i, conv.in)
        largest = ft_larger_f16(largest, ft_weight_f16(w, from + t * conv.w_tap + i * conv.w_in));
        const ft_power_f16_t power = ft_power_f16(largest, FT_TOP_W_F16);
        units[k] = power.unit;
        for (int t = 0; t < taps; t++) {
            const int kx = t % conv.window.kernel_x;
            const int tap = transposed ? t - kx + conv.window.kernel_x - 1 - kx : t;
            int at = from + tap * conv.w_tap;
            _Pragma("GCC unroll 1") for (int i = 0; i < words; i++, at += 2 * conv.w_in, to += FT_BLOCK_F16) {
                const float low = k < count ? ft_weight_f16(w, at) : 0.0f;
                const float high = k < count && 2 * i + 1 < conv.in ? ft_weight_f16(w, at + conv.w_in) : 0.0f;
                *to = ft_halves(ft_single_mul(low, power.up), ft_single_mul(high, power.up));
            }
        }
    }
}

/* sums[p][o] of four pixels, whose windows' rows begin at `x`, and of four channels: adds what one row of the
 * window gives. cols: its taps, i the first one's column. */
FT_INLINE void ft_window_row_f16(float sums[4][4], const uint32_t *x, int x_pixel, const uint32_t *w,
                                 int words, ft_taps_t cols, float unit) {
    ft_eight_t acc[4];
    x += cols.i * words;
    w += cols.k * words * FT_BLOCK_F16;
    if (cols.n == 1 || (cols.i_step == 1 && cols.k_step == 1)) { /* one run of values and of weights */
        const int length = cols.n * words;
        _Pragma("GCC unroll 1") for (int done = 0; done < length; done += FT_CHAIN_F16) {
            const int n = length - done < FT_CHAIN_F16 ? length - done : FT_CHAIN_F16;
            ft_eight_dots(acc, 1, x + done, x_pixel * words, w + done * FT_BLOCK_F16, n);
            ft_eight_add_pairs(sums, acc, unit);
        }
        return;
    }
    int left = FT_CHAIN_F16;
    ft_eight_clear(acc);
    for (int r = 0; r < cols.n; r++) {
        for (int done = 0; done < words;) {
            const int n = words - done < left ? words - done : left;
            ft_eight_dots(acc, 0, x + done, x_pixel * words, w + done * FT_BLOCK_F16, n);
            done += n;
            left -= n;
            if (left == 0) {
                ft_eight_add_pairs(sums, acc, unit);
                ft_eight_clear(acc);
                left = FT_CHAIN_F16;
            }
        }
        x += cols.i_step * words;
        w += cols.k_step * words * FT_BLOCK_F16;
    }
    if (left < FT_CHAIN_F16)
        ft_eight_add_pairs(sums, acc, unit);
}

/* Where the rows of x lie in scratch: row i in line i % lines. */
typedef struct {
    uint32_t *at;
    float *units;
    int lines, line_words;
} ft_rows_f16_t;

FT_INLINE void ft_store_outputs_f16(float *y, const float *sums, const float *units, const float *start,
                                    int count, ft_activation_t act) {
    FT_EACH(o, count)
        y[o] = ft_activate(ft_single_fma(sums[o], units[o], start ? start[o] : 0.0f), act);
}

/* Four pixels, `y_pixel` apart, of which `pixels` are wanted, times `count` <= 4 channels. `column`: of x
 * where the first window's taps lie. */
FT_INLINE void ft_conv_block_f16(ft_rows_f16_t x, int column, int x_pixel, const uint32_t *w,
                                 const float units[FT_BLOCK_F16], const float *start, int start_pixel,
                                 float *y, int y_pixel, ft_conv_t conv, ft_taps_t rows, ft_taps_t cols,
                                 ft_activation_t act, int pixels, int count) {
    const int words = ft_words_f16(conv);
    float sums[4][4];
    FT_EACH(k, 16)
        sums[k / 4][k % 4] = 0.0f; /* no call of memset, as the compiler would have it */
    for (int j = 0; j < rows.n; j++) {
        const int line = (rows.i + j * rows.i_step) % x.lines;
        const int tap_row = (rows.k + j * rows.k_step) * conv.window.kernel_x;
        ft_window_row_f16(sums, x.at + line * x.line_words + column * words, x_pixel,
                          w + tap_row * words * FT_BLOCK_F16, words, cols, x.units[line]);
    }
    _Pragma("GCC unroll 1") for (int p = 0; p < pixels; p++, y += y_pixel) {
        const float *from = start ? start + p * start_pixel : NULL;
        if (count == FT_BLOCK_F16)
            ft_store_outputs_f16(y, sums[p], units, from, FT_BLOCK_F16, act);
        else
            ft_store_outputs_f16(y, sums[p], units, from, count, act);
    }
}

/* Channels o to o + count of row `row`; see ft_conv_gather_f16. */
FT_INLINE void ft_conv_row_f16(ft_rows_f16_t x, ft_line_f16_t line, const uint32_t *w, const float *units,
                               const float *start, int start_pixel, float *y, ft_map_t ym, ft_conv_t conv,
                               ft_taps_t rows, ft_activation_t act, int o, int count, int transposed) {
    const ft_window_t win = conv.window;
    const int step = transposed ? win.stride_x : 1;
    for (int phase = 0; phase < step; phase++) {
        ft_taps_t cols = {0, 1, 0, win.dilation_x, win.kernel_x};
        if (transposed) {
            /* Far from all borders, and then back: the same taps for all columns of the phase. */
            const int far = win.kernel_x * win.dilation_x * win.stride_x;
            cols = ft_taps_transposed(phase + far * win.stride_x, win.kernel_x, win.stride_x, win.pad_x,
                                      win.dilation_x, 1 << 30);
            cols.i += (cols.n - 1) * cols.i_step - far - line.first; /* the last tap's, which comes first */
            cols.k = win.kernel_x - 1 - cols.k - (cols.n - 1) * cols.k_step;
            cols.i_step = -cols.i_step;
        }
        _Pragma("GCC unroll 1") for (int col = phase, block = 0; col < ym.w;
                                     col += FT_BLOCK_F16 * step, block += FT_BLOCK_F16) {
            const int left = (ym.w - col + step - 1) / step;
            const float *from = start ? start + col * start_pixel : NULL;
            _Pragma("GCC unroll 1") for (int k = 0; k < count; k += FT_BLOCK_F16) ft_conv_block_f16(
                x, block * line.x_pixel, line.x_pixel, w + k / FT_BLOCK_F16 * ft_block_words_f16(conv),
                units + k, from ? from + o + k : NULL, step * start_pixel, y + col * ym.pixel + o + k,
                step * ym.pixel, conv, rows, cols, act, left < FT_BLOCK_F16 ? left : FT_BLOCK_F16,
                count - k < FT_BLOCK_F16 ? count - k : FT_BLOCK_F16);
        }
    }
}

/* y[y0..y1) of channels o0 to o1 = activation(start + sum of x * w), as ft_conv_gather_f32; conv.out counts
 * all channels, conv.groups is 1. o0 is a multiple of 4, o1 too or conv.out. scratch, aligned to 4 bytes:
 * ft_lines_f16 rows of x, each of a unit (4 bytes) and `wide` pixels of 4 * (in + 1) / 2 bytes; unless
 * weights are packed, those of ft_slab_f16 channels, 4 * (in + 1) / 2 bytes a tap and channel, and their
 * units, 4 bytes each. */
FT_INLINE void ft_conv_gather_f16(const float *x, ft_map_t xm, ft_weights_f16_t w, const float *start,
                                  int start_row, int start_pixel, float *y, ft_map_t ym, ft_conv_t conv,
                                  ft_activation_t act, void *scratch, int o0, int o1, int y0, int y1,
                                  int transposed) {
    const ft_window_t win = conv.window;
    const int words = ft_words_f16(conv), lines = ft_lines_f16(win, transposed);
    const int slab = w.packed ? ft_up_f16(conv.out, FT_BLOCK_F16) : ft_slab_f16(conv);
    const ft_line_f16_t line = ft_line_f16(win, ym.w, transposed);
    const ft_rows_f16_t lying = {(uint32_t *)scratch + lines, scratch, lines, line.wide * words};
    uint32_t *const packed = lying.at + lines * lying.line_words;
    float *const units = (float *)(packed + slab / FT_BLOCK_F16 * ft_block_words_f16(conv));
    _Pragma("GCC unroll 1") for (int o = o0; o < o1; o += slab) {
        const int count = o1 - o < slab ? o1 - o : slab, block = o / FT_BLOCK_F16;
        const uint32_t *const ws = w.packed ? w.packed + block * ft_block_words_f16(conv) : packed;
        const float *const us = w.packed ? w.units + o : units;
        if (!w.packed)
            _Pragma("GCC unroll 1") for (int k = 0; k < count; k += FT_BLOCK_F16)
                ft_pack_f16(w, conv, o + k, count - k < FT_BLOCK_F16 ? count - k : FT_BLOCK_F16, transposed,
                            packed + k / FT_BLOCK_F16 * ft_block_words_f16(conv), units + k);
        int have = 0; /* rows of x before it that are still needed lie in scratch */
        _Pragma("GCC unroll 1") for (int row = y0; row < y1; row++) {
            const ft_taps_t rows =
                transposed
                    ? ft_taps_transposed(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h)
                    : ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
            const int other = rows.i + (rows.n - 1) * rows.i_step;
            const int first = rows.i < other ? rows.i : other, last = rows.i < other ? other : rows.i;
            if (rows.n > 0) {
                _Pragma("GCC unroll 1") for (int i = first > have ? first : have; i <= last; i++) {
                    const ft_power_f16_t power =
                        ft_power_f16(ft_largest_f16(x + i * xm.row, xm.w, xm.pixel, conv.in, 0), FT_TOP_F16);
                    lying.units[i % lines] = power.unit;
                    ft_halve_row_f16(x + i * xm.row, xm, conv.in, power.up,
                                     lying.at + i % lines * lying.line_words, words, line.first, line.wide);
                }
                have = last + 1 > have ? last + 1 : have;
            }
            ft_conv_row_f16(lying, line, ws, us, start ? start + row * start_row : NULL, start_pixel,
                            y + row * ym.row, ym, conv, rows, act, o, count, transposed);
        }
    }
}

FT_INLINE void ft_conv2d_f16(const float *x, ft_map_t xm, ft_weights_f16_t w, const float *bias, float *y,
                             ft_map_t ym, ft_conv_t conv, ft_activation_t act, void *scratch, int o0, int o1,
                             int y0, int y1) {
    ft_conv_gather_f16(x, xm, w, bias, 0, 0, y, ym, conv, act, scratch, o0, o1, y0, y1, 0);
}

/* As ft_conv2d_onto_f32. */
FT_INLINE void ft_conv2d_onto_f16(const float *x, ft_map_t xm, ft_weights_f16_t w, const float *part,
                                  ft_map_t pm, float *y, ft_map_t ym, ft_conv_t conv, ft_activation_t act,
                                  void *scratch, int o0, int o1, int y0, int y1) {
    ft_conv_gather_f16(x, xm, w, part, pm.row, pm.pixel, y, ym, conv, act, scratch, o0, o1, y0, y1, 0);
}

FT_INLINE void ft_conv2d_transpose_f16(const float *x, ft_map_t xm, ft_weights_f16_t w, const float *bias,
                                       float *y, ft_map_t ym, ft_conv_t conv, ft_activation_t act,
                                       void *scratch, int o0, int o1, int y0, int y1) {
    ft_conv_gather_f16(x, xm, w, bias, 0, 0, y, ym, conv, act, scratch, o0, o1, y0, y1, 1);
}

FT_INLINE void ft_conv2d_transpose_onto_f16(const float *x, ft_map_t xm, ft_weights_f16_t w,
                                            const float *part, ft_map_t pm, float *y, ft_map_t ym,
                                            ft_conv_t conv, ft_activation_t act, void *scratch, int o0,
                                            int o1, int y0, int y1) {
    ft_conv_gather_f16(x, xm, w, part, pm.row, pm.pixel, y, ym, conv, act, scratch, o0, o1, y0, y1, 1);
}

/* ---- Weight gradients ---- */

/* One map's part of a group: `wide` pixels a row from column `first` on, `channels` of them in words. */
typedef struct {
    const float *at;
    ft_map_t map;
    int first, wide, channels, top;
} ft_side_f16_t;

/* Rows `from` to `to`, as far as they lie on the map, of `taken` channels from `at` on; row `from` lies at y.
 * Returns the unit. */
FT_INLINE float ft_halve_rows_f16(const float *at, ft_side_f16_t side, int taken, int from, int to,
                                  uint32_t *y) {
    const int words = side.channels / 2;
    const int low = from > 0 ? from : 0, end = to < side.map.h ? to : side.map.h;
    uint32_t largest = 0;
    _Pragma("GCC unroll 1") for (int row = low; row < end; row++) largest =
        ft_largest_f16(at + row * side.map.row, side.map.w, side.map.pixel, taken, largest);
    const ft_power_f16_t power = ft_power_f16(largest, side.top);
    _Pragma("GCC unroll 1") for (int row = low; row < end; row++)
        ft_halve_row_f16(at + row * side.map.row, side.map, taken, power.up,
                         y + (row - from) * side.wide * words, words, side.first, side.wide);
    return power.unit;
}

/* The same of channels from c on, `count` of which there are. */
FT_INLINE float ft_halve_side_f16(ft_side_f16_t side, int from, int to, int c, int count, uint32_t *y) {
    return count >= side.channels ? ft_halve_rows_f16(side.at + c, side, side.channels, from, to, y)
                                  : ft_halve_rows_f16(side.at + c, side, count, from, to, y);
}

/* The gradients of 4 channels of x times 8 of dy of one tap: adds a group's chains to the sums. x, dy: where
 * the first pixel of the group's first row lies; rows are x_row and dy_row apart; all in words. Rows of one
 * of both lie densely. */
FT_INLINE void ft_grad_w_tap_f16(float sums[4][8], const uint32_t *x, int x_row, int x_step,
                                 const uint32_t *dy, int dy_row, int dy_step, int rows, int pixels,
                                 float unit) {
    ft_eight_t acc[4];
    if (pixels <= FT_CHAIN_F16) {
        ft_eight_outer(acc, x, x_step, x_row - pixels * x_step, dy, dy_step, dy_row - pixels * dy_step, rows,
                       pixels);
        ft_eight_add(sums, acc, unit);
        return;
    }
    /* A group is one row, which is longer than a chain. */
    const int rest = pixels % FT_CHAIN_F16;
    _Pragma("GCC unroll 1") for (int done = FT_CHAIN_F16; done <= pixels; done += FT_CHAIN_F16) {
        ft_eight_outer(acc, x, x_step, 0, dy, dy_step, 0, 1, FT_CHAIN_F16);
        ft_eight_add(sums, acc, unit);
        x += FT_CHAIN_F16 * x_step;
        dy += FT_CHAIN_F16 * dy_step;
    }
    if (rest > 0) {
        ft_eight_outer(acc, x, x_step, 0, dy, dy_step, 0, 1, rest);
        ft_eight_add(sums, acc, unit);
    }
}

/* Rows of a group: one where rows may come one by one, else as many as have no more pixels than a chain. */
FT_INLINE int ft_group_f16(int pixels, int one_by_one) {
    return one_by_one || pixels >= FT_CHAIN_F16 ? 1 : FT_CHAIN_F16 / pixels;
}

/* The gradients of `count` <= 4 channels of x times `lanes` <= 8 channels of dy, of one tap: they begin with
 * what g holds, or with 0, and go where they belong. Constant count, lanes where speed matters. */
FT_INLINE void ft_grad_w_start_f16(float sums[4][8], ft_sink_t to, int at, int pitch, int count, int lanes) {
    _Pragma("GCC unroll 1") for (int i = 0; i < 4; i++) FT_EACH(o, 8) sums[i][o] =
        to.g && i < count && o < lanes ? to.g[at + i * pitch + o] : 0.0f;
}

FT_INLINE void ft_grad_w_finish_f16(float sums[4][8], ft_sink_t to, int at, int pitch, int count, int lanes) {
    _Pragma("GCC unroll 1") for (int i = 0; i < count; i++) {
        if (lanes == 8)
            FT_EACH(o, 8 / FT_LANES)
                ft_sink_finish(to, at + i * pitch + o * FT_LANES, ft_load(sums[i] + o * FT_LANES), FT_LANES);
        else
            for (int o = 0; o < lanes; o += FT_LANES) {
                const int some = lanes - o < FT_LANES ? lanes - o : FT_LANES;
                ft_sink_finish(to, at + i * pitch + o, ft_gather(sums[i] + o, 1, some), some);
            }
    }
}

/* The two maps of a layer, and the one that the window steps over. */
typedef struct {
    ft_side_f16_t x, dy;
    ft_map_t near;
    int group, high; /* rows of it that are taken at once, and of the other one that their windows see */
    int transposed;
} ft_sides_f16_t;

FT_INLINE ft_sides_f16_t ft_sides_f16(const float *x, ft_map_t xm, const float *dy, ft_map_t dym,
                                      ft_window_t win, int one_by_one, int transposed) {
    const ft_map_t near = transposed ? xm : dym;
    const int group = ft_group_f16(near.w, one_by_one);
    const int high = (group - 1) * win.stride_y + (win.kernel_y - 1) * win.dilation_y + 1;
    const int wide = (near.w - 1) * win.stride_x + (win.kernel_x - 1) * win.dilation_x + 1;
    if (transposed)
        return (ft_sides_f16_t){{x, xm, 0, near.w, 4, FT_TOP_F16},
                                {dy, dym, -win.pad_x, wide, 8, FT_TOP_W_F16},
                                near,
                                group,
                                high,
                                1};
    return (ft_sides_f16_t){{x, xm, -win.pad_x, wide, 4, FT_TOP_W_F16},
                            {dy, dym, 0, near.w, 8, FT_TOP_F16},
                            near,
                            group,
                            high,
                            0};
}

/* Adds to sums[tap] what the rows `from` to `end` of the near map, a group, give: 4 channels of x and 8 of
 * dy, which lie at x_at and dy_at. */
FT_INLINE void ft_grad_w_group_f16(float (*sums)[4][8], ft_sides_f16_t of, ft_window_t win,
                                   const uint32_t *x_at, const uint32_t *dy_at, int from, int end,
                                   float unit) {
    const int far_h = of.transposed ? of.dy.map.h : of.x.map.h;
    const int x_row = of.x.wide * 2, dy_row = of.dy.wide * 4; /* words */
    _Pragma("GCC unroll 1") for (int ky = 0; ky < win.kernel_y; ky++) {
        const ft_range_t ys = ft_positions(ky, win.stride_y, win.pad_y, win.dilation_y, far_h, of.near.h);
        const int low = ys.from > from ? ys.from : from, high = ys.to < end ? ys.to : end;
        const int near_row = low - from, far_row = near_row * win.stride_y + ky * win.dilation_y;
        if (low < high)
            _Pragma("GCC unroll 1") for (int kx = 0; kx < win.kernel_x; kx++) {
                float(*const tap)[8] = sums[ky * win.kernel_x + kx];
                const int far = kx * win.dilation_x;
                if (of.transposed)
                    ft_grad_w_tap_f16(tap, x_at + near_row * x_row, x_row, 2,
                                      dy_at + far_row * dy_row + far * 4, win.stride_y * dy_row,
                                      win.stride_x * 4, high - low, of.near.w, unit);
                else
                    ft_grad_w_tap_f16(tap, x_at + far_row * x_row + far * 2, win.stride_y * x_row,
                                      win.stride_x * 2, dy_at + near_row * dy_row, dy_row, 4, high - low,
                                      of.near.w, unit);
            }
    }
}

/* Blocks of 8 channels of dy for which each channel of x is rounded once. */
FT_INLINE int ft_grad_w_blocks_f16(int out) {
    return out > 8 ? 2 : 1;
}

/* All taps of `count` <= 4 channels of x times `lanes` <= 16 of dy; `place`: of tap 0. Constant start. */
FT_INLINE void ft_grad_w_ends_f16(float (*sums)[4][8], ft_sink_t to, ft_conv_t conv, int place, int count,
                                  int lanes, int start) {
    const int taps = conv.window.kernel_y * conv.window.kernel_x;
    _Pragma("GCC unroll 1") for (int o = 0; o < lanes; o += 8) {
        const int some = lanes - o < 8 ? lanes - o : 8;
        _Pragma("GCC unroll 1") for (int t = 0; t < taps; t++, sums++) {
            const int at = place + t * conv.w_tap + o;
            if (start && count == 4 && some == 8)
                ft_grad_w_start_f16(*sums, to, at, conv.w_in, 4, 8);
            else if (start)
                ft_grad_w_start_f16(*sums, to, at, conv.w_in, count, some);
            else if (some == 8)
                ft_grad_w_finish_f16(*sums, to, at, conv.w_in, count, 8);
            else
                ft_grad_w_finish_f16(*sums, to, at, conv.w_in, count, some);
        }
    }
}

/* The weight gradients of a layer with input x and output gradient dy, of its input channels i0 to i1 and of
 * the rows y0..y1 of the map that the window steps over (dy; of a transposed layer x), go to the sink. i0 is
 * a multiple of 4, i1 too or conv.in; conv.groups is 1. Where that adds to g, rows may come in several calls,
 * ascending, if one_by_one is 1: the same sums. Else all rows come at once.
 *
 * scratch, aligned to 4 bytes: for each of ft_grad_w_blocks_f16 blocks 128 bytes a tap; a group's rows of x,
 * 8 bytes a pixel, and of dy, 16 bytes a pixel. */
FT_INLINE void ft_conv_grad_w_f16(const float *x, ft_map_t xm, const float *dy, ft_map_t dym, ft_sink_t to,
                                  ft_conv_t conv, void *scratch, int one_by_one, int i0, int i1, int y0,
                                  int y1, int transposed) {
    const ft_window_t win = conv.window;
    const int taps = win.kernel_y * win.kernel_x, blocks = ft_grad_w_blocks_f16(conv.out);
    const ft_sides_f16_t of = ft_sides_f16(x, xm, dy, dym, win, one_by_one, transposed);
    float(*const sums)[4][8] = scratch;
    uint32_t *const x_at = (uint32_t *)scratch + blocks * taps * 32;
    uint32_t *const dy_at = x_at + of.x.wide * 2 * (transposed ? of.group : of.high);
    _Pragma("GCC unroll 1") for (int i = i0; i < i1; i += 4)
        _Pragma("GCC unroll 1") for (int o = 0; o < conv.out; o += 8 * blocks) {
        const int count = i1 - i < 4 ? i1 - i : 4, left = conv.out - o;
        const int some = left < 8 * blocks ? left : 8 * blocks; /* channels of dy */
        const int place = i * conv.w_in + o;
        ft_grad_w_ends_f16(sums, to, conv, place, count, some, 1);
        _Pragma("GCC unroll 1") for (int from = y0; from < y1; from += of.group) {
            const int end = from + of.group < y1 ? from + of.group : y1;
            const int far = from * win.stride_y - win.pad_y;
            const int far_end =
                (end - 1) * win.stride_y - win.pad_y + (win.kernel_y - 1) * win.dilation_y + 1;
            const int x_from = transposed ? from : far, dy_from = transposed ? far : from;
            const float x_unit = ft_halve_side_f16(of.x, x_from, transposed ? end : far_end, i, count, x_at);
            _Pragma("GCC unroll 1") for (int b = 0; 8 * b < some; b++) {
                const float dy_unit = ft_halve_side_f16(of.dy, dy_from, transposed ? far_end : end, o + 8 * b,
                                                        some - 8 * b, dy_at);
                ft_grad_w_group_f16(sums + b * taps, of, win, x_at, dy_at, from, end,
                                    ft_single_mul(x_unit, dy_unit));
            }
        }
        ft_grad_w_ends_f16(sums, to, conv, place, count, some, 0);
    }
}

FT_INLINE void ft_conv2d_grad_w_f16(const float *x, ft_map_t xm, const float *dy, ft_map_t dym, ft_sink_t to,
                                    ft_conv_t conv, void *scratch, int one_by_one, int i0, int i1, int y0,
                                    int y1) {
    ft_conv_grad_w_f16(x, xm, dy, dym, to, conv, scratch, one_by_one, i0, i1, y0, y1, 0);
}

/* The same of a transposed convolution, of rows y0..y1 of x. */
FT_INLINE void ft_conv2d_transpose_grad_w_f16(const float *x, ft_map_t xm, const float *dy, ft_map_t dym,
                                              ft_sink_t to, ft_conv_t conv, void *scratch, int one_by_one,
                                              int i0, int i1, int y0, int y1) {
    ft_conv_grad_w_f16(x, xm, dy, dym, to, conv, scratch, one_by_one, i0, i1, y0, y1, 1);
}

#endif
