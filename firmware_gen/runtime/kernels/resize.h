/* Resizing of rows and columns, nearest and bilinear, and its gradient, float32. Positions and weights are
 * tables made when the code is generated, so one kernel serves every coordinate convention. */
#ifndef FT_RESIZE_H
#define FT_RESIZE_H

#include "map.h"

/* Output position k of one axis reads (1 - weight) * input[low] + weight * input[high]; nearest: weight 0. */
typedef struct {
    uint16_t low, high;
    float weight;
} ft_resize_t;

/* y[row][col] from the tables rows[ym.h] and cols[ym.w]. Columns are blended first, then rows; a neighbour of
 * weight 0 is not read. No overlap. */
FT_INLINE void ft_resize_f32(const float *x, ft_map_t xm, float *y, ft_map_t ym, const ft_resize_t *rows,
                             const ft_resize_t *cols, int y0, int y1) {
    for (int row = y0; row < y1; row++) {
        const ft_resize_t r = rows[row];
        for (int col = 0; col < ym.w; col++) {
            const ft_resize_t q = cols[col];
            const float *a = x + r.low * xm.row + q.low * xm.pixel;
            const float *b = x + r.low * xm.row + q.high * xm.pixel;
            const float *d = x + r.high * xm.row + q.low * xm.pixel;
            const float *e = x + r.high * xm.row + q.high * xm.pixel;
            float *out = y + row * ym.row + col * ym.pixel;
            for (int c = 0; c < ym.c; c++) {
                const float upper = q.weight > 0.0f ? __builtin_fmaf(q.weight, b[c] - a[c], a[c]) : a[c];
                if (r.weight > 0.0f) {
                    const float lower = q.weight > 0.0f ? __builtin_fmaf(q.weight, e[c] - d[c], d[c]) : d[c];
                    out[c] = __builtin_fmaf(r.weight, lower - upper, upper);
                } else {
                    out[c] = upper;
                }
            }
        }
    }
}

/* dx += the transpose of the above, output pixels in raster order, neighbours in the order low/low, low/high,
 * high/low, high/high. dx does not overlap dy and holds 0 or another gradient before. */
FT_INLINE void ft_resize_grad_f32(const float *dy, ft_map_t dym, float *dx, ft_map_t dxm,
                                  const ft_resize_t *rows, const ft_resize_t *cols, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < dym.w; col++) {
            const ft_resize_t r = rows[row], q = cols[col];
            for (int corner = 0; corner < 4; corner++) {
                const float wy = corner & 2 ? r.weight : 1.0f - r.weight;
                const float wx = corner & 1 ? q.weight : 1.0f - q.weight;
                const float weight = wy * wx;
                if (weight == 0.0f)
                    continue;
                const int iy = corner & 2 ? r.high : r.low, ix = corner & 1 ? q.high : q.low;
                float *d = dx + iy * dxm.row + ix * dxm.pixel;
                for (int c = 0; c < dym.c; c++)
                    d[c] = __builtin_fmaf(weight, dy[row * dym.row + col * dym.pixel + c], d[c]);
            }
        }
}

#endif
