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

#endif
