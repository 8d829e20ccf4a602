/* Depthwise convolution on int8 for GAP9's cores: small windows, one output channel a group. The bits are
 * those of conv2d_i8.h; operators/depthwise_i8_xpulp.py packs weights and tables.
 *
 * For four channels and a row of outputs, the columns of the window's rows are turned into words of one
 * channel each, four rows a word; then a channel runs along the row with its weights in registers, and a
 * column of its window is one pv.sdotsp.b.
 */
#ifndef FT_XPULP_DEPTHWISE_I8_H
#define FT_XPULP_DEPTHWISE_I8_H

#include "conv2d_i8.h"

#define FT_DEPTHWISE_KERNEL_XPULP 8 /* most rows and columns of a window */

/* Words of a column of the window. */
FT_INLINE int ft_column_xpulp(ft_window_t win) {
    return (win.kernel_y + 3) / 4;
}

/* `count` bytes of a word, at most 4; constant in_words: there are 4, aligned. */
FT_INLINE uint32_t ft_word_xpulp(const int8_t *x, int count, int in_words) {
    if (in_words)
        return *(const ft_word_xpulp_t *)(const void *)x;
    return ft_pack4_xpulp(x[0], count > 1 ? x[1] : 0, count > 2 ? x[2] : 0, count > 3 ? x[3] : 0);
}

/* Writes `n` columns that lie in the padding. `span` words lie between the channels. */
FT_INLINE ft_word_xpulp_t *ft_pad_columns_xpulp(ft_word_xpulp_t *to, uint32_t padding, int n, int span) {
    _Pragma("GCC unroll 1") for (; n > 0; n--, to++) FT_EACH(k, 4) to[k * span] = padding;
    return to;
}

/* Turns the rows of the window from row `top` on into columns of `count` channels, to[channel][column][word].
 * x points at the first channel; `columns` are those that the row of outputs reads. */
FT_INLINE void ft_turn_rows_xpulp(ft_word_xpulp_t *to, int columns, const int8_t *x, ft_map_t xm,
                                  int32_t zero, ft_window_t win, int top, int count, int in_words) {
    const int words = ft_column_xpulp(win), span = columns * words;
    const uint32_t padding = (uint32_t)(uint8_t)zero * 0x01010101u;
    const int before = win.pad_x < columns ? win.pad_x : columns;
    const int on_map = columns - before < xm.w ? columns - before : xm.w;
    const int8_t *line[FT_DEPTHWISE_KERNEL_XPULP];
    int step[FT_DEPTHWISE_KERNEL_XPULP];
    FT_EACH(j, win.kernel_y) {
        const int i = top + j * win.dilation_y, here = i >= 0 && i < xm.h;
        line[j] = here ? x + i * xm.row : (const int8_t *)(const void *)&padding;
        step[j] = here ? xm.pixel : 0;
    }
    to = ft_pad_columns_xpulp(to, padding, before * words, span);
    _Pragma("GCC unroll 1") for (int n = 0; n < on_map; n++) {
        FT_EACH(part, words) {
            uint32_t rows[4], turned[4];
            FT_EACH(j, 4) {
                /* Below the window the weights are 0: any row will do. */
                const int row = 4 * part + j < win.kernel_y ? 4 * part + j : win.kernel_y - 1;
                rows[j] = ft_word_xpulp(line[row], count, in_words);
            }
            ft_transpose4_xpulp(rows, turned);
            FT_EACH(k, 4)
                to[k * span + part] = turned[k];
        }
        FT_EACH(j, win.kernel_y)
            line[j] += step[j];
        to += words;
    }
    ft_pad_columns_xpulp(to, padding, (columns - before - on_map) * words, span);
}

/* `pixels` neighbouring outputs of channel o, to y and y_pixel behind it. v: their columns; w: the channel's
 * weights, a column after the other; table: as ft_channels_xpulp_t.bias of a block whose first channel it is.
 * Constant pixels. */
FT_INLINE void ft_depthwise_pixels_xpulp(const ft_word_xpulp_t *v, const uint32_t *w, const int32_t *table,
                                         ft_channels_xpulp_t channels, ft_window_t win, int o, int8_t *y,
                                         int y_pixel, int pixels) {
    const int words = ft_column_xpulp(win);
    const int reach = (pixels - 1) * win.stride_x + (win.kernel_x - 1) * win.dilation_x;
    uint32_t sums[2] = {(uint32_t)table[0], (uint32_t)table[0]};
    int32_t out[2];
    FT_EACH(n, (reach + 1) * words) {
        const uint32_t value = v[n];
        FT_EACH(p, pixels) {
            const int from = n / words - p * win.stride_x, tap = from / win.dilation_x;
            if (from >= 0 && from % win.dilation_x == 0 && tap < win.kernel_x)
                sums[p] = ft_sdotsp4_xpulp(value, w[tap * words + n % words], sums[p]);
        }
    }
    ft_outputs_xpulp(sums, out, o, 0, table, channels, pixels);
    FT_EACH(p, pixels)
        y[p * y_pixel] = (int8_t)out[p];
}

/* Rows y0 <= row < y1 of output channels o0 <= o < o1 of y; as ft_conv2d_i8. o0 is a multiple of 4. channels:
 * as for ft_conv2d_i8_xpulp, but of each channel the columns of its window, each in whole words. scratch,
 * aligned to 4 bytes: of 4 channels, the columns that a row of outputs reads. x, y and scratch do not
 * overlap. aligned: every pixel of x begins at a multiple of 4 bytes. Constant maps, win, aligned,
 * channels.rounding and limits. */
FT_INLINE void ft_depthwise_i8_xpulp(const int8_t *x, ft_map_t xm, int32_t zero, ft_channels_xpulp_t channels,
                                     int8_t *y, ft_map_t ym, ft_window_t win, int aligned, int8_t *scratch,
                                     int y0, int y1, int o0, int o1) {
    const int words = ft_column_xpulp(win), entries = ft_entries_xpulp(channels.rounding) / FT_CHANNELS_XPULP;
    const int columns = (ym.w - 1) * win.stride_x + (win.kernel_x - 1) * win.dilation_x + 1;
    const int in_words = aligned && ym.c % 4 == 0;
    ft_word_xpulp_t *const turned = (ft_word_xpulp_t *)(void *)scratch;
    _Pragma("GCC unroll 1") for (int row = y0; row < y1; row++) {
        _Pragma("GCC unroll 1") for (int block = o0; block < o1; block += FT_CHANNELS_XPULP) {
            const int count = o1 - block < FT_CHANNELS_XPULP ? o1 - block : FT_CHANNELS_XPULP;
            ft_turn_rows_xpulp(turned, columns, x + block, xm, zero, win, row * win.stride_y - win.pad_y,
                               count, in_words);
            _Pragma("GCC unroll 1") for (int k = 0; k < count; k++) {
                const ft_word_xpulp_t *v = turned + k * columns * words;
                const ft_word_xpulp_t *const own =
                    (const ft_word_xpulp_t *)(const void *)channels.w + (block + k) * win.kernel_x * words;
                int8_t *to = y + row * ym.row + block + k;
                /* Copies, which no store can change: they stay in registers. */
                uint32_t w[2 * FT_DEPTHWISE_KERNEL_XPULP];
                int32_t table[7 * FT_CHANNELS_XPULP];
                FT_EACH(n, win.kernel_x * words)
                    w[n] = own[n];
                FT_EACH(n, entries)
                    table[n * FT_CHANNELS_XPULP] =
                        channels.rounding == FT_TABLES_XPULP
                            ? channels.bias[block + k]
                            : channels.bias[block * entries + n * FT_CHANNELS_XPULP + k];
                int col = 0;
                _Pragma("GCC unroll 1") for (; col + 2 <= ym.w; col += 2) {
                    ft_depthwise_pixels_xpulp(v, w, table, channels, win, block + k, to, ym.pixel, 2);
                    v += 2 * win.stride_x * words;
                    to += 2 * ym.pixel;
                }
                if (ym.w % 2)
                    ft_depthwise_pixels_xpulp(v, w, table, channels, win, block + k, to, ym.pixel, 1);
            }
        }
    }
}

#endif
