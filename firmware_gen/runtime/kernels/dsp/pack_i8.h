/* Weights that learn, in the order in which ft_conv2d_i8_dsp reads them: what conv2d_i8_dsp.py does with
 * frozen ones when the code is generated. */
#ifndef FT_DSP_PACK_I8_H
#define FT_DSP_PACK_I8_H

#include "../learning_i8.h"

/* packed: [groups][pairs of outputs][words][2 outputs][4 bytes]. A run is a row of the window; its whole
 * words come first, then what is left of all runs, in the order of halfwords. */
FT_INLINE void ft_pack_i8_dsp(ft_weights_from_t w, int8_t *packed) {
    const int length = w.columns * w.in, whole = length / 4, rest = length % 4;
    const int words = w.rows * whole + (w.rows * rest + 3) / 4;
    const int out = w.out / w.groups, group = (out + 1) / 2 * words * 8;
    memset(packed, 0, (size_t)(w.groups * group));
    for (int row = 0; row < w.rows; row++)
        for (int column = 0; column < w.columns; column++)
            for (int i = 0; i < w.in; i++) {
                const int8_t *from = w.at + row * w.row_step + column * w.column_step + i * w.in_step;
                const int position = column * w.in + i;
                const int left = row * rest + position - 4 * whole;
                const int swapped = (left & 1) << 1 | (left >> 1 & 1);
                const int word =
                    position < 4 * whole ? row * whole + position / 4 : w.rows * whole + left / 4;
                int8_t *to = packed + word * 8 + (position < 4 * whole ? position % 4 : swapped);
                for (int n = 0; n < w.groups; n++)
                    for (int o = 0; o < out; o++)
                        to[n * group + o / 2 * words * 8 + o % 2 * 4] = from[(n * out + o) * w.out_step];
            }
}

#endif
