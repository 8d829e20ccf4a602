/* Depthwise convolution on int8 with the DSP instructions of Armv7E-M and Armv8-M: small windows, one output
 * channel a group. The bits are those of conv2d_i8.h; operators/depthwise_i8_dsp.py packs the weights and
 * proves the bounds.
 *
 * One channel at a time runs along a row: its weights stay in registers, two rows of the window are one
 * SMLAD, and each value that a block of neighbouring outputs needs is loaded once. Taps in the padding count
 * as the zero point of x: columns of the window by a constant pair, rows by moving their weights to the bias.
 */
#ifndef FT_DSP_DEPTHWISE_I8_H
#define FT_DSP_DEPTHWISE_I8_H

#include "../conv2d_i8.h"
#include <arm_acle.h>

/* Most outputs of a block, most rows and columns of a window. */
#define FT_DEPTHWISE_BLOCK  5
#define FT_DEPTHWISE_KERNEL 5
/* More columns than any block reads. */
#define FT_DEPTHWISE_COLUMNS 1000
/* A loop over registers, as FT_EACH. */
#define FT_DEPTHWISE_EACH(k, n) _Pragma("GCC unroll 16") for (int k = 0; k < (n); k++)

/* A row of outputs in blocks: `first` that may need padding before the map, `blocks` of `block` that need
 * none, then `last`. Each at most FT_DEPTHWISE_BLOCK. */
typedef struct {
    int first, block, blocks, last;
} ft_depthwise_row_t;

/* What one channel of one row computes with: w[j * kernel_x + i] holds tap i of rows 2j (low half) and 2j + 1
 * (0 below an odd window). fast: weights and bias are doubled and y = (r + (r >> 31) + addend) >> shift,
 * where r is the rounded upper half of sum * multiplier and the addend holds half a unit and the zero point
 * of y. */
typedef struct {
    uint32_t w[(FT_DEPTHWISE_KERNEL + 1) / 2 * FT_DEPTHWISE_KERNEL];
    uint32_t bias;
    int32_t multiplier, addend, shift;
} ft_depthwise_channel_t;

/* The low halves of both, one above the other. */
FT_INLINE uint32_t ft_pack_halves(int32_t low, int32_t high) {
    uint32_t packed;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(packed) : "r"(low), "r"(high));
    return packed;
}

/* (a * b + 2^31) >> 32. */
FT_INLINE int32_t ft_smmulr(int32_t a, int32_t b) {
    int32_t product;
    __asm__("smmulr %0, %1, %2" : "=r"(product) : "r"(a), "r"(b));
    return product;
}

/* `pixels` outputs of channel o. Of the columns that they read, from <= column < to lie on the map; x[j]
 * points at column `from` of the window's row j. Constant pixels, from, to, fast. */
FT_INLINE void ft_depthwise_block_dsp_i8(const int8_t *const x[], int x_pixel, int8_t *y, int y_pixel,
                                         const ft_depthwise_channel_t *channel, ft_window_t win,
                                         uint32_t padding, int from, int to, int pixels,
                                         ft_requantize_t output, int o, int fast) {
    const int columns = (pixels - 1) * win.stride_x + win.kernel_x;
    uint32_t acc[FT_DEPTHWISE_BLOCK];
    FT_DEPTHWISE_EACH(p, pixels)
        acc[p] = channel->bias;
    FT_DEPTHWISE_EACH(i, columns) {
        uint32_t pair[(FT_DEPTHWISE_KERNEL + 1) / 2];
        FT_DEPTHWISE_EACH(j, win.kernel_y) {
            const int32_t value = i >= from && i < to ? x[j][(i - from) * x_pixel] : (int16_t)padding;
            pair[j / 2] = j % 2 ? ft_pack_halves((int32_t)pair[j / 2], value) : (uint32_t)value;
        }
        FT_DEPTHWISE_EACH(p, pixels) {
            const int tap = i - p * win.stride_x;
            if (tap < 0 || tap >= win.kernel_x)
                continue;
            FT_DEPTHWISE_EACH(j, win.kernel_y / 2)
                acc[p] = (uint32_t)__smlad((int16x2_t)channel->w[j * win.kernel_x + tap], (int16x2_t)pair[j],
                                           (int32_t)acc[p]);
            if (win.kernel_y % 2)
                acc[p] = (uint32_t)__smlabb((int32_t)channel->w[win.kernel_y / 2 * win.kernel_x + tap],
                                            (int32_t)pair[win.kernel_y / 2], (int32_t)acc[p]);
        }
    }
    FT_DEPTHWISE_EACH(p, pixels) {
        if (fast) {
            const int32_t r = ft_smmulr((int32_t)acc[p], channel->multiplier);
            const int32_t value = (r + (r >> 31) + channel->addend) >> channel->shift;
            y[p * y_pixel] = (int8_t)(output.low == -128 && output.high == 127
                                          ? __ssat(value, 8)
                                          : ft_clamp_i32(value, output.low, output.high));
        } else {
            y[p * y_pixel] = ft_requantized_i8(acc[p], o, output);
        }
    }
}

/* A row of outputs of channel o; x[j]: the start of the window's row j. */
FT_INLINE void ft_depthwise_row_dsp_i8(const int8_t *x[], ft_map_t xm, int8_t *y, ft_map_t ym,
                                       const ft_depthwise_channel_t *channel, ft_window_t win,
                                       uint32_t padding, ft_depthwise_row_t row, ft_requantize_t output,
                                       int o, int fast) {
    const int x_pixel = xm.pixel;
    if (row.first > 0) {
        const int end = row.blocks + row.last > 0 ? FT_DEPTHWISE_COLUMNS : win.pad_x + xm.w;
        ft_depthwise_block_dsp_i8(x, x_pixel, y, ym.pixel, channel, win, padding, win.pad_x, end, row.first,
                                  output, o, fast);
        FT_DEPTHWISE_EACH(j, win.kernel_y)
            x[j] += (row.first * win.stride_x - win.pad_x) * x_pixel;
        y += row.first * ym.pixel;
    }
    _Pragma("GCC unroll 1") for (int k = 0; k < row.blocks; k++) {
        ft_depthwise_block_dsp_i8(x, x_pixel, y, ym.pixel, channel, win, padding, 0, FT_DEPTHWISE_COLUMNS,
                                  row.block, output, o, fast);
        FT_DEPTHWISE_EACH(j, win.kernel_y)
            x[j] += row.block * win.stride_x * x_pixel;
        y += row.block * ym.pixel;
    }
    if (row.last > 0) {
        const int start = (row.first + row.blocks * row.block) * win.stride_x - win.pad_x;
        ft_depthwise_block_dsp_i8(x, x_pixel, y, ym.pixel, channel, win, padding, 0, xm.w - start, row.last,
                                  output, o, fast);
    }
}

/* Moves the taps of the rows of the window that lie in the padding from the weights to the bias. */
FT_INLINE void ft_depthwise_pad_rows_dsp_i8(ft_depthwise_channel_t *channel, ft_window_t win, ft_taps_t rows,
                                            uint32_t padding) {
    FT_DEPTHWISE_EACH(j, (win.kernel_y + 1) / 2) {
        const int low = 2 * j >= rows.k && 2 * j < rows.k + rows.n;
        const int high = 2 * j + 1 >= rows.k && 2 * j + 1 < rows.k + rows.n;
        const uint32_t present = (low ? 0xFFFFu : 0) | (high ? 0xFFFF0000u : 0);
        FT_DEPTHWISE_EACH(i, win.kernel_x) {
            uint32_t *w = &channel->w[j * win.kernel_x + i];
            channel->bias =
                (uint32_t)__smlad((int16x2_t)(*w & ~present), (int16x2_t)padding, (int32_t)channel->bias);
            *w &= present;
        }
    }
}

/* Rows y0 <= row < y1 of y, stride and padding as in `win`, dilation 1; every output row meets the map.
 * packed: of each channel the words of ft_depthwise_channel_t, the last three only if fast. `output`: where
 * not fast, as for ft_conv2d_i8; else only its limits count. x and y do not overlap. No scratch. */
FT_INLINE void ft_depthwise_dsp_i8(const int8_t *x, ft_map_t xm, int32_t zero, const int32_t *packed,
                                   int8_t *y, ft_map_t ym, ft_window_t win, ft_depthwise_row_t blocks,
                                   ft_requantize_t output, int fast, int y0, int y1) {
    const int words = (win.kernel_y + 1) / 2 * win.kernel_x;
    const uint32_t padding = ft_pack_halves(zero, zero);
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows = ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, 1, xm.h);
        const int32_t *p = packed;
        for (int o = 0; o < ym.c; o++) {
            ft_depthwise_channel_t channel;
            FT_DEPTHWISE_EACH(k, words)
                channel.w[k] = (uint32_t)p[k];
            channel.bias = (uint32_t)p[words];
            channel.multiplier = fast ? p[words + 1] : 0;
            channel.addend = fast ? p[words + 2] : 0;
            channel.shift = fast ? p[words + 3] : 0;
            p += words + (fast ? 4 : 1);
            if (rows.n < win.kernel_y)
                ft_depthwise_pad_rows_dsp_i8(&channel, win, rows, padding);
            const int8_t *at[FT_DEPTHWISE_KERNEL];
            FT_DEPTHWISE_EACH(j, win.kernel_y) {
                /* A row in the padding has no weights left: any row of the map will do. */
                const int tap = j < rows.k ? rows.k : (j < rows.k + rows.n ? j : rows.k + rows.n - 1);
                at[j] = x + (rows.i + tap - rows.k) * xm.row + o;
            }
            int8_t *to = y + row * ym.row + o;
            ft_depthwise_row_dsp_i8(at, xm, to, ym, &channel, win, padding, blocks, output, o, fast);
        }
    }
}

#endif
