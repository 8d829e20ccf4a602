/* Between integers and floats: value = scale * (q - zero point). */
#ifndef FT_QUANTIZE_H
#define FT_QUANTIZE_H

#include "broadcast.h"
#include "fixed_point.h"

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

/* `count` values side by side. */
FT_INLINE void ft_quantize_run(const float *x, int8_t *y, ft_grid_t grid, ft_rounding_t rounding, int count) {
#if FT_MVE
    for (; count > 0; count -= FT_LANES, x += FT_LANES, y += FT_LANES) {
        const mve_pred16_t exist = vctp32q((uint32_t)count);
        float32x4_t steps = ft_div(vldrwq_z_f32(x, exist), vdupq_n_f32(grid.scale));
        steps = vminnmq_f32(vmaxnmq_f32(steps, vdupq_n_f32(-300.0f)), vdupq_n_f32(300.0f));
        int32x4_t q = rounding == FT_HALF_EVEN ? vcvtnq_s32_f32(steps) : vcvtaq_s32_f32(steps);
        q = vaddq_n_s32(q, grid.zero);
        q = vminq_s32(vmaxq_s32(q, vdupq_n_s32(-128)), vdupq_n_s32(127));
        vstrbq_p_s32(y, q, exist);
    }
#else
    for (int k = 0; k < count; k++) {
        float steps = x[k] / grid.scale;
        steps = steps > -300.0f ? steps : -300.0f; /* beyond every int8 minus a zero point */
        steps = steps < 300.0f ? steps : 300.0f;
        y[k] = (int8_t)ft_clamp_i32(ft_round(steps, rounding) + grid.zero, -128, 127);
    }
#endif
}

/* y = x / scale + zero of the grid, rounded and saturated; what is no number becomes the lowest. Rows y0..y1.
 */
FT_INLINE void ft_quantize_f32_i8(const float *x, ft_map_t xm, int8_t *y, ft_map_t ym, ft_grid_t grid,
                                  ft_rounding_t rounding, int y0, int y1) {
    const ft_runs_t runs = ft_runs(xm, xm, ym, y0, y1);
    for (int row = y0; row < y1; row += runs.rows)
        for (int col = 0; col < ym.w; col += runs.cols)
            ft_quantize_run(x + row * xm.row + col * xm.pixel, y + row * ym.row + col * ym.pixel, grid,
                            rounding, runs.count);
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
