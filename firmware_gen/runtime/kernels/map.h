/* How a feature map lies in memory, and which taps of a window meet it. */
#ifndef FT_MAP_H
#define FT_MAP_H

#include "lanes.h"

/* h x w x c values, channels innermost. `row` and `pixel` are strides in elements; pixel > c when the map is
 * a slice of the channels of a wider one. A pointer that goes with a map points at logical row 0, column 0;
 * only the rows that a call touches need to exist there. */
typedef struct {
    int h, w, c;
    int row, pixel;
} ft_map_t;

/* 1 when the rows follow one another, so that all pixels are like one row. */
FT_INLINE int ft_is_one_run(ft_map_t map) {
    return map.row == map.w * map.pixel;
}

/* A window: kernel, stride, padding before the first row/column, dilation; rows (y) and columns (x). */
typedef struct {
    int kernel_y, kernel_x;
    int stride_y, stride_x;
    int pad_y, pad_x;
    int dilation_y, dilation_x;
} ft_window_t;

/* 1 when every pixel of the output sees only the pixel of the input at the same place. */
FT_INLINE int ft_is_pointwise(ft_window_t window) {
    return window.kernel_y == 1 && window.kernel_x == 1 && window.stride_y == 1 && window.stride_x == 1 &&
           window.pad_y == 0 && window.pad_x == 0;
}

/* The taps of one axis that meet the input: tap k + j * k_step reads input position i + j * i_step, 0 <= j <
 * n. */
typedef struct {
    int k, k_step, i, i_step, n;
} ft_taps_t;

/* Taps of output position `out` of a direct window: input position = out * stride - pad + tap * dilation. */
FT_INLINE ft_taps_t ft_taps_direct(int out, int kernel, int stride, int pad, int dilation, int size) {
    const int start = out * stride - pad;
    const int first = start < 0 ? (-start + dilation - 1) / dilation : 0;
    const int end = start < size ? (size - start + dilation - 1) / dilation : 0;
    const int last = end < kernel ? end : kernel;
    const ft_taps_t taps = {first, 1, start + first * dilation, dilation, last > first ? last - first : 0};
    return taps;
}

/* Taps of output position `out` of a transposed window: out = input position * stride - pad + tap * dilation.
 */
FT_INLINE ft_taps_t ft_taps_transposed(int out, int kernel, int stride, int pad, int dilation, int size) {
    ft_taps_t taps = {0, kernel, 0, 0, 0};
    for (int k = 0; k < kernel; k++) {
        const int at = out + pad - k * dilation;
        if (at < 0)
            break;
        if (at % stride != 0 || at / stride >= size)
            continue;
        if (taps.n == 0) {
            taps.k = k;
            taps.i = at / stride;
        } else if (taps.n == 1) {
            taps.k_step = k - taps.k;
            taps.i_step = at / stride - taps.i;
        }
        taps.n++;
    }
    return taps;
}

/* 1 when a and b, and so all positions between them, meet the input with the same taps. Not where none does:
 * between two such positions of a dilated transposed window there may be others. */
FT_INLINE int ft_same_taps(ft_taps_t a, ft_taps_t b) {
    return a.n > 0 && a.k == b.k && a.n == b.n && a.k_step == b.k_step;
}

/* The positions `from <= at < to` for which at * stride - pad + tap * dilation lies in [0, size). */
typedef struct {
    int from, to;
} ft_range_t;

FT_INLINE ft_range_t ft_positions(int tap, int stride, int pad, int dilation, int size, int count) {
    const int offset = tap * dilation - pad;
    const int from = offset < 0 ? (-offset + stride - 1) / stride : 0;
    const int end = size > offset ? (size - offset + stride - 1) / stride : 0;
    const ft_range_t range = {from, end < count ? end : count};
    return range;
}

#endif
