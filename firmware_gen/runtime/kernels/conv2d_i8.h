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

/* Outputs whose sums one inner loop holds in registers: neighbours, the channels of each, and the channels of
 * a pixel without neighbours. How often the loop over the input channels is unrolled, and whether there are
 * registers for the weights of a step as well. */
#if FT_LANES > 1
#define FT_BLOCK_I8    FT_BLOCK
#define FT_CHANNELS_I8 (FT_LANES * FT_VECTORS)
#define FT_SINGLE_I8   FT_CHANNELS_I8
#define FT_UNROLL_I8   1
#define FT_HOLD_I8     0
#elif defined(__riscv)
#define FT_BLOCK_I8    4
#define FT_CHANNELS_I8 4
#define FT_SINGLE_I8   8
#define FT_UNROLL_I8   8
#define FT_HOLD_I8     1
#else
#define FT_BLOCK_I8    2
#define FT_CHANNELS_I8 4
#define FT_SINGLE_I8   8
#define FT_UNROLL_I8   4
#define FT_HOLD_I8     0
#endif

/* FT_EACH, unless the compiler makes vectors of the loop. Where it does not: FT_KEEP_I8 is a point at which
 * the value is in a register, FT_STEPPED_I8 one that loads do not cross, and FT_ADD_I8 leaves the sum in the
 * register in which it was. Without them GCC collects products and loads of several steps, for which there
 * are not enough registers, and moves sums about. */
#if FT_LANES > 1
#define FT_EACH_I8(k, n)     for (int k = 0; k < (n); k++)
#define FT_KEEP_I8(value)    ((void)0)
#define FT_STEPPED_I8()      ((void)0)
#define FT_ADD_I8(sum, term) ((sum) += (term))
#else
#define FT_EACH_I8(k, n)  FT_EACH(k, n)
#define FT_KEEP_I8(value) __asm__("" : "+r"(value))
#define FT_STEPPED_I8()   __asm__ volatile("" ::: "memory")
#if defined(__riscv)
#define FT_ADD_I8(sum, term) __asm__("add %0, %0, %1" : "+r"(sum) : "r"(term))
#else
#define FT_ADD_I8(sum, term)                                                                                 \
    do {                                                                                                     \
        (sum) += (term);                                                                                     \
        FT_KEEP_I8(sum);                                                                                     \
    } while (0)
#endif
#endif

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

/* sum * (multiplier * 2^31 + rest) * 2^(-64 - shift), rounded as ft_round_once does, plus the zero point of
 * y, of which `odd` is the double plus 1. 0 <= shift; the sum of the upper half of the product and odd <<
 * shift fits 32 bits. */
FT_INLINE int32_t ft_round_once_fast(int32_t sum, int32_t multiplier, int32_t rest, int32_t shift,
                                     int32_t odd) {
    /* Halves go up, but below 0 they are to go down: so the exact product is made a little smaller there. */
    const int64_t low = ((int64_t)sum * rest + (sum >> 31)) >> 31;
    const int32_t high = (int32_t)(((int64_t)sum * multiplier + low) >> 32);
    return (high + (int32_t)((uint32_t)odd << shift)) >> shift >> 1;
}

/* The output of channel o for the sum acc. */
FT_INLINE int32_t ft_requantized_i8(uint32_t acc, int o, ft_requantize_t to) {
    const int32_t sum = (int32_t)acc;
    const int negative = to.negative_multipliers != NULL && sum < 0;
    const int32_t multiplier = negative ? to.negative_multipliers[o] : to.multipliers[o];
    const int32_t shift = negative ? to.negative_shifts[o] : to.shifts[o];
    if (multiplier < 0)
        __builtin_unreachable(); /* so that ft_requantize takes the shorter product */
    const int32_t scaled = to.rests != NULL ? ft_round_once(sum, multiplier, to.rests[o], shift)
                                            : ft_requantize(sum, multiplier, shift);
    return ft_clamp_i32((int32_t)((uint32_t)scaled + (uint32_t)to.zero), to.low, to.high);
}

/* The output of channel o for the sum acc, given its multiplier and shift, where the planner has proved for
 * the layer: shift < 0, and neither half a unit and the zero point on top of the product nor the sum
 * overflow. That is ft_requantize to the right: adding half a unit rounds halves up; below 0 they are to go
 * down. */
FT_INLINE int32_t ft_requantized_fast_i8(uint32_t acc, int32_t multiplier, int32_t shift,
                                         ft_requantize_t to) {
    const int32_t high = ft_high_mul_positive((int32_t)acc, multiplier);
    const int32_t half = (int32_t)((uint32_t)(2 * to.zero + 1) << (-shift - 1));
    return ft_clamp_i32((high + (high >> 31) + half) >> -shift, to.low, to.high);
}

/* Value c of pixel p: x_pixel apart from x[0] on, so that one register holds the address, or, if x_pixel is
 * 0, at x[p]. Constant x_pixel, p. */
FT_INLINE int32_t ft_conv_input_i8(const int8_t *const x[], int x_pixel, int p, int c) {
    return x_pixel ? x[0][p * x_pixel + c] : x[p][c];
}

/* acc[p][k] += (x - zero) * w[k] for value c of each pixel. Constant pixels, count. */
FT_INLINE void ft_conv_value_i8(uint32_t acc[FT_BLOCK_I8][FT_SINGLE_I8], const int8_t *const x[], int x_pixel,
                                int c, int32_t zero, const int8_t *w, int pixels, int count) {
    int32_t weight[FT_SINGLE_I8];
    FT_EACH_I8(k, count)
        weight[k] = w[k];
    FT_EACH_I8(p, pixels) {
        const int32_t value = ft_conv_input_i8(x, x_pixel, p, c) - zero;
        FT_EACH_I8(k, count)
            FT_ADD_I8(acc[p][k], (uint32_t)(value * (FT_HOLD_I8 ? weight[k] : w[k])));
        if (FT_HOLD_I8)
            FT_STEPPED_I8();
    }
    FT_STEPPED_I8();
}

/* The same for `length` values that lie side by side, whose weights lie w_in apart. Constant unroll. */
FT_INLINE void ft_conv_run_i8(uint32_t acc[FT_BLOCK_I8][FT_SINGLE_I8], const int8_t *const x[], int x_pixel,
                              int length, int unroll, int32_t zero, const int8_t *w, int w_in, int pixels,
                              int count) {
    int c = 0;
    if (unroll > 1)
        _Pragma("GCC unroll 1") for (; c + unroll <= length; c += unroll) {
            FT_EACH_I8(u, unroll)
                ft_conv_value_i8(acc, x, x_pixel, c + u, zero, w + u * w_in, pixels, count);
            w += unroll * w_in;
        }
    _Pragma("GCC unroll 1") for (; c < length; c++) {
        ft_conv_value_i8(acc, x, x_pixel, c, zero, w, pixels, count);
        w += w_in;
    }
}

/* The same for one tap of a depthwise layer: channel `first` + k has the input channel / given. */
FT_INLINE void ft_conv_depthwise_tap_i8(uint32_t acc[FT_BLOCK_I8][FT_SINGLE_I8], const int8_t *const x[],
                                        int x_pixel, int32_t zero, const int8_t *w, int first, int given,
                                        int pixels, int count) {
    int32_t weight[FT_SINGLE_I8];
    FT_EACH_I8(k, count)
        weight[k] = w[k];
    FT_EACH_I8(p, pixels) {
        FT_EACH_I8(k, count) {
            const int32_t value = ft_conv_input_i8(x, x_pixel, p, (first + k) / given) - zero;
            FT_ADD_I8(acc[p][k], (uint32_t)(value * weight[k]));
        }
        FT_STEPPED_I8();
    }
}

/* Rounds the sums acc[p][k] of each pixel to output channel o, by ft_requantized_fast_i8. Constant pixels. */
FT_INLINE void ft_conv_store_i8(uint32_t acc[FT_BLOCK_I8][FT_SINGLE_I8], int k, int8_t *y, int y_pixel,
                                ft_requantize_t to, int o, int pixels) {
    const int leaky = to.negative_multipliers != NULL;
    const int32_t multiplier = to.multipliers[o], shift = to.shifts[o];
    const int32_t negative_multiplier = leaky ? to.negative_multipliers[o] : 0;
    const int32_t negative_shift = leaky ? to.negative_shifts[o] : 0;
    FT_EACH_I8(p, pixels) {
        const int negative = leaky && (int32_t)acc[p][k] < 0;
        int32_t value = ft_requantized_fast_i8(acc[p][k], negative ? negative_multiplier : multiplier,
                                               negative ? negative_shift : shift, to);
        FT_KEEP_I8(value); /* else RISC-V extends its sign before it is stored */
        y[p * y_pixel + o] = (int8_t)value;
    }
}

/* What the blocks of a layer share. Neighbours in a block read x_step columns apart and lie y_pixel apart in
 * y. padding: the values of an input pixel that does not lie on the map; NULL if there is none. zero: what is
 * taken from every x. fast: ft_requantized_fast_i8. */
typedef struct {
    const int8_t *x;
    ft_map_t xm;
    int x_step;
    const int8_t *padding;
    int32_t zero;
    const int8_t *w;
    const int32_t *bias;
    ft_conv_t conv;
    int y_pixel;
    ft_requantize_t to;
    int fast;
} ft_conv_i8_t;

/* Depthwise weights lie side by side for all groups, and so do their outputs: like one group. */
FT_INLINE int ft_conv_depthwise_i8(ft_conv_t conv) {
    return conv.in == 1 && conv.groups > 1;
}

/* acc[p][k] += the taps of channel o + k of group n, rows x cols; inside: all lie on the map. Constant
 * unroll, pixels, count. */
FT_INLINE void ft_conv_taps_i8(uint32_t acc[FT_BLOCK_I8][FT_SINGLE_I8], ft_conv_i8_t layer, int n, int o,
                               ft_taps_t rows, ft_taps_t cols, int inside, int unroll, int pixels,
                               int count) {
    const ft_conv_t conv = layer.conv;
    const ft_map_t xm = layer.xm;
    const int depthwise = ft_conv_depthwise_i8(conv);
    /* A row of the window can be one run of values. */
    const int whole =
        inside && conv.groups == 1 && xm.pixel == conv.in && cols.i_step == 1 && cols.k_step == 1;
    const int run = whole ? cols.n : 1, length = whole ? cols.n * conv.in : conv.in;
    const int8_t *x = layer.x + n * conv.in, *w = layer.w + n * conv.w_group + o;
    _Pragma("GCC unroll 1") for (int j = 0; j < rows.n; j++) {
        const int row = rows.i + j * rows.i_step;
        _Pragma("GCC unroll 1") for (int i = 0; i < cols.n; i += run) {
            const int col = cols.i + i * cols.i_step, last = col + (pixels - 1) * layer.x_step;
            const int tap = (rows.k + j * rows.k_step) * conv.window.kernel_x + cols.k + i * cols.k_step;
            const int8_t *w_tap = w + tap * conv.w_tap;
            const int8_t *at[FT_BLOCK_I8];
            if (inside || (row >= 0 && row < xm.h && col >= 0 && last < xm.w)) {
                const int x_pixel = layer.x_step * xm.pixel;
                at[0] = x + row * xm.row + col * xm.pixel;
                if (depthwise)
                    ft_conv_depthwise_tap_i8(acc, at, x_pixel, layer.zero, w_tap, o, conv.out, pixels, count);
                else
                    ft_conv_run_i8(acc, at, x_pixel, length, unroll, layer.zero, w_tap, conv.w_in, pixels,
                                   count);
            } else {
                FT_EACH_I8(p, pixels) {
                    const int column = col + p * layer.x_step;
                    const int on_map = row >= 0 && row < xm.h && column >= 0 && column < xm.w;
                    at[p] = on_map ? x + row * xm.row + column * xm.pixel : layer.padding;
                }
                if (depthwise)
                    ft_conv_depthwise_tap_i8(acc, at, 0, layer.zero, w_tap, o, conv.out, pixels, count);
                else
                    ft_conv_run_i8(acc, at, 0, conv.in, 1, layer.zero, w_tap, conv.w_in, pixels, count);
            }
        }
    }
}

/* `count` output channels from channel o of group n on of `pixels` neighbours, to y[0] on. Arguments as for
 * ft_conv_taps_i8. */
FT_INLINE void ft_conv_block_i8(ft_conv_i8_t layer, int n, int o, int8_t *y, ft_taps_t rows, ft_taps_t cols,
                                int inside, int unroll, int pixels, int count) {
    const int first = n * layer.conv.out + o;
    uint32_t acc[FT_BLOCK_I8][FT_SINGLE_I8];
    FT_EACH_I8(p, pixels)
        FT_EACH_I8(k, count)
            acc[p][k] = (uint32_t)layer.bias[first + k];
    ft_conv_taps_i8(acc, layer, n, o, rows, cols, inside, unroll, pixels, count);
    /* Depthwise layers are many and small: the size of their code counts, as that of single pixels does. */
    if (layer.fast && !ft_conv_depthwise_i8(layer.conv) && pixels > 1) {
        FT_EACH_I8(k, count)
            ft_conv_store_i8(acc, k, y, layer.y_pixel, layer.to, first + k, pixels);
        return;
    }
    /* A copy, so that the sums can stay in registers and one piece of code rounds them all. */
    uint32_t sums[FT_BLOCK_I8][FT_SINGLE_I8];
    FT_EACH_I8(p, pixels)
        FT_EACH_I8(k, count)
            sums[p][k] = acc[p][k];
    if (layer.fast)
        _Pragma("GCC unroll 1") for (int k = 0; k < count; k++)
            ft_conv_store_i8(sums, k, y, layer.y_pixel, layer.to, first + k, pixels);
    else
        for (int p = 0; p < pixels; p++)
            _Pragma("GCC unroll 1") for (int k = 0; k < count; k++) {
                int32_t value = ft_requantized_i8(sums[p][k], first + k, layer.to);
                FT_KEEP_I8(value);
                y[p * layer.y_pixel + first + k] = (int8_t)value;
            }
}

/* All output channels of `pixels` neighbours, to y[0] on. Arguments as for ft_conv_taps_i8. */
FT_INLINE void ft_conv_pixels_i8(ft_conv_i8_t layer, int8_t *y, ft_taps_t rows, ft_taps_t cols, int inside,
                                 int unroll, int pixels) {
    const ft_conv_t conv = layer.conv;
    const int depthwise = ft_conv_depthwise_i8(conv);
    const int groups = depthwise ? 1 : conv.groups;
    const int out = depthwise ? conv.groups * conv.out : conv.out;
    const int block = pixels == 1 ? FT_SINGLE_I8 : FT_CHANNELS_I8;
    const int whole = out - out % block;
    for (int n = 0; n < groups; n++) {
        for (int o = 0; o < whole; o += block)
            ft_conv_block_i8(layer, n, o, y, rows, cols, inside, unroll, pixels, block);
        if (whole < out)
            ft_conv_block_i8(layer, n, whole, y, rows, cols, inside, unroll, pixels, out % block);
    }
}

/* Rows y0 <= row < y1 of y. padding: NULL if no tap lies in the padding, else the values of a pixel there,
 * all the zero point of x. Weight of tap t, channel i of group n, output o: w[t * w_tap + n * w_group + i *
 * w_in + o] (w_out is 1). bias: one an output channel, with the zero point folded in. fast: all channels of
 * the layer fulfil the conditions of ft_requantized_fast_i8. x and y do not overlap. No scratch. */
FT_INLINE void ft_conv2d_i8(const int8_t *x, ft_map_t xm, const int8_t *padding, const int8_t *w,
                            const int32_t *bias, int8_t *y, ft_map_t ym, ft_conv_t conv, ft_requantize_t to,
                            int fast, int y0, int y1) {
    const ft_window_t win = conv.window;
    const int reach_y = (win.kernel_y - 1) * win.dilation_y;
    const int reach_x = (win.kernel_x - 1) * win.dilation_x;
    if (padding == NULL && win.kernel_y == 1 && win.kernel_x == 1 && win.stride_y == 1 && win.stride_x == 1 &&
        xm.row == xm.w * xm.pixel && ym.row == ym.w * ym.pixel) {
        /* All rows are one. */
        x += y0 * xm.row;
        y += y0 * ym.row;
        xm.w = ym.w = (y1 - y0) * ym.w;
        y0 = 0, y1 = 1;
    }
    const ft_conv_i8_t layer = {x, xm, win.stride_x, padding, 0, w, bias, conv, ym.pixel, to, fast};
    const int blocks = ym.w - ym.w % FT_BLOCK_I8;
    for (int row = y0; row < y1; row++) {
        const int top = row * win.stride_y - win.pad_y;
        const int rows_inside = top >= 0 && top + reach_y < xm.h;
        const ft_taps_t rows = {0, 1, top, win.dilation_y, win.kernel_y};
        int8_t *yp = y + row * ym.row;
        for (int col = 0; col < blocks; col += FT_BLOCK_I8) {
            const int left = col * win.stride_x - win.pad_x;
            const int right = left + (FT_BLOCK_I8 - 1) * win.stride_x + reach_x;
            const ft_taps_t cols = {0, 1, left, win.dilation_x, win.kernel_x};
            const int inside = padding == NULL || (rows_inside && left >= 0 && right < xm.w);
            ft_conv_pixels_i8(layer, yp + col * ym.pixel, rows, cols, inside, FT_UNROLL_I8, FT_BLOCK_I8);
        }
        for (int col = blocks; col < ym.w; col++) {
            const int left = col * win.stride_x - win.pad_x;
            const ft_taps_t cols = {0, 1, left, win.dilation_x, win.kernel_x};
            const int inside = padding == NULL || (rows_inside && left >= 0 && left + reach_x < xm.w);
            ft_conv_pixels_i8(layer, yp + col * ym.pixel, rows, cols, inside, blocks ? 1 : FT_UNROLL_I8, 1);
        }
    }
}

/* The same for a transposed window; `zero` is the zero point of x, and bias is without it. */
FT_INLINE void ft_conv2d_transpose_i8(const int8_t *x, ft_map_t xm, int32_t zero, const int8_t *w,
                                      const int32_t *bias, int8_t *y, ft_map_t ym, ft_conv_t conv,
                                      ft_requantize_t to, int fast, int y0, int y1) {
    const ft_window_t win = conv.window;
    const ft_conv_i8_t layer = {x, xm, 1, NULL, zero, w, bias, conv, win.stride_x * ym.pixel, to, fast};
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            ft_taps_transposed(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
        /* Neighbours stride_x apart are reached by the same taps. */
        for (int phase = 0; phase < win.stride_x; phase++)
            for (int col = phase; col < ym.w;) {
                int8_t *yp = y + row * ym.row + col * ym.pixel;
                const int last = col + (FT_BLOCK_I8 - 1) * win.stride_x;
                const ft_taps_t cols =
                    ft_taps_transposed(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
                const ft_taps_t far =
                    ft_taps_transposed(last, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
                const int block = last < ym.w && ft_same_taps(cols, far);
                if (block)
                    ft_conv_pixels_i8(layer, yp, rows, cols, 1, FT_UNROLL_I8, FT_BLOCK_I8);
                else
                    ft_conv_pixels_i8(layer, yp, rows, cols, 1, 1, 1);
                col += (block ? FT_BLOCK_I8 : 1) * win.stride_x;
            }
    }
}

#endif
