/* Operators that look at one value at a time: addition, copies, layouts, the network's integer input. */
#ifndef FT_ELEMENTWISE_H
#define FT_ELEMENTWISE_H

#include "map.h"

/* y = a + b, rows y0..y1. y may be a or b. */
FT_INLINE void ft_add_f32(const float *a, ft_map_t am, const float *b, ft_map_t bm, float *y, ft_map_t ym,
                          int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++)
                y[row * ym.row + col * ym.pixel + c] =
                    a[row * am.row + col * am.pixel + c] + b[row * bm.row + col * bm.pixel + c];
}

/* y = x; the maps have one shape and do not overlap. Copies one input of a concatenation into place. */
FT_INLINE void ft_copy_f32(const float *x, ft_map_t xm, float *y, ft_map_t ym, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++)
                y[row * ym.row + col * ym.pixel + c] = x[row * xm.row + col * xm.pixel + c];
}

/* y = x * scale + bias: pixels to the network's input. */
FT_INLINE void ft_dequantize_u8_f32(const uint8_t *x, ft_map_t xm, float *y, ft_map_t ym, float scale,
                                    float bias, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++)
                y[row * ym.row + col * ym.pixel + c] =
                    __builtin_fmaf((float)x[row * xm.row + col * xm.pixel + c], scale, bias);
}

/* Rows, columns, channels -> channels, rows, columns: the order in which models that were written
 * channels-first flatten a map. y is dense and does not overlap x. */
FT_INLINE void ft_to_channels_first_f32(const float *x, ft_map_t xm, float *y) {
    for (int c = 0; c < xm.c; c++)
        for (int row = 0; row < xm.h; row++)
            for (int col = 0; col < xm.w; col++)
                *y++ = x[row * xm.row + col * xm.pixel + c];
}

/* The way back. x is dense and does not overlap y. */
FT_INLINE void ft_from_channels_first_f32(const float *x, float *y, ft_map_t ym) {
    for (int c = 0; c < ym.c; c++)
        for (int row = 0; row < ym.h; row++)
            for (int col = 0; col < ym.w; col++)
                y[row * ym.row + col * ym.pixel + c] = *x++;
}

/* y[0..count) = 0. */
FT_INLINE void ft_fill_zero_f32(float *y, int count) {
    for (int k = 0; k < count; k++)
        y[k] = 0.0f;
}

#endif
