/* Between integers and floats: value = scale * (q - zero point). */
#ifndef FT_QUANTIZE_H
#define FT_QUANTIZE_H

#include "fixed_point.h"
#include "map.h"

typedef enum { FT_HALF_AWAY, FT_HALF_EVEN } ft_rounding_t;

/* value = scale * (q - zero) */
typedef struct {
    float scale;
    int32_t zero;
} ft_grid_t;

/* The nearest integer of -2^23 < x < 2^23; halves go away from zero or to the even neighbour. */
FT_INLINE int32_t ft_round(float x, ft_rounding_t rounding) {
    const int32_t whole = (int32_t)x;
    const float rest = x - (float)whole; /* exact, as x + 0.5 would not be */
    const int32_t step = rounding == FT_HALF_AWAY ? 1 : whole & 1;
    if (rest >= 0.5f)
        return whole + (rest > 0.5f ? 1 : step);
    if (rest <= -0.5f)
        return whole - (rest < -0.5f ? 1 : step);
    return whole;
}

/* y = x / scale + zero of the grid, rounded and saturated; what is no number becomes the lowest. Rows y0..y1.
 */
FT_INLINE void ft_quantize_f32_i8(const float *x, ft_map_t xm, int8_t *y, ft_map_t ym, ft_grid_t grid,
                                  ft_rounding_t rounding, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                float steps = x[row * xm.row + col * xm.pixel + c] / grid.scale;
                steps = steps > -300.0f ? steps : -300.0f; /* beyond every int8 minus a zero point */
                steps = steps < 300.0f ? steps : 300.0f;
                const int32_t q = ft_round(steps, rounding) + grid.zero;
                y[row * ym.row + col * ym.pixel + c] = (int8_t)ft_clamp_i32(q, -128, 127);
            }
}

/* y = (x - zero) * scale + bias, rounded once. Rows y0..y1. */
FT_INLINE void ft_dequantize_i8_f32(const int8_t *x, ft_map_t xm, float *y, ft_map_t ym, ft_grid_t grid,
                                    float bias, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                const float steps = (float)(x[row * xm.row + col * xm.pixel + c] - grid.zero);
                y[row * ym.row + col * ym.pixel + c] = __builtin_fmaf(steps, grid.scale, bias);
            }
}

/* The same from uint8: pixels too, whose zero point is 0. */
FT_INLINE void ft_dequantize_u8_f32(const uint8_t *x, ft_map_t xm, float *y, ft_map_t ym, ft_grid_t grid,
                                    float bias, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                const float steps = (float)(x[row * xm.row + col * xm.pixel + c] - grid.zero);
                y[row * ym.row + col * ym.pixel + c] = __builtin_fmaf(steps, grid.scale, bias);
            }
}

#endif
