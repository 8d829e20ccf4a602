/* int8 tensors whose range moves while a network learns: activations above what learns, and gradients.
 *
 * A range is tracked in real values. Before a step it gives the grid (scale and zero point) on which the
 * tensor is stored during the step; every kernel derives its multipliers from the grids of its input and
 * output. What was stored is observed, and after the step the range moves: outwards at once, inwards slowly.
 * So the grid is known before a value is, and no layer needs a second pass; what does not fit saturates,
 * once.
 */
#ifndef FT_MOVING_H
#define FT_MOVING_H

#include "conv2d_i8.h"
#include "cores.h"
#include "lookup.h"
#include "quantize.h"

/* low <= 0 <= high; both 0: not known yet. least, most: the integers seen since the step began. */
typedef struct {
    float low, high;
    ft_grid_t grid;
    int32_t least, most;
} ft_moving_range_t;

/* The grid reaches beyond the range by the factor `headroom`. Inwards a range moves by the fraction `rate` of
 * the way. A symmetric range, that of a gradient, has zero point 0 and the largest integer `symmetric`; of
 * others that is 0. */
typedef struct {
    float headroom, rate;
    int32_t symmetric;
} ft_moving_rule_t;

#define FT_MOST_I8  127
#define FT_MOST_I16 32767

#define FT_RANGE_SATURATED 2.0f /* how far beyond the grid a range is taken to reach whose end was seen */
#define FT_RANGE_SMALLEST  1e-30f

FT_INLINE int32_t ft_nearest_i32(float x, int32_t limit) {
    const float most = (float)limit;
    x = x > -most ? x : -most;
    x = x < most ? x : most;
    return (int32_t)(x + (x < 0.0f ? -0.5f : 0.5f));
}

/* The grid of the present range; nothing has been seen on it. */
FT_INLINE void ft_range_begin(ft_moving_range_t *range, ft_moving_rule_t rule) {
    const float low = range->low * rule.headroom, high = range->high * rule.headroom;
    const float scale = rule.symmetric ? high / (float)rule.symmetric : (high - low) / 255.0f;
    range->grid.scale = scale > FT_RANGE_SMALLEST ? scale : FT_RANGE_SMALLEST;
    range->grid.zero =
        rule.symmetric ? 0 : ft_clamp_i32(ft_nearest_i32(-128.0f - low / range->grid.scale, 1024), -128, 127);
    range->least = FT_MOST_I16;
    range->most = -FT_MOST_I16;
}

/* One end of a range: outwards at once, inwards slowly. */
FT_INLINE float ft_range_end(float end, float seen, float rate) {
    const int outwards = end < 0.0f ? seen < end : seen > end;
    return outwards || end == 0.0f ? seen : __builtin_fmaf(rate, seen - end, end);
}

/* What the grid says that a gradient is on which holds nothing but 0. */
FT_INLINE int ft_grid_empty(ft_grid_t grid) {
    return grid.scale <= FT_RANGE_SMALLEST;
}

/* After a step. A gradient of which there was nothing, because its losses had no label, tells nothing of the
 * next one: its range stays. */
FT_INLINE void ft_range_move(ft_moving_range_t *range, ft_moving_rule_t rule) {
    if (range->least > range->most || (rule.symmetric && ft_grid_empty(range->grid)))
        return;
    float low = (float)(range->least - range->grid.zero) * range->grid.scale;
    float high = (float)(range->most - range->grid.zero) * range->grid.scale;
    low *= range->least <= (rule.symmetric ? -rule.symmetric : -128) ? FT_RANGE_SATURATED : 1.0f;
    high *= range->most >= (rule.symmetric ? rule.symmetric : 127) ? FT_RANGE_SATURATED : 1.0f;
    low = low < 0.0f ? low : 0.0f;
    high = high > 0.0f ? high : 0.0f;
    if (rule.symmetric) {
        high = high > -low ? high : -low;
        low = -high;
    }
    range->low = ft_range_end(range->low, low, rule.rate);
    range->high = ft_range_end(range->high, high, rule.rate);
}

/* Before what makes a gradient: as long as its range is not known, a grid for [-reach, reach]. */
FT_INLINE void ft_range_guess(ft_moving_range_t *range, ft_moving_rule_t rule, float reach) {
    const float most = (float)rule.symmetric;
    if (range->high == 0.0f)
        range->grid.scale = reach > most * FT_RANGE_SMALLEST ? reach / most : FT_RANGE_SMALLEST;
}

/* Before what makes a gradient of others that are `empty`. */
FT_INLINE void ft_range_pass_over(ft_moving_range_t *range, int empty) {
    if (empty)
        range->grid.scale = FT_RANGE_SMALLEST;
}

/* Notes what channels c0..c1 of rows y0..y1 hold. */
FT_INLINE void ft_range_observe(ft_moving_range_t *range, const int8_t *y, ft_map_t ym, int c0, int c1,
                                int y0, int y1) {
    int32_t least = range->least, most = range->most;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int8_t *at = y + row * ym.row + col * ym.pixel;
            for (int c = c0; c < c1; c++) {
                least = at[c] < least ? at[c] : least;
                most = at[c] > most ? at[c] : most;
            }
        }
    range->least = least;
    range->most = most;
}

/* Makes `range` what `cores` cores, each with a copy of it, `apart` copies apart, have together seen. */
FT_INLINE void ft_range_gather(ft_moving_range_t *range, const ft_moving_range_t *copies, int cores,
                               int apart) {
    *range = copies[0];
    for (int k = 1; k < cores; k++) {
        const ft_moving_range_t *const copy = copies + k * apart;
        range->least = copy->least < range->least ? copy->least : range->least;
        range->most = copy->most > range->most ? copy->most : range->most;
    }
}

/* factor = *multiplier * 2^(*shift - 31), to the last bit of a float, limited to what every kernel rounds in
 * the same way: below 1/2, and 0 when it is below 2^-31. 0 <= factor. */
FT_INLINE void ft_float_multiplier(float factor, int32_t *multiplier, int8_t *shift) {
    union {
        float value;
        uint32_t bits;
    } number = {factor < 0.49f ? factor : 0.49f};
    const int32_t exponent = (int32_t)(number.bits >> 23) - 126;
    const int32_t mantissa = (int32_t)((number.bits & 0x7FFFFFu) | 0x800000u);
    *multiplier = exponent >= -31 ? mantissa << 7 : 0;
    *shift = (int8_t)(exponent >= -31 ? exponent : -1);
}

/* What a layer with moving grids has for each output channel. scales: of the weights. sums: of the weights,
 * which the zero point of x is folded with; NULL for a transposed window. bias: NULL or real values. */
typedef struct {
    const float *scales;
    const int32_t *sums;
    const float *bias;
    int channels;
} ft_moving_t;

/* Makes the tables of a layer for these grids and returns how its sums are rounded. The activation is linear,
 * relu, leaky_relu or clip. scratch, aligned to 4, gets biases, multipliers and those of negative sums, then
 * the shifts of both, each for a multiple of 4 channels, so that vectors may read beyond the last. With
 * weights of less than 2^14 inputs no sum reaches 2^30. */
FT_INLINE ft_requantize_t ft_moving_tables(ft_moving_t layer, ft_grid_t from, const ft_moving_range_t *range,
                                           ft_moving_rule_t rule, ft_activation_t act, int8_t *scratch) {
    const int room = (layer.channels + 3) / 4 * 4, leaky = act.kind == FT_LEAKY_RELU;
    int32_t *bias = (int32_t *)(void *)scratch, *multipliers = bias + room, *negative = multipliers + room;
    int8_t *shifts = (int8_t *)(negative + room), *negative_shifts = shifts + room;
    const ft_grid_t to = range->grid;
    for (int c = 0; c < layer.channels; c++) {
        const float unit = from.scale * layer.scales[c];
        const float factor = unit / to.scale;
        ft_float_multiplier(factor, multipliers + c, shifts + c);
        if (leaky)
            ft_float_multiplier(factor * act.a, negative + c, negative_shifts + c);
        const int32_t start = layer.bias ? ft_nearest_i32(layer.bias[c] / unit, 1 << 28) : 0;
        bias[c] = layer.sums ? start - from.zero * layer.sums[c] : start;
    }
    int32_t low = rule.symmetric ? -rule.symmetric : -128, high = rule.symmetric ? rule.symmetric : 127;
    if (act.kind == FT_RELU)
        low = to.zero;
    if (act.kind == FT_CLIP) {
        low = ft_clamp_i32(ft_nearest_i32(act.a / to.scale, 512) + to.zero, -128, 127);
        high = ft_clamp_i32(ft_nearest_i32(act.b / to.scale, 512) + to.zero, -128, 127);
    }
    const ft_requantize_t requantize = {
        multipliers, shifts, NULL, leaky ? negative : NULL, leaky ? negative_shifts : NULL,
        to.zero,     low,    high};
    return requantize;
}

/* y = x on another grid, rows y0..y1. table: scratch of 256 bytes. */
FT_INLINE void ft_rescale_i8(const int8_t *x, ft_map_t xm, ft_grid_t from, int8_t *y, ft_map_t ym,
                             ft_moving_range_t *range, int8_t *table, int y0, int y1) {
    const ft_grid_t to = range->grid;
    for (int q = -128; q < 128; q++) {
        const float value = (float)(q - from.zero) * from.scale / to.scale;
        table[q & 0xFF] = (int8_t)ft_clamp_i32(ft_nearest_i32(value, 1024) + to.zero, -128, 127);
    }
    ft_lookup(x, xm, table, y, ym, y0, y1);
    ft_range_observe(range, y, ym, 0, ym.c, y0, y1);
}

/* The grid with the largest integer `symmetric` that just holds what is at most `most` in size. */
FT_INLINE ft_grid_t ft_range_hold(ft_moving_range_t *range, float most, int32_t symmetric) {
    const ft_moving_rule_t exactly = {1.0f, 0.0f, symmetric};
    range->high = most;
    range->low = -most;
    ft_range_begin(range, exactly);
    return range->grid;
}

/* The size of the largest value of rows y0..y1; what is no number counts as 0. */
FT_INLINE float ft_largest_f32(const float *x, ft_map_t xm, int y0, int y1) {
    float most = 0.0f;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < xm.w; col++)
            for (int c = 0; c < xm.c; c++) {
                const float value = x[row * xm.row + col * xm.pixel + c];
                const float size = value < 0.0f ? -value : value;
                most = size > most ? size : most;
            }
    return most;
}

/* The same of all rows. Each of the cores looks at `rows` of its own and leaves what it found in `each`,
 * which has room for one float a core; these have met then. */
FT_INLINE float ft_largest_of_all_f32(const float *x, ft_map_t xm, ft_range_t rows, float *each,
                                      ft_cores_t cores) {
    float most = ft_largest_f32(x, xm, rows.from, rows.to);
    if (cores.count == 1)
        return most;
    each[cores.own] = most;
    ft_meet(cores);
    for (int k = 0; k < cores.count; k++)
        most = each[k] > most ? each[k] : most;
    return most;
}

/* A gradient from floats, all rows, on the grid that just holds it: from floats it is cheap to know. Cores
 * divide the rows, each with a range of its own. scratch: NULL for one that is alone, else 8 floats. */
FT_INLINE void ft_quantize_gradient_i8(const float *dy, ft_map_t dym, int8_t *q, ft_map_t qm,
                                       ft_moving_range_t *range, int8_t *scratch, ft_cores_t cores) {
    const ft_range_t rows = ft_part(cores, dym.h);
    const float most = ft_largest_of_all_f32(dy, dym, rows, (float *)(void *)scratch, cores);
    const ft_grid_t grid = ft_range_hold(range, most, FT_MOST_I8);
    ft_quantize_f32_i8(dy, dym, q, qm, grid, FT_HALF_EVEN, rows.from, rows.to);
}

/* x rounded up or down, over the indices i as often up as what is over is large. |x| < most, up to 2^15. */
FT_INLINE int32_t ft_dithered(float x, int i, int32_t most) {
    const uint32_t spread = (uint32_t)i * 2654435769u; /* 2^32 over the golden ratio: parts lie evenly */
    return (int32_t)(x + (float)(spread >> 24) * 0x1p-8f + (float)most) - most;
}

#if FT_MVE
/* The same of the integers q times slope, with the indices i, i + 1, ... */
FT_INLINE int32x4_t ft_dithered_vector(int32x4_t q, float slope, int i) {
    const uint32x4_t index = vaddq_n_u32(vidupq_n_u32(0, 1), (uint32_t)i);
    const uint32x4_t spread = vshrq_n_u32(vmulq_n_u32(index, 2654435769u), 24);
    const float32x4_t x = vmulq_n_f32(vcvtq_f32_s32(q), slope);
    const float32x4_t moved = vaddq_f32(x, vmulq_n_f32(vcvtq_f32_u32(spread), 0x1p-8f));
    return vsubq_n_s32(vcvtq_s32_f32(vaddq_n_f32(moved, 256.0f)), 256);
}
#endif

/* low < y < high */
typedef struct {
    int32_t low, high;
} ft_open_range_t;

/* The outputs of an activation whose gradient passes whole. */
FT_INLINE ft_open_range_t ft_passing(ft_grid_t grid, ft_activation_t act) {
    ft_open_range_t passing = {grid.zero, 128};
    if (act.kind == FT_CLIP) {
        passing.low = ft_clamp_i32(ft_nearest_i32(act.a / grid.scale, 512) + grid.zero, -128, 127);
        passing.high = ft_clamp_i32(ft_nearest_i32(act.b / grid.scale, 512) + grid.zero, -128, 127);
    }
    return passing;
}

/* `count` values side by side, of which the first has the index i, in bits and in what is dithered. */
FT_INLINE void ft_mask_run_i8(const int8_t *dy, const uint8_t *bits, int8_t *dx, float slope, int i,
                              int count) {
#if FT_MVE
    for (; (i & 7) == 0 && count >= 16; i += 16, count -= 16, dy += 16, dx += 16) {
        const mve_pred16_t passes = (mve_pred16_t)(bits[i >> 3] | bits[(i >> 3) + 1] << 8);
        const int8x16_t whole = vldrbq_s8(dy);
        for (int k = 0; k < 16; k += FT_LANES)
            vstrbq_s32(dx + k, ft_dithered_vector(vldrbq_s32(dy + k), slope, i + k));
        vstrbq_p_s8(dx, whole, passes);
    }
#endif
    for (int k = 0; k < count; k++) {
        const int passes = (bits[(i + k) >> 3] >> ((i + k) & 7)) & 1;
        dx[k] = passes ? dy[k] : (int8_t)ft_dithered((float)dy[k] * slope, i + k, 256);
    }
}

/* The activation's slope from the bits of its output: where the bit is 0, the gradient is multiplied by
 * `slope`, at most 1. dx may be dy; both are on one grid. Rows y0..y1. Most gradients are small: rounded to
 * the nearest, those with a small slope would all be 0; so it is right in the mean instead. */
FT_INLINE void ft_mask_gradient_i8(const int8_t *dy, ft_map_t dym, const uint8_t *bits, int8_t *dx,
                                   ft_map_t dxm, float slope, int y0, int y1) {
    const ft_runs_t runs = ft_runs(dym, dym, dxm, y0, y1);
    for (int row = y0; row < y1; row += runs.rows)
        for (int col = 0; col < dym.w; col += runs.cols)
            ft_mask_run_i8(dy + row * dym.row + col * dym.pixel, bits, dx + row * dxm.row + col * dxm.pixel,
                           slope, (row * dym.w + col) * dym.c, runs.count);
}

/* The same from the activation's output y itself. */
FT_INLINE void ft_mask_gradient_from_output_i8(const int8_t *dy, ft_map_t dym, const int8_t *y, ft_map_t ym,
                                               ft_grid_t grid, int8_t *dx, ft_map_t dxm, ft_activation_t act,
                                               float slope, int y0, int y1) {
    const ft_open_range_t passing = ft_passing(grid, act);
    int i = y0 * dym.w * dym.c;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < dym.w; col++)
            for (int c = 0; c < dym.c; c++, i++) {
                const int8_t q = dy[row * dym.row + col * dym.pixel + c];
                const int32_t value = y[row * ym.row + col * ym.pixel + c];
                const int passes = value > passing.low && value < passing.high;
                dx[row * dxm.row + col * dxm.pixel + c] =
                    passes ? q : (int8_t)ft_dithered((float)q * slope, i, 256);
            }
}

/* Bits i, i + 1, ... of `count` values side by side. */
FT_INLINE void ft_bits_run_i8(const int8_t *y, uint8_t *bits, ft_open_range_t passing, int i, int count) {
#if FT_MVE
    for (; (i & 7) == 0 && count >= 16; i += 16, count -= 16, y += 16) {
        const int8x16_t value = vldrbq_s8(y);
        const mve_pred16_t below = passing.high > 127 ? 0xFFFF : vcmpltq_n_s8(value, (int8_t)passing.high);
        const mve_pred16_t passes = vcmpgtq_n_s8(value, (int8_t)passing.low) & below;
        bits[i >> 3] = (uint8_t)passes;
        bits[(i >> 3) + 1] = (uint8_t)(passes >> 8);
    }
#else
    for (; (i & 7) == 0 && count >= 8; i += 8, count -= 8, y += 8) {
        unsigned byte = 0;
        FT_EACH(k, 8)
            byte |= (unsigned)(y[k] > passing.low && y[k] < passing.high) << k;
        bits[i >> 3] = (uint8_t)byte;
    }
#endif
    for (int k = 0; k < count; k++, i++) {
        const int passes = y[k] > passing.low && y[k] < passing.high;
        const unsigned before = i & 7 ? bits[i >> 3] : 0;
        bits[i >> 3] = (uint8_t)(before | (unsigned)passes << (i & 7));
    }
}

/* bits[i] = low < y[i] < high, as ft_activation_bits_f32 lays them. The rows must begin and end on a byte. */
FT_INLINE void ft_activation_bits_i8(const int8_t *y, ft_map_t ym, ft_grid_t grid, uint8_t *bits,
                                     ft_activation_t act, int y0, int y1) {
    const ft_open_range_t passing = ft_passing(grid, act);
    const ft_runs_t runs = ft_runs(ym, ym, ym, y0, y1);
    for (int row = y0; row < y1; row += runs.rows)
        for (int col = 0; col < ym.w; col += runs.cols)
            ft_bits_run_i8(y + row * ym.row + col * ym.pixel, bits, passing, (row * ym.w + col) * ym.c,
                           runs.count);
}

#endif
