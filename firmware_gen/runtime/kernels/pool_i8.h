/* Poolings and reductions of int8 maps with the bits of TFLite's reference kernels. No overlap. */
#ifndef FT_POOL_I8_H
#define FT_POOL_I8_H

#include "fixed_point.h"
#include "map.h"

/* y = largest value of the window, clamped to low..high, rows y0 <= row < y1. Every window meets the input.
 */
FT_INLINE void ft_max_pool_i8(const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym, ft_window_t win, int low,
                              int high, int y0, int y1) {
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
        for (int col = 0; col < ym.w; col++) {
            const ft_taps_t cols =
                ft_taps_direct(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
            const int8_t *xc = x + rows.i * xm.row + cols.i * xm.pixel;
            int8_t *out = y + row * ym.row + col * ym.pixel;
            for (int c = 0; c < ym.c; c++) {
                int best = INT8_MIN;
                for (int j = 0; j < rows.n; j++)
                    for (int i = 0; i < cols.n; i++) {
                        const int value = xc[j * rows.i_step * xm.row + i * cols.i_step * xm.pixel + c];
                        best = value > best ? value : best;
                    }
                out[c] = (int8_t)ft_clamp_i32(best, low, high);
            }
        }
    }
}

/* y = mean of the taps that meet the input, rounded to nearest with halves away from zero, clamped to
 * low..high, rows y0 <= row < y1. Every window meets the input. */
FT_INLINE void ft_average_pool_i8(const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym, ft_window_t win,
                                  int low, int high, int y0, int y1) {
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
        for (int col = 0; col < ym.w; col++) {
            const ft_taps_t cols =
                ft_taps_direct(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
            const int8_t *xc = x + rows.i * xm.row + cols.i * xm.pixel;
            int8_t *out = y + row * ym.row + col * ym.pixel;
            const int32_t taps = rows.n * cols.n;
            for (int c = 0; c < ym.c; c++) {
                int32_t sum = 0;
                for (int j = 0; j < rows.n; j++)
                    for (int i = 0; i < cols.n; i++)
                        sum += xc[j * rows.i_step * xm.row + i * cols.i_step * xm.pixel + c];
                const int32_t mean = (sum > 0 ? sum + taps / 2 : sum - taps / 2) / taps;
                out[c] = (int8_t)ft_clamp_i32(mean, low, high);
            }
        }
    }
}

/* What becomes of a sum over values: (sum + offset) * multiplier * 2^(shift - 31) + zero_point. */
typedef struct {
    int32_t offset, multiplier, shift, zero_point;
} ft_sum_t;

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
                const int32_t scaled = ft_requantize(sum + q.offset, q.multiplier, q.shift);
                /* Clamped before the zero point is added, so that nothing can overflow. */
                const int32_t near = ft_clamp_i32(scaled, INT8_MIN - q.zero_point, INT8_MAX - q.zero_point);
                y[row * ym.row + col * ym.pixel + c] = (int8_t)(near + q.zero_point);
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
