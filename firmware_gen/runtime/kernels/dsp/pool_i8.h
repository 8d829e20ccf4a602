/* Poolings, sums and means of int8 maps with the DSP instructions of Armv7E-M and Armv8-M, 8 channels at a
 * time: the bits of ../pool_i8.h. Sums have 16 bits, enough for FT_DSP_TAPS values. */
#ifndef FT_DSP_POOL_I8_H
#define FT_DSP_POOL_I8_H

#include <string.h>

#include "../pool_i8.h"

#define FT_DSP_TAPS 255

typedef enum { FT_DSP_MAX_POOL, FT_DSP_AVERAGE_POOL, FT_DSP_SUM } ft_dsp_pool_t;

/* What becomes of the values of one output: clamped to low..high, or if it is a rescaled sum, `sum`. */
typedef struct {
    int low, high;
    ft_sum_t sum;
} ft_dsp_result_t;

/* A word that lies anywhere. */
FT_INLINE uint32_t ft_word_dsp(const int8_t *x) {
    uint32_t word;
    memcpy(&word, x, sizeof word);
    return word;
}

/* The larger one of each two bytes. */
FT_INLINE uint32_t ft_max4_dsp(uint32_t a, uint32_t b) {
    uint32_t larger;
    __asm__("ssub8 %0, %1, %2\n\t"
            "sel %0, %1, %2"
            : "=&r"(larger)
            : "r"(a), "r"(b));
    return larger;
}

/* sums[0] += values 0 and 2, sums[1] += values 1 and 3, as halfwords. */
FT_INLINE void ft_add4_dsp(uint32_t sums[2], uint32_t word) {
    __asm__("sxtab16 %0, %0, %1" : "+r"(sums[0]) : "r"(word));
    __asm__("sxtab16 %0, %0, %1, ror #8" : "+r"(sums[1]) : "r"(word));
}

/* Sum k of 4. */
FT_INLINE int32_t ft_sum_dsp(const uint32_t sums[2], int k) {
    return (int16_t)(sums[k % 2] >> (k / 2 * 16));
}

FT_INLINE int8_t ft_result_dsp(ft_dsp_pool_t kind, int32_t value, int taps, ft_dsp_result_t to) {
    if (kind == FT_DSP_SUM)
        return ft_scaled_sum_i8(value, to.sum);
    if (kind == FT_DSP_AVERAGE_POOL)
        return ft_mean_i8(value, taps, to.low, to.high);
    return (int8_t)ft_clamp_i32(value, to.low, to.high);
}

/* Outputs of `words` * 4 channels. Constant kind, words. */
FT_INLINE void ft_pool_words_dsp(ft_dsp_pool_t kind, const int8_t *x, ft_area_t area, int8_t *y,
                                 ft_dsp_result_t to, int words) {
    uint32_t acc[2][2];
    FT_EACH(k, words)
        acc[k][0] = acc[k][1] = kind == FT_DSP_MAX_POOL ? 0x80808080u : 0;
    for (int j = 0; j < area.rows; j++) {
        const int8_t *at = x + j * area.row_step;
        for (int i = 0; i < area.cols; i++, at += area.col_step)
            FT_EACH(k, words) {
                const uint32_t word = ft_word_dsp(at + 4 * k);
                if (kind == FT_DSP_MAX_POOL)
                    acc[k][0] = ft_max4_dsp(acc[k][0], word);
                else
                    ft_add4_dsp(acc[k], word);
            }
    }
    FT_EACH(k, words * 4) {
        const uint32_t *sums = acc[k / 4];
        const int32_t value =
            kind == FT_DSP_MAX_POOL ? (int8_t)(sums[0] >> (k % 4 * 8)) : ft_sum_dsp(sums, k % 4);
        y[k] = ft_result_dsp(kind, value, area.rows * area.cols, to);
    }
}

/* All channels of one output pixel. Constant kind. */
FT_INLINE void ft_pool_pixel_dsp(ft_dsp_pool_t kind, const int8_t *x, ft_area_t area, int8_t *y, int channels,
                                 ft_dsp_result_t to) {
    int c = 0;
    for (; c + 8 <= channels; c += 8)
        ft_pool_words_dsp(kind, x + c, area, y + c, to, 2);
    if (c + 4 <= channels) {
        ft_pool_words_dsp(kind, x + c, area, y + c, to, 1);
        c += 4;
    }
    for (; c < channels; c++) {
        int32_t value = kind == FT_DSP_MAX_POOL ? INT8_MIN : 0;
        for (int j = 0; j < area.rows; j++)
            for (int i = 0; i < area.cols; i++) {
                const int32_t tap = x[j * area.row_step + i * area.col_step + c];
                value = kind != FT_DSP_MAX_POOL ? value + tap : tap > value ? tap : value;
            }
        y[c] = ft_result_dsp(kind, value, area.rows * area.cols, to);
    }
}

/* As ft_max_pool_i8 and ft_average_pool_i8; a mean of at most FT_DSP_TAPS taps. Constant kind. */
FT_INLINE void ft_pool_i8_dsp(ft_dsp_pool_t kind, const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym,
                              ft_window_t win, int low, int high, int y0, int y1) {
    const ft_dsp_result_t to = {.low = low, .high = high};
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int8_t *at = x;
            const ft_area_t area = ft_window_area(&at, xm, ym, win, row, col);
            ft_pool_pixel_dsp(kind, at, ft_flat_area(area), y + row * ym.row + col * ym.pixel, ym.c, to);
        }
}

/* As ft_sum_i8, over rows and columns only, FT_DSP_TAPS at most: ym.c = xm.c. */
FT_INLINE void ft_sum_i8_dsp(const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym, ft_sum_t q, int y0,
                             int y1) {
    const ft_area_t area = {ym.h == 1 ? xm.h : 1, ym.w == 1 ? xm.w : 1, xm.row, xm.pixel};
    const ft_dsp_result_t to = {.sum = q};
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            ft_pool_pixel_dsp(FT_DSP_SUM, x + row * xm.row + col * xm.pixel, ft_flat_area(area),
                              y + row * ym.row + col * ym.pixel, ym.c, to);
}

#endif
