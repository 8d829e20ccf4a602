/* Poolings and reductions of int8 maps with the bits of TFLite's reference kernels. No overlap. */
#ifndef FT_POOL_I8_H
#define FT_POOL_I8_H

#include "fixed_point.h"
#include "map.h"

/* The positions that make one output, and the strides between them. */
typedef struct {
    int rows, cols, row_step, col_step;
} ft_area_t;

/* The taps that position `at` of `count` along one axis has on the map: constants, if all windows lie there.
 */
FT_INLINE ft_taps_t ft_pool_taps(int at, int count, int kernel, int stride, int pad, int dilation, int size) {
    const ft_taps_t whole = {0, 1, at * stride, dilation, kernel};
    if (pad == 0 && (count - 1) * stride + (kernel - 1) * dilation < size)
        return whole;
    return ft_taps_direct(at, kernel, stride, pad, dilation, size);
}

/* The taps of output pixel (row, col) that meet the input; moves *x to the first of them. */
FT_INLINE ft_area_t ft_window_area(const int8_t **x, ft_map_t xm, ft_map_t ym, ft_window_t win, int row,
                                   int col) {
    const ft_taps_t rows =
        ft_pool_taps(row, ym.h, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
    const ft_taps_t cols =
        ft_pool_taps(col, ym.w, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
    const ft_area_t area = {rows.n, cols.n, rows.i_step * xm.row, cols.i_step * xm.pixel};
    *x += rows.i * xm.row + cols.i * xm.pixel;
    return area;
}

/* The same positions in one row, where all lie at one stride. */
FT_INLINE ft_area_t ft_flat_area(ft_area_t area) {
    const ft_area_t flat = {1, area.rows * area.cols, 0, area.col_step};
    return area.row_step == area.cols * area.col_step ? flat : area;
}

/* y = largest value of the window, clamped to low..high, rows y0 <= row < y1. Every window meets the input.
 */
FT_INLINE void ft_max_pool_i8(const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym, ft_window_t win, int low,
                              int high, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int8_t *at = x;
            const ft_area_t area = ft_window_area(&at, xm, ym, win, row, col);
            int8_t *out = y + row * ym.row + col * ym.pixel;
            for (int c = 0; c < ym.c; c++) {
                int best = INT8_MIN;
                for (int j = 0; j < area.rows; j++)
                    for (int i = 0; i < area.cols; i++) {
                        const int value = at[j * area.row_step + i * area.col_step + c];
                        best = value > best ? value : best;
                    }
                out[c] = (int8_t)ft_clamp_i32(best, low, high);
            }
        }
}

/* sum / taps, rounded to nearest with halves away from zero, between low and high. */
FT_INLINE int8_t ft_mean_i8(int32_t sum, int32_t taps, int low, int high) {
    const int32_t mean = (sum > 0 ? sum + taps / 2 : sum - taps / 2) / taps;
    return (int8_t)(low > INT8_MIN || high < INT8_MAX ? ft_clamp_i32(mean, low, high) : mean);
}

/* y = mean of the taps that meet the input, clamped to low..high, rows y0 <= row < y1. Every window meets the
 * input. */
FT_INLINE void ft_average_pool_i8(const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym, ft_window_t win,
                                  int low, int high, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int8_t *at = x;
            const ft_area_t area = ft_window_area(&at, xm, ym, win, row, col);
            int8_t *out = y + row * ym.row + col * ym.pixel;
            for (int c = 0; c < ym.c; c++) {
                int32_t sum = 0;
                for (int j = 0; j < area.rows; j++)
                    for (int i = 0; i < area.cols; i++)
                        sum += at[j * area.row_step + i * area.col_step + c];
                out[c] = ft_mean_i8(sum, area.rows * area.cols, low, high);
            }
        }
}

/* What becomes of a sum over values: (sum + offset) * multiplier * 2^(shift - 31) + zero_point. */
typedef struct {
    int32_t offset, multiplier, shift, zero_point;
} ft_sum_t;

/* Clamped before the zero point is added, so that nothing can overflow. */
FT_INLINE int8_t ft_scaled_sum_i8(int32_t sum, ft_sum_t q) {
    const int32_t scaled = ft_requantize(sum + q.offset, q.multiplier, q.shift);
    const int32_t near = ft_clamp_i32(scaled, INT8_MIN - q.zero_point, INT8_MAX - q.zero_point);
    return (int8_t)(near + q.zero_point);
}

/* y = the rescaled sum over all rows, columns, channels of x whose axis has one position in y; the other axes
 * are those of x. */
FT_INLINE void ft_sum_i8(const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym, ft_sum_t q, int y0, int y1) {
    const int h = ym.h == 1 ? xm.h : 1, w = ym.w == 1 ? xm.w : 1, d = ym.c == 1 ? xm.c : 1;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                int32_t sum = 0;
                for (int i = 0; i < h; i++)
                    for (int j = 0; j < w; j++)
                        for (int k = 0; k < d; k++)
                            sum += x[(row + i) * xm.row + (col + j) * xm.pixel + c + k];
                y[row * ym.row + col * ym.pixel + c] = ft_scaled_sum_i8(sum, q);
            }
}

/* y = the largest (sign 1) or smallest (sign -1) value, over the axes that ft_sum_i8 sums over. */
FT_INLINE void ft_extreme_i8(const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym, int sign, int y0, int y1) {
    const int h = ym.h == 1 ? xm.h : 1, w = ym.w == 1 ? xm.w : 1, d = ym.c == 1 ? xm.c : 1;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                const int8_t *xc = x + row * xm.row + col * xm.pixel + c;
                int best = xc[0];
                for (int i = 0; i < h; i++)
                    for (int j = 0; j < w; j++)
                        for (int k = 0; k < d; k++) {
                            const int value = xc[i * xm.row + j * xm.pixel + k];
                            best = value * sign > best * sign ? value : best;
                        }
                y[row * ym.row + col * ym.pixel + c] = (int8_t)best;
            }
}

#endif
