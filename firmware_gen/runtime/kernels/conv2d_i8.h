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
 * a pixel without neighbours. And how often the loop over the input channels is unrolled. */
#if FT_LANES > 1
#define FT_BLOCK_I8    FT_BLOCK
#define FT_CHANNELS_I8 (FT_LANES * FT_VECTORS)
#define FT_SINGLE_I8   FT_CHANNELS_I8
#define FT_UNROLL_I8   1
#elif defined(__riscv)
#define FT_BLOCK_I8    3
#define FT_CHANNELS_I8 4
#define FT_SINGLE_I8   8
#define FT_UNROLL_I8   8
#else
#define FT_BLOCK_I8    2
#define FT_CHANNELS_I8 4
#define FT_SINGLE_I8   8
#define FT_UNROLL_I8   4
#endif

/* FT_EACH, unless the compiler makes vectors of the loop. Where it does not: FT_KEEP_I8 is a point at which
 * the value is in a register, FT_STEPPED_I8 one that loads do not cross. Without them GCC collects products
 * and loads of several steps, for which there are not enough registers. */
#if FT_LANES > 1
#define FT_EACH_I8(k, n)  for (int k = 0; k < (n); k++)
#define FT_KEEP_I8(value) ((void)0)
#define FT_STEPPED_I8()   ((void)0)
#else
#define FT_EACH_I8(k, n)  FT_EACH(k, n)
#define FT_KEEP_I8(value) __asm__("" : "+r"(value))
#define FT_STEPPED_I8()   __asm__ volatile("" ::: "memory")
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

/* The output of channel o for the sum acc. */
FT_INLINE int32_t ft_requantized_i8(uint32_t acc, int o, ft_requantize_t to) {
    const int32_t sum = (int32_t)acc;
    const int negative = to.negative_multipliers != NULL && sum < 0;
    const int32_t multiplier = negative ? to.negative_multipliers[o] : to.multipliers[o];
    const int32_t shift = negative ? to.negative_shifts[o] : to.shifts[o];
    if (multiplier < 0)
        __builtin_unreachable(); /* so that ft_high_mul need not saturate */
    const int32_t scaled = to.rests != NULL ? ft_round_once(sum, multiplier, to.rests[o], shift)
                                            : ft_requantize(sum, multiplier, shift);
    return ft_clamp_i32((int32_t)((uint32_t)scaled + (uint32_t)to.zero), to.low, to.high);
}

/* Value c of pixel p: x_pixel apart from x[0] on, so that one register holds the address, or, if x_pixel is
 * 0, at x[p]. Constant x_pixel, p. */
FT_INLINE int32_t ft_conv_input_i8(const int8_t *const x[], int x_pixel, int p, int c) {
    return x_pixel ? x[0][p * x_pixel + c] : x[p][c];
}

/* acc[p][k] += (x - zero) * w[k] for value c of each pixel. Constant pixels, count. */
FT_INLINE void ft_conv_value_i8(uint32_t acc[FT_BLOCK_I8][FT_SINGLE_I8], const int8_t *const x[], int x_pixel,
                                int c, int32_t zero, const int8_t *w, int pixels, int count) {
    FT_EACH_I8(p, pixels) {
        const int32_t value = ft_conv_input_i8(x, x_pixel, p, c) - zero;
        FT_EACH_I8(k, count) {
            acc[p][k] += (uint32_t)(value * w[k]);
            FT_KEEP_I8(acc[p][k]);
        }
    }
    FT_STEPPED_I8();
}

/* The same for `length` values that lie side by side, whose weights lie w_in apart. */
FT_INLINE void ft_conv_run_i8(uint32_t acc[FT_BLOCK_I8][FT_SINGLE_I8], const int8_t *const x[], int x_pixel,
                              int length, int32_t zero, const int8_t *w, int w_in, int pixels, int count) {
    int c = 0;
    _Pragma("GCC unroll 1") for (; c + FT_UNROLL_I8 <= length; c += FT_UNROLL_I8) {
        FT_EACH_I8(u, FT_UNROLL_I8)
            ft_conv_value_i8(acc, x, x_pixel, c + u, zero, w + u * w_in, pixels, count);
        w += FT_UNROLL_I8 * w_in;
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
            acc[p][k] += (uint32_t)(value * weight[k]);
            FT_KEEP_I8(acc[p][k]);
        }
        FT_STEPPED_I8();
    }
}

/* Outputs of `count` channels from channel `first` on, `pixels` neighbours. x points at the map, at the first
 * input channel, and w at the weights of channel `first`; neighbouring pixels read x_step columns apart and
 * lie y_pixel apart in y. `padding`: NULL, or the values of an input pixel that does not lie on the map; then
 * rows and cols are all taps of the window. Constant pixels, count. */
FT_INLINE void ft_conv_block_i8(const int8_t *x, int x_step, ft_map_t xm, const int8_t *padding, int32_t zero,
                                const int8_t *w, const int32_t *bias, int8_t *y, int y_pixel, ft_conv_t conv,
                                ft_taps_t rows, ft_taps_t cols, ft_requantize_t to, int first, int pixels,
                                int count) {
    const int depthwise = conv.in == 1 && conv.groups > 1;
    /* A row of the window can be one run of values. */
    const int whole =
        padding == NULL && conv.groups == 1 && xm.pixel == conv.in && cols.i_step == 1 && cols.k_step == 1;
    const int runs = whole ? 1 : cols.n, length = whole ? cols.n * conv.in : conv.in;
    const int x_pixel = padding == NULL ? x_step * xm.pixel : 0;
    uint32_t acc[FT_BLOCK_I8][FT_SINGLE_I8];
    FT_EACH_I8(p, pixels)
        FT_EACH_I8(k, count)
            acc[p][k] = (uint32_t)bias[first + k];
    _Pragma("GCC unroll 1") for (int j = 0; j < rows.n; j++) {
        const int row = rows.i + j * rows.i_step;
        const int row_on_map = padding == NULL || (row >= 0 && row < xm.h);
        _Pragma("GCC unroll 1") for (int i = 0; i < runs; i++) {
            const int col = cols.i + i * cols.i_step;
            const int tap = (rows.k + j * rows.k_step) * conv.window.kernel_x + cols.k + i * cols.k_step;
            const int8_t *at[FT_BLOCK_I8];
            FT_EACH_I8(p, pixels) {
                const int column = col + p * x_step;
                const int on_map = row_on_map && (padding == NULL || (column >= 0 && column < xm.w));
                at[p] = on_map ? x + row * xm.row + column * xm.pixel : padding;
            }
            const int8_t *w_tap = w + tap * conv.w_tap;
            if (depthwise)
                ft_conv_depthwise_tap_i8(acc, at, x_pixel, zero, w_tap, first, conv.out, pixels, count);
            else
                ft_conv_run_i8(acc, at, x_pixel, length, zero, w_tap, conv.w_in, pixels, count);
        }
    }
    /* A copy, so that the sums can stay in registers and one piece of code rounds them all. */
    uint32_t sums[FT_BLOCK_I8][FT_SINGLE_I8];
    FT_EACH_I8(p, pixels)
        FT_EACH_I8(k, count)
            sums[p][k] = acc[p][k];
    for (int p = 0; p < pixels; p++)
        _Pragma("GCC unroll 1") for (int k = 0; k < count; k++) {
            int32_t value = ft_requantized_i8(sums[p][k], first + k, to);
            FT_KEEP_I8(value); /* else RISC-V extends its sign before it is stored */
            y[p * y_pixel + first + k] = (int8_t)value;
        }
}

/* All output channels of `pixels` neighbours; arguments as for ft_conv_block_i8. */
FT_INLINE void ft_conv_pixels_i8(const int8_t *x, int x_step, ft_map_t xm, const int8_t *padding,
                                 int32_t zero, const int8_t *w, const int32_t *bias, int8_t *y, int y_pixel,
                                 ft_conv_t conv, ft_taps_t rows, ft_taps_t cols, ft_requantize_t to,
                                 int pixels) {
    /* Depthwise weights lie side by side for all groups, and so do their outputs. */
    const int depthwise = conv.in == 1 && conv.groups > 1;
    const int groups = depthwise ? 1 : conv.groups;
    const int out = depthwise ? conv.groups * conv.out : conv.out;
    const int block = pixels == 1 ? FT_SINGLE_I8 : FT_CHANNELS_I8;
    for (int n = 0; n < groups; n++) {
        const int8_t *xg = x + n * conv.in;
        int o = 0;
        for (; o + block <= out; o += block)
            ft_conv_block_i8(xg, x_step, xm, padding, zero, w + n * conv.w_group + o, bias, y, y_pixel, conv,
                             rows, cols, to, n * out + o, pixels, block);
        if (o < out)
            ft_conv_block_i8(xg, x_step, xm, padding, zero, w + n * conv.w_group + o, bias, y, y_pixel, conv,
                             rows, cols, to, n * out + o, pixels, out % block);
    }
}

/* Rows y0 <= row < y1 of y. padding: NULL if no tap lies in the padding, else the values of a pixel there,
 * all the zero point of x. Weight of tap t, channel i of group n, output o: w[t * w_tap + n * w_group + i *
 * w_in
 * + o] (w_out is 1). bias: one an output channel, with the zero point folded in. x and y do not overlap. No
 * scratch. */
FT_INLINE void ft_conv2d_i8(const int8_t *x, ft_map_t xm, const int8_t *padding, const int8_t *w,
                            const int32_t *bias, int8_t *y, ft_map_t ym, ft_conv_t conv, ft_requantize_t to,
                            int y0, int y1) {
    const ft_window_t win = conv.window;
    const int reach_y = (win.kernel_y - 1) * win.dilation_y;
    const int reach_x = (win.kernel_x - 1) * win.dilation_x;
    for (int row = y0; row < y1; row++) {
        const int top = row * win.stride_y - win.pad_y;
        const ft_taps_t rows = {0, 1, top, win.dilation_y, win.kernel_y};
        for (int col = 0; col < ym.w;) {
            int8_t *yp = y + row * ym.row + col * ym.pixel;
            const int left = col * win.stride_x - win.pad_x;
            const int right = left + (FT_BLOCK_I8 - 1) * win.stride_x + reach_x;
            const ft_taps_t cols = {0, 1, left, win.dilation_x, win.kernel_x};
            const int inside = top >= 0 && top + reach_y < xm.h && left >= 0 && right < xm.w;
            if (col + FT_BLOCK_I8 > ym.w) {
                ft_conv_pixels_i8(x, win.stride_x, xm, padding, 0, w, bias, yp, ym.pixel, conv, rows, cols,
                                  to, 1);
                col++;
            } else if (padding == NULL || inside) {
                ft_conv_pixels_i8(x, win.stride_x, xm, NULL, 0, w, bias, yp, ym.pixel, conv, rows, cols, to,
                                  FT_BLOCK_I8);
                col += FT_BLOCK_I8;
            } else {
                ft_conv_pixels_i8(x, win.stride_x, xm, padding, 0, w, bias, yp, ym.pixel, conv, rows, cols,
                                  to, FT_BLOCK_I8);
                col += FT_BLOCK_I8;
            }
        }
    }
}

/* The same for a transposed window; `zero` is the zero point of x, and bias is without it. */
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
                const int last = col + (FT_BLOCK_I8 - 1) * win.stride_x;
                const ft_taps_t cols =
                    ft_taps_transposed(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
                const ft_taps_t far =
                    ft_taps_transposed(last, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
                const int block = last < ym.w && ft_same_taps(cols, far);
                if (block)
                    ft_conv_pixels_i8(x, 1, xm, NULL, zero, w, bias, yp, win.stride_x * ym.pixel, conv, rows,
                                      cols, to, FT_BLOCK_I8);
                else
                    ft_conv_pixels_i8(x, 1, xm, NULL, zero, w, bias, yp, win.stride_x * ym.pixel, conv, rows,
                                      cols, to, 1);
                col += (block ? FT_BLOCK_I8 : 1) * win.stride_x;
            }
    }
}

#endif
