/* Weights that learn, in the order in which ft_conv2d_i8_xpulp reads them: what conv2d_i8_xpulp.py does with
 * frozen ones when the code is generated. */
#ifndef FT_XPULP_PACK_I8_H
#define FT_XPULP_PACK_I8_H

#include "../learning_i8.h"

/* packed: [groups][blocks of 4 outputs][words][4 outputs][4 bytes]. */
FT_INLINE void ft_pack_i8_xpulp(ft_weights_from_t w, int8_t *packed) {
    const int words = (w.rows * w.columns * w.in + 3) / 4, out = w.out / w.groups;
    const int block = words * 16, group = (out + 3) / 4 * block;
    memset(packed, 0, (size_t)(w.groups * group));
    for (int tap = 0; tap < w.rows * w.columns; tap++)
        for (int i = 0; i < w.in; i++) {
            const int8_t *from =
                w.at + tap / w.columns * w.row_step + tap % w.columns * w.column_step + i * w.in_step;
            const int position = tap * w.in + i;
            int8_t *to = packed + position / 4 * 16 + position % 4;
            for (int n = 0; n < w.groups; n++)
                for (int o = 0; o < out; o++)
                    to[n * group + o / 4 * block + o % 4 * 4] = from[(n * out + o) * w.out_step];
        }
}

#endif
