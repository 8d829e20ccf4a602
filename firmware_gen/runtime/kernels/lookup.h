/* Any function of one 8-bit value, as a table. */
#ifndef FT_LOOKUP_H
#define FT_LOOKUP_H

#include "map.h"

/* y = table[x], rows y0..y1; x, y and the entries are int8 or uint8, and the byte of x is the index.
 * y may be x. */
FT_INLINE void ft_lookup(const void *x, ft_map_t xm, const int8_t *table, void *y, ft_map_t ym, int y0,
                         int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const uint8_t *in = (const uint8_t *)x + row * xm.row + col * xm.pixel;
            int8_t *out = (int8_t *)y + row * ym.row + col * ym.pixel;
            for (int c = 0; c < ym.c; c++)
                out[c] = table[in[c]];
        }
}

#endif
