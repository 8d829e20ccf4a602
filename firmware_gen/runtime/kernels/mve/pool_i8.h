/* Poolings, sums and means of int8 maps with Helium, 16 channels at a time: the bits of ../pool_i8.h. */
#ifndef FT_MVE_POOL_I8_H
#define FT_MVE_POOL_I8_H

#include "../pool_i8.h"
#include "requantize_i8.h"

/* The most taps of a window whose mean ft_mve_mean finds. */
#define FT_MVE_MEAN_TAPS 4080

typedef enum { FT_MVE_MAX_POOL, FT_MVE_AVERAGE_POOL } ft_mve_pool_t;

/* Channels 4k to 4k + 3 of `count`, or what there is of them. Constant k; count, if it is below 4k + 4. */
FT_INLINE int32x4_t ft_mve_four_i8(const int8_t *x, int k, int count) {
    if (count >= 4 * k + 4)
        return vldrbq_s32(x + 4 * k);
    return vldrbq_z_s32(x + 4 * k, vctp32q((uint32_t)(count - 4 * k)));
}

FT_INLINE void ft_mve_put_four_i8(int8_t *y, int32x4_t values, int k, int count) {
    if (count >= 4 * k + 4)
        vstrbq_s32(y + 4 * k, values);
    else
        vstrbq_p_s32(y + 4 * k, values, vctp32q((uint32_t)(count - 4 * k)));
}

/* Adds up all positions of `count` <= 16 channels. Constant count. */
FT_INLINE void ft_mve_area_sums_i8(int32x4_t sums[4], const int8_t *x, ft_area_t area, int count) {
    const int vectors = (count + 3) / 4;
    FT_EACH(k, vectors)
        sums[k] = vdupq_n_s32(0);
    for (int j = 0; j < area.rows; j++) {
        const int8_t *at = x + j * area.row_step;
        for (int i = 0; i < area.cols; i++, at += area.col_step)
            FT_EACH(k, vectors)
                sums[k] = vaddq_s32(sums[k], ft_mve_four_i8(at, k, count));
    }
}

/* sums / taps, rounded to nearest with halves away from zero. inverse: 2^31 / taps, rounded up; with that,
 * the product is large enough and, as |sum| <= 128 * taps, not too large. 1 <= taps <= FT_MVE_MEAN_TAPS. */
FT_INLINE int32x4_t ft_mve_mean(int32x4_t sums, int taps, uint32_t inverse) {
    const int32x4_t size = vaddq_n_s32(vabsq_s32(sums), taps / 2);
    const uint32x4_t twice = vreinterpretq_u32_s32(vshlq_n_s32(size, 1));
    const int32x4_t mean = vreinterpretq_s32_u32(vmulhq_u32(twice, vdupq_n_u32(inverse)));
    const int32x4_t negative = vshrq_n_s32(sums, 31);
    return vsubq_s32(veorq_s32(mean, negative), negative);
}

FT_INLINE int32x4_t ft_mve_clamp(int32x4_t x, int low, int high) {
    return vminq_s32(vmaxq_s32(x, vdupq_n_s32(low)), vdupq_n_s32(high));
}

/* Means of `count` <= 16 channels of a pixel. Constant count, low, high. */
FT_INLINE void ft_mve_average_block_i8(const int8_t *x, ft_area_t area, int8_t *y, int low, int high,
                                       int count) {
    const int taps = area.rows * area.cols;
    const uint32_t inverse = ((1u << 31) + (uint32_t)taps - 1) / (uint32_t)taps;
    int32x4_t sums[4];
    ft_mve_area_sums_i8(sums, x, ft_flat_area(area), count);
    FT_EACH(k, (count + 3) / 4) {
        int32x4_t mean = ft_mve_mean(sums[k], taps, inverse);
        if (low > INT8_MIN || high < INT8_MAX)
            mean = ft_mve_clamp(mean, low, high);
        ft_mve_put_four_i8(y, mean, k, count);
    }
}

/* Rescaled sums of `count` <= 16 channels of a pixel. Constant count, q. */
FT_INLINE void ft_mve_sum_block_i8(const int8_t *x, ft_area_t area, int8_t *y, ft_sum_t q, int count) {
    int32x4_t sums[4];
    ft_mve_area_sums_i8(sums, x, ft_flat_area(area), count);
    FT_EACH(k, (count + 3) / 4) {
        const int32x4_t scaled = ft_mve_scaled_n(vaddq_n_s32(sums[k], q.offset), q.multiplier, q.shift);
        const int32x4_t result = ft_mve_clamp(vqaddq_n_s32(scaled, q.zero_point), INT8_MIN, INT8_MAX);
        ft_mve_put_four_i8(y, result, k, count);
    }
}

/* Largest values of `count` <= 16 channels of a pixel. Constant count, low, high. */
FT_INLINE void ft_mve_max_block_i8(const int8_t *x, ft_area_t area, int8_t *y, int low, int high, int count) {
    const int cut = count < 16;
    const mve_pred16_t exist = cut ? vctp8q((uint32_t)count) : 0;
    int8x16_t best = vdupq_n_s8((int8_t)low);
    for (int j = 0; j < area.rows; j++) {
        const int8_t *at = x + j * area.row_step;
        for (int i = 0; i < area.cols; i++, at += area.col_step)
            best = vmaxq_s8(best, cut ? vldrbq_z_s8(at, exist) : vldrbq_s8(at));
    }
    if (high < INT8_MAX)
        best = vminq_s8(best, vdupq_n_s8((int8_t)high));
    if (cut)
        vstrbq_p_s8(y, best, exist);
    else
        vstrbq_s8(y, best);
}

FT_INLINE void ft_mve_pool_block_i8(ft_mve_pool_t kind, const int8_t *x, ft_area_t area, int8_t *y, int low,
                                    int high, int count) {
    if (kind == FT_MVE_MAX_POOL)
        ft_mve_max_block_i8(x, area, y, low, high, count);
    else
        ft_mve_average_block_i8(x, area, y, low, high, count);
}

/* As ft_max_pool_i8 and ft_average_pool_i8; a mean of at most FT_MVE_MEAN_TAPS taps. Constant kind. */
FT_INLINE void ft_mve_pool_i8(ft_mve_pool_t kind, const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym,
                              ft_window_t win, int low, int high, int y0, int y1) {
    const int whole = ym.c / 16 * 16;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int8_t *at = x;
            const ft_area_t area = ft_window_area(&at, xm, ym, win, row, col);
            int8_t *out = y + row * ym.row + col * ym.pixel;
            for (int c = 0; c < whole; c += 16)
                ft_mve_pool_block_i8(kind, at + c, area, out + c, low, high, 16);
            if (whole < ym.c)
                ft_mve_pool_block_i8(kind, at + whole, area, out + whole, low, high, ym.c - whole);
        }
}

/* As ft_sum_i8, over rows and columns only: ym.c = xm.c. */
FT_INLINE void ft_mve_sum_i8(const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym, ft_sum_t q, int y0,
                             int y1) {
    const ft_area_t area = {ym.h == 1 ? xm.h : 1, ym.w == 1 ? xm.w : 1, xm.row, xm.pixel};
    const int whole = ym.c / 16 * 16;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int8_t *at = x + row * xm.row + col * xm.pixel;
            int8_t *out = y + row * ym.row + col * ym.pixel;
            for (int c = 0; c < whole; c += 16)
                ft_mve_sum_block_i8(at + c, area, out + c, q, 16);
            if (whole < ym.c)
                ft_mve_sum_block_i8(at + whole, area, out + whole, q, ym.c - whole);
        }
}

#endif
