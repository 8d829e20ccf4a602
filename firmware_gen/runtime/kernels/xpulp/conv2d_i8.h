/* Convolution and fully connected layers on int8 for GAP9's cores: four multiply-accumulates an instruction
 * (pv.sdotsp.b). Weights and tables are packed by operators/conv2d_i8_xpulp.py.
 *
 * Each four output channels read the windows of two output pixels, row by row: 14 instructions for 32
 * multiply-accumulates (ft_dots_xpulp). Windows that reach into the padding, or whose rows are no whole
 * words, are gathered in scratch before.
 */
#ifndef FT_XPULP_CONV2D_I8_H
#define FT_XPULP_CONV2D_I8_H

#include "../conv2d_i8.h"
#include "xpulp.h"

/* How sums become outputs: as ft_requantize_t says; by ft_round_xpulp, with factors of their own for sums
 * below 0 or without; by ft_round_once_fast. */
enum { FT_TABLES_XPULP, FT_TWICE_XPULP, FT_LEAKY_XPULP, FT_ONCE_XPULP };

/* Output channels of a block. */
#define FT_CHANNELS_XPULP 4

/* What makes outputs from windows.
 *
 * w: packed weights, aligned to 4 bytes: of each group, each block of 4 output channels, each 4 values of the
 * window and each channel in turn, 4 bytes. bias: of each output channel; but if rounding is not
 * FT_TABLES_XPULP, only zero and limits of `to` count, and bias holds for each block its 4 biases, then 4
 * each of the other arguments of the rounding, if leaky then those for sums below 0. */
typedef struct {
    const int8_t *w;
    const int32_t *bias;
    int rounding;
    ft_requantize_t to;
} ft_channels_xpulp_t;

/* Words of a window, its last one filled up: the weights there are 0. */
FT_INLINE int ft_words_xpulp(ft_conv_t conv) {
    return (conv.window.kernel_y * conv.window.kernel_x * conv.in + 3) / 4;
}

/* Entries of ft_channels_xpulp_t.bias for a block. */
FT_INLINE int ft_entries_xpulp(int rounding) {
    return FT_CHANNELS_XPULP * (rounding == FT_TABLES_XPULP ? 1 : rounding == FT_LEAKY_XPULP ? 7 : 4);
}

/* sum * doubled * 2^(-32 - shift), rounded as ft_requantize does, plus the zero point of y. doubled: twice
 * the multiplier, as uint32_t. half = 2^(shift - 1) + (zero << shift). low: what the caller takes outputs up
 * to. -2^30 <= sum < 2^30, 1 <= shift <= 31. Constant zero, low. */
FT_INLINE int32_t ft_round_xpulp(int32_t sum, uint32_t doubled, int32_t half, int32_t shift, int32_t zero,
                                 int32_t low) {
    const int64_t product = (int64_t)sum * doubled;
    const int32_t high = (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
    /* Adding half rounds halves up; below 0 they are to go down: but there, where nothing is less than the
     * zero point in the end, either way gives `low`. */
    const int32_t down = low < zero ? sum >> 31 : 0;
    return (high + down + half) >> shift;
}

/* out[p] = the output of channel o, the k-th of the block at whose tables `bias` points, for sums[p].
 * Constant pixels. */
FT_INLINE void ft_outputs_xpulp(const uint32_t sums[2], int32_t out[2], int o, int k, const int32_t *bias,
                                ft_channels_xpulp_t channels, int pixels) {
    const ft_requantize_t to = channels.to;
    if (channels.rounding == FT_TABLES_XPULP) {
        FT_EACH(p, pixels)
            out[p] = ft_requantized_i8(sums[p], o, to);
        return;
    }
    FT_EACH(p, pixels) {
        const int32_t sum = (int32_t)sums[p];
        /* In bytes: that saves a shift for each output. */
        const int32_t negative = channels.rounding == FT_LEAKY_XPULP ? sum >> 31 & 12 * FT_CHANNELS_XPULP : 0;
        const int32_t *own = (const int32_t *)(const void *)((const int8_t *)bias + negative) + k;
        const int32_t value = channels.rounding == FT_ONCE_XPULP
                                  ? ft_round_once_fast(sum, own[4], own[8], own[12], 2 * to.zero + 1)
                                  : ft_round_xpulp(sum, (uint32_t)own[4], own[8], own[12], to.zero, to.low);
        out[p] = ft_clamp_xpulp(value, to.low, to.high);
    }
}

/* Where the windows of two pixels lie: `runs` runs of `words` words each, those of pixel p from x[p] on with
 * gap[p] bytes between them. */
typedef struct {
    const int8_t *x[2];
    int gap[2];
    int runs, words;
} ft_windows_xpulp_t;

/* `count` output channels from o on, a block, of `pixels` pixels, to y[p]; returns the weights behind.
 * Constant count, pixels. */
FT_INLINE const int8_t *ft_conv_block_xpulp(ft_windows_xpulp_t windows, const int8_t *w, const int32_t *bias,
                                            ft_channels_xpulp_t channels, int8_t *const y[2], int o,
                                            int count, int pixels) {
    uint32_t acc[2][4];
    FT_EACH(k, FT_CHANNELS_XPULP)
        acc[0][k] = acc[1][k] = k < count ? (uint32_t)bias[k] : 0;
    _Pragma("GCC unroll 1") for (int run = 0; run < windows.runs; run++) {
        w = ft_dots_xpulp(acc, w, windows.x, windows.words, pixels, count);
        windows.x[0] += windows.gap[0];
        windows.x[1] += windows.gap[1];
    }
    FT_EACH(k, count) {
        const uint32_t sums[2] = {acc[0][k], acc[1][k]};
        int32_t out[2];
        ft_outputs_xpulp(sums, out, o + k, k, bias, channels, pixels);
        /* Not before: a store could change the tables, as far as the compiler knows. */
        FT_EACH(p, pixels)
            y[p][k] = (int8_t)out[p];
    }
    return w;
}

/* Output channels `first` to `end` of a group with `out`, both counted from 0; `from` is the group's first
 * channel, to which y[p] points. Constant out, pixels. */
FT_INLINE void ft_conv_pixels_xpulp(ft_windows_xpulp_t windows, ft_channels_xpulp_t channels,
                                    int8_t *const y[2], int from, int out, int first, int end, int pixels) {
    const int whole = out - out % FT_CHANNELS_XPULP, blocks_end = end < whole ? end : whole;
    const int8_t *w = channels.w + first * windows.runs * windows.words * 4;
    const int32_t *bias = channels.bias + first / FT_CHANNELS_XPULP * ft_entries_xpulp(channels.rounding);
    int8_t *at[2] = {y[0] + first, y[1] + first}; /* a copy, which stays in registers */
    _Pragma("GCC unroll 1") for (int o = first; o < blocks_end; o += FT_CHANNELS_XPULP) {
        w = ft_conv_block_xpulp(windows, w, bias, channels, at, from + o, FT_CHANNELS_XPULP, pixels);
        bias += ft_entries_xpulp(channels.rounding);
        at[0] += FT_CHANNELS_XPULP;
        at[1] += FT_CHANNELS_XPULP;
    }
    if (whole < out && whole < end)
        ft_conv_block_xpulp(windows, w, bias, channels, at, from + whole, out % FT_CHANNELS_XPULP, pixels);
}

/* Writes the same value to `count` bytes; as ft_copy_xpulp. */
FT_INLINE int8_t *ft_fill_xpulp(int8_t *to, int32_t value, int count, int in_words) {
    const uint32_t word = (uint32_t)(uint8_t)value * 0x01010101u;
    _Pragma("GCC unroll 1") for (int k = 0; k < count; k += in_words ? 4 : 1) {
        if (in_words)
            *(ft_word_xpulp_t *)(void *)(to + k) = word;
        else
            to[k] = (int8_t)value;
    }
    return to + count;
}

/* 1 when a row of a window is one run of values, where it lies on the map. */
FT_INLINE int ft_beside_xpulp(ft_map_t xm, ft_conv_t conv) {
    return conv.window.kernel_x == 1 || (conv.window.dilation_x == 1 && xm.pixel == conv.in);
}

/* Gathers the window of the output pixel at (row, col), as it lies in `conv`; what lies in the padding is
 * `zero`. Constant in_words: pixels of x are whole words, aligned. */
FT_INLINE void ft_gather_xpulp(int8_t *to, const int8_t *x, ft_map_t xm, int32_t zero, ft_conv_t conv,
                               int row, int col, int in_words) {
    const ft_window_t win = conv.window;
    const int beside = ft_beside_xpulp(xm, conv);
    const int left = col * win.stride_x - win.pad_x;
    const int inside = left >= 0 && left + (win.kernel_x - 1) * win.dilation_x < xm.w;
    int i = row * win.stride_y - win.pad_y;
    _Pragma("GCC unroll 1") for (int ky = 0; ky < win.kernel_y; ky++, i += win.dilation_y) {
        const int on_map = i >= 0 && i < xm.h;
        const int8_t *line = x + i * xm.row;
        if (on_map && inside && beside) {
            to = ft_copy_xpulp(to, line + left * xm.pixel, win.kernel_x * conv.in, in_words);
            continue;
        }
        _Pragma("GCC unroll 1") for (int kx = 0; kx < win.kernel_x; kx++) {
            const int j = left + kx * win.dilation_x;
            if (on_map && j >= 0 && j < xm.w)
                to = ft_copy_xpulp(to, line + j * xm.pixel, conv.in, in_words);
            else
                to = ft_fill_xpulp(to, zero, conv.in, in_words);
        }
    }
}

/* 1 when the window of the output pixel at (row, col) lies on the map; a constant, if all do. */
FT_INLINE int ft_inside_xpulp(ft_map_t xm, ft_map_t ym, ft_window_t win, int row, int col) {
    const int reach_y = (win.kernel_y - 1) * win.dilation_y, reach_x = (win.kernel_x - 1) * win.dilation_x;
    const int top = row * win.stride_y - win.pad_y, left = col * win.stride_x - win.pad_x;
    const int last_y = (ym.h - 1) * win.stride_y - win.pad_y, last_x = (ym.w - 1) * win.stride_x - win.pad_x;
    const int rows = win.pad_y == 0 && last_y + reach_y < xm.h;
    const int columns = win.pad_x == 0 && last_x + reach_x < xm.w;
    return (rows || (top >= 0 && top + reach_y < xm.h)) && (columns || (left >= 0 && left + reach_x < xm.w));
}

/* Rows y0 <= row < y1 and channels o0 <= o < o1 of a group; `from` is its first channel, to which y points.
 * Constant in_words. */
FT_INLINE void ft_conv_group_xpulp(const int8_t *x, ft_map_t xm, int32_t zero, ft_channels_xpulp_t channels,
                                   int8_t *y, ft_map_t ym, ft_conv_t conv, int from, int8_t *scratch, int y0,
                                   int y1, int o0, int o1, int in_words) {
    const ft_window_t win = conv.window;
    const int words = ft_words_xpulp(conv), total = (y1 - y0) * ym.w;
    const int single = ym.h * ym.w == 1, odd = ym.w % 2; /* constants: most layers need no code for both */
    const int in_place = in_words && ft_beside_xpulp(xm, conv);
    const int run = in_place ? win.kernel_x * conv.in / 4 : words, runs = in_place ? win.kernel_y : 1;
    int row = y0, col = 0;
    for (int done = 0; done < total; done += 2) {
        const int pixels = single || (odd && total - done == 1) ? 1 : 2;
        const int8_t *window[2] = {scratch, scratch};
        int gap[2] = {0, 0};
        int8_t *out[2] = {y, y};
        for (int p = 0; p < pixels; p++) {
            if (in_place && ft_inside_xpulp(xm, ym, win, row, col)) {
                window[p] = x + (row * win.stride_y - win.pad_y) * xm.row +
                            (col * win.stride_x - win.pad_x) * xm.pixel;
                gap[p] = win.dilation_y * xm.row - 4 * run;
            } else {
                int8_t *const gathered = scratch + p * 4 * words;
                ft_gather_xpulp(gathered, x, xm, zero, conv, row, col, in_words);
                window[p] = gathered;
            }
            out[p] = y + row * ym.row + col * ym.pixel;
            if (++col == ym.w) {
                col = 0;
                row++;
            }
        }
        const ft_windows_xpulp_t windows = {{window[0], window[1]}, {gap[0], gap[1]}, runs, run};
        if (pixels == 2)
            ft_conv_pixels_xpulp(windows, channels, out, from, conv.out, o0, o1, 2);
        else
            ft_conv_pixels_xpulp(windows, channels, out, from, conv.out, o0, o1, 1);
    }
}

/* Rows y0 <= row < y1 of output channels o0 <= o < o1 of y; as ft_conv2d_i8. o0 is a multiple of 4, o1 too or
 * the last; of a layer in groups, both are the bounds of whole groups. channels: of all groups; except of
 * bias without other factors, those of each group are filled up to whole blocks. scratch: the windows of two
 * pixels, each filled up to whole words, aligned to 4 bytes. x, y and scratch do not overlap. aligned: every
 * pixel of x begins at a multiple of 4 bytes. Constant maps, conv, aligned, channels.rounding and limits. */
FT_INLINE void ft_conv2d_i8_xpulp(const int8_t *x, ft_map_t xm, int32_t zero, ft_channels_xpulp_t channels,
                                  int8_t *y, ft_map_t ym, ft_conv_t conv, int aligned, int8_t *scratch,
                                  int y0, int y1, int o0, int o1) {
    const int blocks = (conv.out + FT_CHANNELS_XPULP - 1) / FT_CHANNELS_XPULP;
    const int weights = blocks * 4 * FT_CHANNELS_XPULP * ft_words_xpulp(conv);
    const int tables =
        channels.rounding == FT_TABLES_XPULP ? conv.out : blocks * ft_entries_xpulp(channels.rounding);
    const int in_words = aligned && conv.in % 4 == 0;
    const int8_t *const w = channels.w;
    const int32_t *const bias = channels.bias;
    for (int g = 0; g < conv.groups; g++) {
        const int from = g * conv.out;
        const int first = o0 > from ? o0 - from : 0, end = o1 - from < conv.out ? o1 - from : conv.out;
        if (first >= end)
            continue;
        channels.w = w + g * weights;
        channels.bias = bias + g * tables;
        ft_conv_group_xpulp(x + g * conv.in, xm, zero, channels, y + from, ym, conv, from, scratch, y0, y1,
                            first, end, in_words);
    }
}

#endif
