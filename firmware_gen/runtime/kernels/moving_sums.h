/* Sums on grids that move while a network learns: of two maps, over a map, and the gradients of both. */
#ifndef FT_MOVING_SUMS_H
#define FT_MOVING_SUMS_H

#include "moving.h"

/* Of the larger factor of a sum: the products of two such and 9 bits stay below 2^31. */
#define FT_ADDEND_BITS 21

/* Integers a and b on two grids are added as (a * multipliers[0] + b * multipliers[1] + half) >> shift. */
typedef struct {
    int32_t multipliers[2], shift, half;
} ft_addends_t;

FT_INLINE ft_addends_t ft_addends(ft_grid_t a, ft_grid_t b, ft_grid_t to) {
    const float limit = 524288.0f; /* beyond, every sum saturates */
    float factors[2] = {a.scale / to.scale, b.scale / to.scale};
    factors[0] = factors[0] < limit ? factors[0] : limit;
    factors[1] = factors[1] < limit ? factors[1] : limit;
    union {
        float value;
        uint32_t bits;
    } larger = {factors[0] > factors[1] ? factors[0] : factors[1]};
    const int32_t shift = ft_clamp_i32(FT_ADDEND_BITS + 126 - (int32_t)(larger.bits >> 23), 1, 30);
    const float unit = (float)((int32_t)1 << shift);
    const ft_addends_t addends = {{ft_nearest_i32(factors[0] * unit, 1 << FT_ADDEND_BITS),
                                   ft_nearest_i32(factors[1] * unit, 1 << FT_ADDEND_BITS)},
                                  shift,
                                  (int32_t)1 << (shift - 1)};
    return addends;
}

/* y = a + b, both on grids of their own, rounded once to the grid of y with halves up. All three have one
 * shape; y may be a or b. relu: what is below 0 becomes 0. Rows y0..y1. */
FT_INLINE void ft_moving_add_i8(const int8_t *a, ft_map_t am, ft_grid_t a_grid, const int8_t *b, ft_map_t bm,
                                ft_grid_t b_grid, int8_t *y, ft_map_t ym, ft_moving_range_t *range,
                                ft_moving_rule_t rule, int relu, int y0, int y1) {
    const ft_addends_t by = ft_addends(a_grid, b_grid, range->grid);
    const int32_t zero = range->grid.zero, low = relu ? zero : rule.symmetric ? -127 : -128;
    const int32_t start = by.half - a_grid.zero * by.multipliers[0] - b_grid.zero * by.multipliers[1];
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int8_t *ac = a + row * am.row + col * am.pixel, *bc = b + row * bm.row + col * bm.pixel;
            int8_t *yc = y + row * ym.row + col * ym.pixel;
            for (int c = 0; c < ym.c; c++) {
                const int32_t sum = ac[c] * by.multipliers[0] + bc[c] * by.multipliers[1] + start;
                yc[c] = (int8_t)ft_clamp_i32((sum >> by.shift) + zero, low, 127);
            }
        }
    ft_range_observe(range, y, ym, 0, ym.c, y0, y1);
}

/* y = the mean over the axes that have one position in y; the sum of integers is exact and below 2^24. Rows
 * y0..y1. */
FT_INLINE void ft_moving_mean_i8(const int8_t *x, ft_map_t xm, ft_grid_t from, int8_t *y, ft_map_t ym,
                                 ft_moving_range_t *range, int y0, int y1) {
    const int h = ym.h == 1 ? xm.h : 1, w = ym.w == 1 ? xm.w : 1, d = ym.c == 1 ? xm.c : 1;
    const int32_t count = h * w * d;
    const float factor = from.scale / ((float)count * range->grid.scale);
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                int32_t sum = -count * from.zero;
                for (int i = 0; i < h; i++)
                    for (int j = 0; j < w; j++)
                        for (int k = 0; k < d; k++)
                            sum += x[(row + i) * xm.row + (col + j) * xm.pixel + c + k];
                const int32_t steps = ft_nearest_i32((float)sum * factor, 512);
                y[row * ym.row + col * ym.pixel + c] =
                    (int8_t)ft_clamp_i32(steps + range->grid.zero, -128, 127);
            }
    ft_range_observe(range, y, ym, 0, ym.c, y0, y1);
}

/* A grid with the largest integer `symmetric` on which the integers of another one mean the divisor-th part.
 */
FT_INLINE void ft_range_divided(ft_moving_range_t *range, ft_grid_t from, int divisor, int32_t symmetric) {
    range->grid.scale = from.scale / (float)divisor;
    range->grid.zero = 0;
    range->high = (float)symmetric * range->grid.scale;
    range->low = -range->high;
}

/* dx = dy / divisor wherever dy was summed: the same integers on a finer grid, which is exact. All rows. */
FT_INLINE void ft_mean_gradient_i8(const int8_t *dy, ft_map_t dym, ft_grid_t from, int8_t *dx, ft_map_t dxm,
                                   ft_moving_range_t *range, int divisor) {
    ft_range_divided(range, from, divisor, FT_MOST_I8);
    for (int row = 0; row < dxm.h; row++)
        for (int col = 0; col < dxm.w; col++)
            for (int c = 0; c < dxm.c; c++)
                dx[row * dxm.row + col * dxm.pixel + c] =
                    dy[(dym.h == 1 ? 0 : row * dym.row) + (dym.w == 1 ? 0 : col * dym.pixel) +
                       (dym.c == 1 ? 0 : c)];
}

#endif
