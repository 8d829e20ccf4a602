/* Moves of values of any type: `bytes` is the size of one, 1 or 4. Maps do not overlap. */
#ifndef FT_LAYOUT_H
#define FT_LAYOUT_H

#include "map.h"

typedef uint32_t __attribute__((may_alias)) ft_word_t;

/* One value: of 1 byte, or an aligned one of 4, whatever its type. */
FT_INLINE void ft_copy_one(void *y, const void *x, int bytes) {
    if (bytes == 4)
        *(ft_word_t *)y = *(const ft_word_t *)x;
    else
        *(uint8_t *)y = *(const uint8_t *)x;
}

/* What three nested loops count, or the strides in values at which they walk; strides may be negative. */
typedef struct {
    int outer, middle, inner;
} ft_loops_t;

/* y[i * ys.outer + j * ys.middle + k * ys.inner] = x[i * xs.outer + j * xs.middle + k * xs.inner] for all
 * i, j, k below the counts. */
FT_INLINE void ft_copy(const void *x, ft_loops_t xs, void *y, ft_loops_t ys, ft_loops_t counts, int bytes) {
    for (int i = 0; i < counts.outer; i++)
        for (int j = 0; j < counts.middle; j++) {
            const uint8_t *from = (const uint8_t *)x + (i * xs.outer + j * xs.middle) * bytes;
            uint8_t *to = (uint8_t *)y + (i * ys.outer + j * ys.middle) * bytes;
            if (xs.inner == 1 && ys.inner == 1) {
                __builtin_memcpy(to, from, (size_t)(counts.inner * bytes));
                continue;
            }
            for (int k = 0; k < counts.inner; k++)
                ft_copy_one(to + k * ys.inner * bytes, from + k * xs.inner * bytes, bytes);
        }
}

/* y = the values of x in raster order. */
FT_INLINE void ft_reshape(const void *x, ft_map_t xm, void *y, ft_map_t ym, int bytes) {
    uint8_t *to = (uint8_t *)y;
    int row = 0, col = 0, c = 0;
    for (int i = 0; i < xm.h; i++)
        for (int j = 0; j < xm.w; j++)
            for (int k = 0; k < xm.c; k++) {
                const uint8_t *from = (const uint8_t *)x + (i * xm.row + j * xm.pixel + k) * bytes;
                ft_copy_one(to + (row * ym.row + col * ym.pixel + c) * bytes, from, bytes);
                if (++c == ym.c) {
                    c = 0;
                    if (++col == ym.w) {
                        col = 0;
                        row++;
                    }
                }
            }
}

/* y = the one value at `value`, rows y0 <= row < y1. */
FT_INLINE void ft_fill(void *y, ft_map_t ym, const void *value, int bytes, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            uint8_t *to = (uint8_t *)y + (row * ym.row + col * ym.pixel) * bytes;
            for (int c = 0; c < ym.c; c++)
                ft_copy_one(to + c * bytes, value, bytes);
        }
}

/* y[row][col] = x[rows[row]][cols[col]], all channels, rows y0 <= row < y1. */
FT_INLINE void ft_gather_pixels(const void *x, ft_map_t xm, void *y, ft_map_t ym, const uint16_t *rows,
                                const uint16_t *cols, int bytes, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            __builtin_memcpy((uint8_t *)y + (row * ym.row + col * ym.pixel) * bytes,
                             (const uint8_t *)x + (rows[row] * xm.row + cols[col] * xm.pixel) * bytes,
                             (size_t)(ym.c * bytes));
}

#endif
