/* Operands that are repeated along the axes which they do not have. */
#ifndef FT_BROADCAST_H
#define FT_BROADCAST_H

#include "map.h"

/* Strides in elements; 0 along an axis of one position. */
typedef struct {
    int row, pixel, channel;
} ft_strides_t;

/* The strides by which an operand of map m is read at the positions of a map that is as large or larger. */
FT_INLINE ft_strides_t ft_broadcast(ft_map_t m) {
    const ft_strides_t strides = {m.h > 1 ? m.row : 0, m.w > 1 ? m.pixel : 0, m.c > 1};
    return strides;
}

FT_INLINE int ft_at(ft_strides_t s, int row, int col, int c) {
    return row * s.row + col * s.pixel + c * s.channel;
}

/* How many axes of y, from the channels on (then columns, then rows), lie side by side in map m, or are one
 * value there: 1 to 3. m may be the map of y itself. */
FT_INLINE int ft_run_axes(ft_map_t m, ft_map_t ym) {
    const int row = m.w * m.c, all = m.h * row;
    if (row > 1 && (row != ym.w * ym.c || (m.w > 1 && m.pixel != m.c)))
        return 1;
    if (all > 1 && (all != ym.h * ym.w * ym.c || (m.h > 1 && m.row != row)))
        return 2;
    return 3;
}

/* Runs of `count` outputs that lie side by side, as do the values of each operand unless it has a single one
 * for the run (a_repeated, b_repeated). A run starts every `rows` rows and `cols` columns. */
typedef struct {
    int rows, cols, count;
    int a_repeated, b_repeated;
} ft_runs_t;

/* The longest runs of rows y0 <= row < y1. */
FT_INLINE ft_runs_t ft_runs(ft_map_t am, ft_map_t bm, ft_map_t ym, int y0, int y1) {
    const int a_axes = ft_run_axes(am, ym), b_axes = ft_run_axes(bm, ym), y_axes = ft_run_axes(ym, ym);
    const int ab_axes = a_axes < b_axes ? a_axes : b_axes, axes = ab_axes < y_axes ? ab_axes : y_axes;
    const int cols = axes > 1 ? ym.w : 1, rows = axes > 2 ? y1 - y0 : 1;
    const int a_values = am.c * (axes > 1 ? am.w : 1) * (axes > 2 ? am.h : 1);
    const int b_values = bm.c * (axes > 1 ? bm.w : 1) * (axes > 2 ? bm.h : 1);
    const ft_runs_t runs = {rows, cols, rows * cols * ym.c, a_values == 1, b_values == 1};
    return runs;
}

#endif
