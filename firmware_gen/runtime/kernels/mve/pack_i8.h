/* Weights that learn, in the order in which ft_mve_conv2d_i8 reads them: what conv2d_i8_mve.py does with
 * frozen ones when the code is generated. */
#ifndef FT_MVE_PACK_I8_H
#define FT_MVE_PACK_I8_H

#include "../learning_i8.h"

/* packed: [4 channels][16 of the window][channel][16]; one group. */
FT_INLINE void ft_pack_i8_mve(ft_weights_from_t w, int8_t *packed) {
    const int chunks = (w.rows * w.columns * w.in + 15) / 16;
    memset(packed, 0, (size_t)((w.out + 3) / 4 * chunks * 64));
    for (int tap = 0; tap < w.rows * w.columns; tap++)
        for (int i = 0; i < w.in; i++) {
            const int8_t *from =
                w.at + tap / w.columns * w.row_step + tap % w.columns * w.column_step + i * w.in_step;
            const int position = tap * w.in + i;
            int8_t *to = packed + position / 16 * 64 + position % 16;
            for (int o = 0; o < w.out; o++)
                to[o / 4 * chunks * 64 + o % 4 * 16] = from[o * w.out_step];
        }
}

#endif
