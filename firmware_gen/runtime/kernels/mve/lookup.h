/* Any function of one 8-bit value, as a table, with Helium: 16 values at a time. */
#ifndef FT_MVE_LOOKUP_H
#define FT_MVE_LOOKUP_H

#include <arm_mve.h>

#include "../broadcast.h"

/* `count` values side by side. */
FT_INLINE void ft_mve_lookup_run(const uint8_t *x, const int8_t *table, int8_t *y, int count) {
    for (; count >= 16; count -= 16, x += 16, y += 16)
        vstrbq_s8(y, vldrbq_gather_offset_s8(table, vldrbq_u8(x)));
    if (count > 0) {
        const mve_pred16_t exist = vctp8q((uint32_t)count);
        vstrbq_p_s8(y, vldrbq_gather_offset_s8(table, vldrbq_z_u8(x, exist)), exist);
    }
}

/* As ft_lookup. */
FT_INLINE void ft_mve_lookup(const void *x, ft_map_t xm, const int8_t *table, void *y, ft_map_t ym, int y0,
                             int y1) {
    const ft_runs_t runs = ft_runs(xm, xm, ym, y0, y1);
    for (int row = y0; row < y1; row += runs.rows)
        for (int col = 0; col < ym.w; col += runs.cols)
            ft_mve_lookup_run((const uint8_t *)x + row * xm.row + col * xm.pixel, table,
                              (int8_t *)y + row * ym.row + col * ym.pixel, runs.count);
}

#endif
