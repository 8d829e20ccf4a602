/* Max and average pooling and their gradients, float32. Order of summation: taps in ascending order, then one
 * multiplication. Gradients: output pixels in raster order, taps ascending, each added to dx. */
#ifndef FT_POOL_H
#define FT_POOL_H

#include "map.h"

/* y = largest value of the window; the first one in case of equals. index (NULL when nothing learns below):
 * tap of that value, dense [h][w][c], kernels of at most 255 taps. Every window meets the input. No overlap.
 */
FT_INLINE void ft_max_pool_f32(const float *x, ft_map_t xm, float *y, ft_map_t ym, uint8_t *index,
                               ft_window_t win, int y0, int y1) {
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
        for (int col = 0; col < ym.w; col++) {
            const ft_taps_t cols =
                ft_taps_direct(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
            for (int c = 0; c < ym.c; c++) {
                const float *xc = x + rows.i * xm.row + cols.i * xm.pixel + c;
                float best = *xc;
                int tap = rows.k * win.kernel_x + cols.k;
                for (int j = 0; j < rows.n; j++)
                    for (int i = 0; i < cols.n; i++) {
                        const float value = xc[j * rows.i_step * xm.row + i * cols.i_step * xm.pixel];
                        if (value > best) {
                            best = value;
                            tap = (rows.k + j) * win.kernel_x + cols.k + i;
                        }
                    }
                y[row * ym.row + col * ym.pixel + c] = best;
                if (index)
                    index[(row * ym.w + col) * ym.c + c] = (uint8_t)tap;
            }
        }
    }
}

/* dx += dy at the position that `index` names. dx does not overlap dy and holds 0 or another gradient before.
 */
FT_INLINE void ft_max_pool_grad_f32(const float *dy, ft_map_t dym, const uint8_t *index, float *dx,
                                    ft_map_t dxm, ft_window_t win, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < dym.w; col++)
            for (int c = 0; c < dym.c; c++) {
                const int tap = index[(row * dym.w + col) * dym.c + c];
                const int iy = row * win.stride_y - win.pad_y + tap / win.kernel_x * win.dilation_y;
                const int ix = col * win.stride_x - win.pad_x + tap % win.kernel_x * win.dilation_x;
                float *d = dx + iy * dxm.row + ix * dxm.pixel + c;
                *d = *d + dy[row * dym.row + col * dym.pixel + c];
            }
}

/* The divisor of an average: the taps that meet the input, or all that meet the input with its padding
 * (count_padding; pad_end_*: padding after the last row/column). */
typedef struct {
    int count_padding;
    int pad_end_y, pad_end_x;
} ft_average_t;

FT_INLINE int ft_padded_taps(int out, int kernel, int stride, int pad, int pad_end, int dilation, int size) {
    const int start = out * stride - pad;
    const int fit = (size + pad_end - start + dilation - 1) / dilation;
    return fit < kernel ? fit : kernel;
}

FT_INLINE float ft_average_factor(int row, int col, int taps, ft_map_t xm, ft_window_t win,
                                  ft_average_t avg) {
    if (avg.count_padding)
        taps =
            ft_padded_taps(row, win.kernel_y, win.stride_y, win.pad_y, avg.pad_end_y, win.dilation_y, xm.h) *
            ft_padded_taps(col, win.kernel_x, win.stride_x, win.pad_x, avg.pad_end_x, win.dilation_x, xm.w);
    return 1.0f / (float)taps;
}

/* y = mean of the window. Every window meets the input. No overlap. */
FT_INLINE void ft_average_pool_f32(const float *x, ft_map_t xm, float *y, ft_map_t ym, ft_window_t win,
                                   ft_average_t avg, int y0, int y1) {
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
        for (int col = 0; col < ym.w; col++) {
            const ft_taps_t cols =
                ft_taps_direct(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
            const float factor = ft_average_factor(row, col, rows.n * cols.n, xm, win, avg);
            for (int c = 0; c < ym.c; c++) {
                const float *xc = x + rows.i * xm.row + cols.i * xm.pixel + c;
                float sum = 0.0f;
                for (int j = 0; j < rows.n; j++)
                    for (int i = 0; i < cols.n; i++)
                        sum = sum + xc[j * rows.i_step * xm.row + i * cols.i_step * xm.pixel];
                y[row * ym.row + col * ym.pixel + c] = sum * factor;
            }
        }
    }
}

/* dx += dy / divisor at every tap. dx does not overlap dy and holds 0 or another gradient before. */
FT_INLINE void ft_average_pool_grad_f32(const float *dy, ft_map_t dym, float *dx, ft_map_t dxm,
                                        ft_window_t win, ft_average_t avg, int y0, int y1) {
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, dxm.h);
        for (int col = 0; col < dym.w; col++) {
            const ft_taps_t cols =
                ft_taps_direct(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, dxm.w);
            const float factor = ft_average_factor(row, col, rows.n * cols.n, dxm, win, avg);
            for (int j = 0; j < rows.n; j++)
                for (int i = 0; i < cols.n; i++) {
                    float *d =
                        dx + (rows.i + j * rows.i_step) * dxm.row + (cols.i + i * cols.i_step) * dxm.pixel;
                    for (int c = 0; c < dym.c; c++)
                        d[c] = d[c] + dy[row * dym.row + col * dym.pixel + c] * factor;
                }
        }
    }
}

/* What is done to the values over which a reduction goes. */
typedef enum { FT_SUM, FT_MAX, FT_MIN } ft_reduction_t;

/* y = the reduction over all rows, columns, channels of x whose axis has one position in y, divided by
 * `divisor`; the other axes are those of x. Order: rows, columns, channels ascending. No overlap. */
FT_INLINE void ft_reduce_f32(const float *x, ft_map_t xm, float *y, ft_map_t ym, ft_reduction_t reduction,
                             float divisor, int y0, int y1) {
    const int h = ym.h == 1 ? xm.h : 1, w = ym.w == 1 ? xm.w : 1, d = ym.c == 1 ? xm.c : 1;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                const float *xc = x + row * xm.row + col * xm.pixel + c;
                float result = reduction == FT_SUM ? 0.0f : xc[0];
                for (int i = 0; i < h; i++)
                    for (int j = 0; j < w; j++)
                        for (int k = 0; k < d; k++) {
                            const float value = xc[i * xm.row + j * xm.pixel + k];
                            if (reduction == FT_SUM)
                                result = result + value;
                            else if (reduction == FT_MAX ? value > result : value < result)
                                result = value;
                        }
                y[row * ym.row + col * ym.pixel + c] = result / divisor;
            }
}

/* dx = dy / divisor, repeated along the axes on which dy has one position: the gradient of a sum or mean. */
FT_INLINE void ft_reduce_grad_f32(const float *dy, ft_map_t dym, float *dx, ft_map_t dxm, float divisor,
                                  int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < dxm.w; col++)
            for (int c = 0; c < dxm.c; c++) {
                const int i = dym.h == 1 ? 0 : row, j = dym.w == 1 ? 0 : col, k = dym.c == 1 ? 0 : c;
                dx[row * dxm.row + col * dxm.pixel + c] = dy[i * dym.row + j * dym.pixel + k] / divisor;
            }
}

#endif
