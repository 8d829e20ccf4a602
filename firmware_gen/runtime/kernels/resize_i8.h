/* Bilinear resizing of int8 maps in TFLite's integer arithmetic: positions and weights of 10 bits, in tables
 * made when the code is generated. Nearest neighbours need no arithmetic: ft_gather_pixels. */
#ifndef FT_RESIZE_I8_H
#define FT_RESIZE_I8_H

#include "map.h"

/* Output position k of one axis reads (1024 - weight) * input[low] + weight * input[high]; 0 <= weight <=
 * 1024.
 */
typedef struct {
    uint16_t low, high;
    int32_t weight;
} ft_resize_i8_t;

/* y[row][col] from the tables rows[ym.h] and cols[ym.w], rounded to nearest with halves away from zero, rows
 * y0 <= row < y1. No overlap. */
FT_INLINE void ft_resize_i8(const int8_t *x, ft_map_t xm, int8_t *y, ft_map_t ym, const ft_resize_i8_t *rows,
                            const ft_resize_i8_t *cols, int y0, int y1) {
    for (int row = y0; row < y1; row++) {
        const ft_resize_i8_t r = rows[row];
        for (int col = 0; col < ym.w; col++) {
            const ft_resize_i8_t q = cols[col];
            const int8_t *a = x + r.low * xm.row + q.low * xm.pixel;
            const int8_t *b = x + r.low * xm.row + q.high * xm.pixel;
            const int8_t *d = x + r.high * xm.row + q.low * xm.pixel;
            const int8_t *e = x + r.high * xm.row + q.high * xm.pixel;
            int8_t *out = y + row * ym.row + col * ym.pixel;
            for (int c = 0; c < ym.c; c++) {
                const int32_t upper = a[c] * 1024 + (b[c] - a[c]) * q.weight;
                const int32_t lower = d[c] * 1024 + (e[c] - d[c]) * q.weight;
                const int32_t sum = upper * 1024 + (lower - upper) * r.weight;
                out[c] = (int8_t)((sum > 0 ? sum + (1 << 19) : sum - (1 << 19)) / (1 << 20));
            }
        }
    }
}

#endif
