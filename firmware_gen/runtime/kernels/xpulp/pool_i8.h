/* Poolings, sums and means of int8 maps with Xpulp's SIMD, 4 channels at a time: the bits of ../pool_i8.h. */
#ifndef FT_XPULP_POOL_I8_H
#define FT_XPULP_POOL_I8_H

#include "../pool_i8.h"
#include "xpulp.h"

typedef enum { FT_MAX_POOL_XPULP, FT_AVERAGE_POOL_XPULP, FT_SUM_XPULP } ft_pool_xpulp_t;

/* What becomes of the values of one output: clamped to low..high, or if it is a rescaled sum, `sum`. */
typedef struct {
    int low, high;
    ft_sum_t sum;
} ft_pool_result_xpulp_t;

/* The largest values of 4 channels. */
FT_INLINE uint32_t ft_largest4_xpulp(const int8_t *x, ft_area_t area) {
    uint32_t largest = 0x80808080u;
    _Pragma("GCC unroll 1") for (int j = 0; j < area.rows; j++) {
        const int8_t *at = x + j * area.row_step;
        _Pragma("GCC unroll 1") for (int i = 0; i < area.cols; i++, at += area.col_step) largest =
            ft_max4_xpulp(largest, *(const ft_word_xpulp_t *)(const void *)at);
    }
    return largest;
}

/* sums[k] += values of channel k: four positions at a time become a word of each channel. */
FT_INLINE void ft_sums4_xpulp(const int8_t *x, ft_area_t area, uint32_t sums[4]) {
    _Pragma("GCC unroll 1") for (int j = 0; j < area.rows; j++) {
        const int8_t *at = x + j * area.row_step;
        int i = 0;
        _Pragma("GCC unroll 1") for (; i + 4 <= area.cols; i += 4) {
            uint32_t values[4], turned[4];
            FT_EACH(k, 4) {
                values[k] = *(const ft_word_xpulp_t *)(const void *)at;
                at += area.col_step;
            }
            ft_transpose4_xpulp(values, turned);
            FT_EACH(k, 4)
                sums[k] = ft_sdotsp4_xpulp(turned[k], 0x01010101u, sums[k]);
        }
        _Pragma("GCC unroll 1") for (; i < area.cols; i++, at += area.col_step) FT_EACH(k, 4) sums[k] +=
            (uint32_t)at[k];
    }
}

FT_INLINE int8_t ft_pool_value_xpulp(ft_pool_xpulp_t kind, int32_t value, int taps,
                                     ft_pool_result_xpulp_t to) {
    if (kind == FT_SUM_XPULP)
        return ft_scaled_sum_i8(value, to.sum);
    if (kind == FT_AVERAGE_POOL_XPULP)
        return ft_mean_i8(value, taps, to.low, to.high);
    return (int8_t)ft_clamp_xpulp(value, to.low, to.high);
}

/* Channels c0 <= c < c1 of one output pixel, a multiple of 4. Constant kind. */
FT_INLINE void ft_pool_pixel_xpulp(ft_pool_xpulp_t kind, const int8_t *x, ft_area_t area, int8_t *y,
                                   ft_pool_result_xpulp_t to, int c0, int c1) {
    _Pragma("GCC unroll 1") for (int c = c0; c < c1; c += 4) {
        if (kind == FT_MAX_POOL_XPULP) {
            const uint32_t largest = ft_largest4_xpulp(x + c, area);
            FT_EACH(k, 4)
                y[c + k] = ft_pool_value_xpulp(kind, ft_byte_xpulp(largest, k), 0, to);
        } else {
            uint32_t sums[4] = {0, 0, 0, 0};
            ft_sums4_xpulp(x + c, area, sums);
            FT_EACH(k, 4)
                y[c + k] = ft_pool_value_xpulp(kind, (int32_t)sums[k], area.rows * area.cols, to);
        }
    }
}

/* As ft_max_pool_i8 and ft_average_pool_i8, channels c0 <= c < c1. Every pixel of x begins at a multiple of 4
 * bytes; c0, c1 and the channels of y are multiples of 4. Constant kind. */
FT_INLINE void ft_pool_i8_xpulp(ft_pool_xpulp_t kind, const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym,
                                ft_window_t win, int low, int high, int y0, int y1, int c0, int c1) {
    const ft_pool_result_xpulp_t to = {.low = low, .high = high};
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int8_t *at = x;
            const ft_area_t area = ft_window_area(&at, xm, ym, win, row, col);
            ft_pool_pixel_xpulp(kind, at, ft_flat_area(area), y + row * ym.row + col * ym.pixel, to, c0, c1);
        }
}

/* As ft_sum_i8, over rows and columns only, ym.c = xm.c; channels and alignment as for ft_pool_i8_xpulp. */
FT_INLINE void ft_sum_i8_xpulp(const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym, ft_sum_t q, int y0,
                               int y1, int c0, int c1) {
    const ft_area_t area = {ym.h == 1 ? xm.h : 1, ym.w == 1 ? xm.w : 1, xm.row, xm.pixel};
    const ft_pool_result_xpulp_t to = {.sum = q};
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            ft_pool_pixel_xpulp(FT_SUM_XPULP, x + row * xm.row + col * xm.pixel, ft_flat_area(area),
                                y + row * ym.row + col * ym.pixel, to, c0, c1);
}

#endif
