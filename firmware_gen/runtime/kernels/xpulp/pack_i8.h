/* Weights that learn, in the order in which ft_conv2d_i8_xpulp reads them: what conv2d_i8_xpulp.py does with
 * frozen ones when the code is generated. */
#ifndef FT_XPULP_PACK_I8_H
#define FT_XPULP_PACK_I8_H

#include "../learning_i8.h"

/* packed: [groups][blocks of 4 outputs][words][4 outputs][4 bytes]. Cores divide the blocks. */
FT_INLINE void ft_pack_i8_xpulp(ft_weights_from_t w, int8_t *packed, ft_cores_t cores) {
    const int words = (w.rows * w.columns * w.in + 3) / 4, out = w.out / w.groups, blocks = (out + 3) / 4;
    const ft_range_t mine = ft_part(cores, w.groups * blocks);
    for (int b = mine.from; b < mine.to; b++) {
        const int first = b % blocks * 4, count = out - first < 4 ? out - first : 4;
        const int8_t *at = w.at + (b / blocks * out + first) * w.out_step;
        int8_t *const block = packed + b * words * 16;
        memset(block, 0, (size_t)(words * 16));
        for (int tap = 0; tap < w.rows * w.columns; tap++) {
            const int8_t *from = at + tap / w.columns * w.row_step + tap % w.columns * w.column_step;
            for (int i = 0; i < w.in; i++, from += w.in_step) {
                const int position = tap * w.in + i;
                int8_t *to = block + position / 4 * 16 + position % 4;
                for (int o = 0; o < count; o++)
                    to[o * 4] = from[o * w.out_step];
            }
        }
    }
}

#endif
