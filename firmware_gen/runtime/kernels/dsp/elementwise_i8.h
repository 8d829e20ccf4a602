/* Sums and products of two int8 values with the DSP instructions of Armv7E-M and Armv8-M: the bits of
 * ../elementwise_i8.h. operators/elementwise_i8_dsp.py says for which factors. */
#ifndef FT_DSP_ELEMENTWISE_I8_H
#define FT_DSP_ELEMENTWISE_I8_H

#include "../elementwise_i8.h"
#include "depthwise_i8.h"

typedef enum { FT_ADD_DSP, FT_MUL_DSP } ft_binary_dsp_t;

/* (x - zero_point) * 2^shift in one instruction: GCC would take two for a constant that it sees. */
FT_INLINE int32_t ft_offset_dsp(int8_t x, int32_t zero_point, int shift) {
    int32_t zero = zero_point * (1 << shift);
    __asm__("" : "+r"(zero));
    return x * (1 << shift) - zero;
}

/* twice * multiplier * 2^(shift - 32), rounded as ft_requantize does, still times 2^-shift. `twice` is even;
 * offset: an integer to be added to the result, times 2^-shift. -31 <= shift <= -1. */
FT_INLINE int32_t ft_scaled_dsp(int32_t twice, int32_t multiplier, int shift, int32_t offset) {
    const int32_t high = ft_smmulr(twice, multiplier);
    /* Adding a half rounds halves up; below 0 they are to go down. */
    return high + (high >> 31) + (1 << (-shift - 1)) + offset;
}

/* As ft_addend_i8. Constant r; r.shift <= 0. */
FT_INLINE int32_t ft_addend_dsp(int8_t x, ft_rescale_t r) {
    if (ft_is_half(r))
        return ft_offset_dsp(x, r.zero_point, 19);
    const int32_t twice = ft_offset_dsp(x, r.zero_point, 21);
    if (r.shift == 0)
        return ft_smmulr(twice, r.multiplier);
    return ft_scaled_dsp(twice, r.multiplier, r.shift, 0) >> -r.shift;
}

/* x >> shift, clamped. Constant shift, low, high; 1 <= shift <= 31. */
FT_INLINE int32_t ft_shifted_dsp(int32_t x, int shift, int32_t low, int32_t high) {
    if (low > INT8_MIN || high < INT8_MAX)
        return ft_clamp_i32(x >> shift, low, high);
    int32_t saturated;
    __asm__("ssat %0, #8, %1, asr %2" : "=r"(saturated) : "r"(x), "I"(shift));
    return saturated;
}

/* One output. Constant kind, p. */
FT_INLINE int32_t ft_binary_dsp(ft_binary_dsp_t kind, int8_t a, int8_t b, ft_binary_i8_t p) {
    const int32_t twice = kind == FT_ADD_DSP ? (ft_addend_dsp(a, p.a) + ft_addend_dsp(b, p.b)) * 2
                                             : (a - p.a.zero_point) * ft_offset_dsp(b, p.b.zero_point, 1);
    const int32_t zero = p.y.zero_point * (1 << -p.y.shift);
    const int32_t scaled = ft_scaled_dsp(twice, p.y.multiplier, p.y.shift, zero);
    return ft_shifted_dsp(scaled, -p.y.shift, p.low, p.high);
}

/* `count` outputs side by side. Constant kind, p, runs, count. */
FT_INLINE void ft_binary_block_dsp(ft_binary_dsp_t kind, const int8_t *a, const int8_t *b, int8_t *y,
                                   ft_binary_i8_t p, ft_runs_t runs, int count) {
    int32_t out[4];
    FT_EACH(k, count)
        out[k] = ft_binary_dsp(kind, a[runs.a_repeated ? 0 : k], b[runs.b_repeated ? 0 : k], p);
    FT_EACH(k, count)
        y[k] = (int8_t)out[k];
}

FT_INLINE void ft_binary_run_dsp(ft_binary_dsp_t kind, const int8_t *a, const int8_t *b, int8_t *y,
                                 ft_binary_i8_t p, ft_runs_t runs) {
    const int a_step = !runs.a_repeated, b_step = !runs.b_repeated;
    int i = 0;
    for (; i + 4 <= runs.count; i += 4)
        ft_binary_block_dsp(kind, a + i * a_step, b + i * b_step, y + i, p, runs, 4);
    for (; i < runs.count; i++)
        ft_binary_block_dsp(kind, a + i * a_step, b + i * b_step, y + i, p, runs, 1);
}

/* Rows y0 <= row < y1; as ft_add_i8 and ft_mul_i8, for -23 <= p.y.shift <= -1 and, of sums, p.a.shift and
 * p.b.shift from -31 to 0. Constant kind, maps, p. */
FT_INLINE void ft_binary_i8_dsp(ft_binary_dsp_t kind, const int8_t *a, ft_map_t am, const int8_t *b,
                                ft_map_t bm, int8_t *y, ft_map_t ym, ft_binary_i8_t p, int y0, int y1) {
    const ft_strides_t as = ft_broadcast(am), bs = ft_broadcast(bm);
    const ft_runs_t runs = ft_runs(am, bm, ym, y0, y1);
    for (int row = y0; row < y1; row += runs.rows)
        for (int col = 0; col < ym.w; col += runs.cols)
            ft_binary_run_dsp(kind, a + ft_at(as, row, col, 0), b + ft_at(bs, row, col, 0),
                              y + row * ym.row + col * ym.pixel, p, runs);
}

#endif
