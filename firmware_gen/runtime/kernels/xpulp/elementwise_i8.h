/* Sums and products of two int8 values on GAP9's cores: the bits of ../elementwise_i8.h, in fewer
 * instructions. operators/elementwise_i8_xpulp.py says for which factors. */
#ifndef FT_XPULP_ELEMENTWISE_I8_H
#define FT_XPULP_ELEMENTWISE_I8_H

#include "../elementwise_i8.h"
#include "xpulp.h"

typedef enum { FT_ADD_XPULP, FT_MUL_XPULP } ft_binary_xpulp_t;

/* twice * multiplier / 2^32, rounded to nearest with halves up. */
FT_INLINE int32_t ft_high_xpulp(int32_t twice, int32_t multiplier) {
    const int64_t product = (int64_t)twice * multiplier;
    return (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
}

/* twice * multiplier * 2^(shift - 32), rounded as ft_requantize does, still times 2^-shift. `twice` is even;
 * offset: an integer to be added to the result, times 2^-shift. Constant either: a negative result may be one
 * too large, as it does not count. -31 <= shift <= -1. */
FT_INLINE int32_t ft_scaled_xpulp(int32_t twice, int32_t multiplier, int shift, int32_t offset, int either) {
    const int32_t high = ft_high_xpulp(twice, multiplier);
    /* Adding a half rounds halves up; below 0 they are to go down. */
    return high + (either ? 0 : high >> 31) + ((1 << (-shift - 1)) + offset);
}

/* As ft_addend_i8. Constant r; r.shift <= 0. */
FT_INLINE int32_t ft_addend_xpulp(int8_t x, ft_rescale_t r) {
    if (ft_is_half(r))
        return x * (1 << 19) - r.zero_point * (1 << 19);
    const int32_t twice = x * (1 << 21) - r.zero_point * (1 << 21);
    if (r.shift == 0)
        return ft_high_xpulp(twice, r.multiplier);
    return ft_scaled_xpulp(twice, r.multiplier, r.shift, 0, 0) >> -r.shift;
}

/* One output. Constant kind, p. */
FT_INLINE int32_t ft_binary_value_xpulp(ft_binary_xpulp_t kind, int8_t a, int8_t b, ft_binary_i8_t p) {
    const int32_t twice = kind == FT_ADD_XPULP ? (ft_addend_xpulp(a, p.a) + ft_addend_xpulp(b, p.b)) * 2
                                               : (a - p.a.zero_point) * (b * 2 - p.b.zero_point * 2);
    const int32_t zero = p.y.zero_point * (1 << -p.y.shift);
    const int32_t scaled = ft_scaled_xpulp(twice, p.y.multiplier, p.y.shift, zero, p.low >= p.y.zero_point);
    return ft_clamp_xpulp(scaled >> -p.y.shift, p.low, p.high);
}

/* `count` outputs side by side. Constant kind, p, runs, count. */
FT_INLINE void ft_binary_block_xpulp(ft_binary_xpulp_t kind, const int8_t *a, const int8_t *b, int8_t *y,
                                     ft_binary_i8_t p, ft_runs_t runs, int count) {
    int32_t out[4];
    FT_EACH(k, count)
        out[k] = ft_binary_value_xpulp(kind, a[runs.a_repeated ? 0 : k], b[runs.b_repeated ? 0 : k], p);
    FT_EACH(k, count)
        y[k] = (int8_t)out[k];
}

/* Rows y0 <= row < y1; as ft_add_i8 and ft_mul_i8, for -23 <= p.y.shift <= -1 and, of sums, p.a.shift and
 * p.b.shift from -31 to 0. Constant kind, maps, p. */
FT_INLINE void ft_binary_i8_xpulp(ft_binary_xpulp_t kind, const int8_t *a, ft_map_t am, const int8_t *b,
                                  ft_map_t bm, int8_t *y, ft_map_t ym, ft_binary_i8_t p, int y0, int y1) {
    const ft_strides_t as = ft_broadcast(am), bs = ft_broadcast(bm);
    const ft_runs_t runs = ft_runs(am, bm, ym, y0, y1);
    const int a_step = !runs.a_repeated, b_step = !runs.b_repeated;
    for (int row = y0; row < y1; row += runs.rows)
        for (int col = 0; col < ym.w; col += runs.cols) {
            const int8_t *ap = a + ft_at(as, row, col, 0), *bp = b + ft_at(bs, row, col, 0);
            int8_t *yp = y + row * ym.row + col * ym.pixel;
            int i = 0;
            for (; i + 4 <= runs.count; i += 4)
                ft_binary_block_xpulp(kind, ap + i * a_step, bp + i * b_step, yp + i, p, runs, 4);
            for (; i < runs.count; i++)
                ft_binary_block_xpulp(kind, ap + i * a_step, bp + i * b_step, yp + i, p, runs, 1);
        }
}

#endif
