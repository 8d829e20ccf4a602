/* Operators that combine two int8 values at a time with Helium, 16 outputs at a time: the bits of
 * ../elementwise_i8.h.
 *
 * Values are widened in two steps, each of which takes the even lanes (bottom) or the odd ones (top), and
 * narrowed the same way: so all come back to their places.
 */
#ifndef FT_MVE_ELEMENTWISE_I8_H
#define FT_MVE_ELEMENTWISE_I8_H

#include "../elementwise_i8.h"
#include "requantize_i8.h"

typedef enum { FT_MVE_ADD, FT_MVE_MUL, FT_MVE_PRELU, FT_MVE_MAXIMUM, FT_MVE_MINIMUM } ft_mve_kind_t;

/* The even or the odd lanes of x minus its zero point. Constant odd. */
FT_INLINE int16x8_t ft_mve_offsets_i8(int8x16_t x, int odd, int32_t zero_point) {
    const int16x8_t wide = odd ? vmovltq_s8(x) : vmovlbq_s8(x);
    return vsubq_n_s16(wide, (int16_t)zero_point);
}

/* The same times 2^7, all that 16 bits hold. */
FT_INLINE int16x8_t ft_mve_shifted_offsets_i8(int8x16_t x, int odd, int32_t zero_point) {
    const int16x8_t wide = odd ? vshlltq_n_s8(x, 7) : vshllbq_n_s8(x, 7);
    return vsubq_n_s16(wide, (int16_t)(zero_point * 128));
}

/* The even or the odd lanes of an operand at the scale that both have in common, as ft_addend_i8 has it, from
 * offsets times 2^7. Constant odd, r. */
FT_INLINE int32x4_t ft_mve_addends_i8(int16x8_t offsets, int odd, ft_rescale_t r) {
    if (ft_is_half(r))
        return odd ? vshlltq_n_s16(offsets, 12) : vshllbq_n_s16(offsets, 12);
    const int32x4_t fine = odd ? vshlltq_n_s16(offsets, 13) : vshllbq_n_s16(offsets, 13);
    return ft_mve_scaled_n(fine, r.multiplier, r.shift);
}

/* a + b, a * b or, for prelu, what either factor makes, for the even or the odd lanes. Constant kind, odd, p.
 */
FT_INLINE int32x4_t ft_mve_combined_i8(ft_mve_kind_t kind, int16x8_t a, int16x8_t b, int odd,
                                       ft_binary_i8_t p) {
    if (kind == FT_MVE_ADD) {
        int32x4_t sum = ft_mve_addends_i8(a, odd, p.a);
        FT_MVE_PIN(sum);
        sum = vaddq_s32(sum, ft_mve_addends_i8(b, odd, p.b));
        return ft_mve_scaled_n(sum, p.y.multiplier, p.y.shift);
    }
    const int32x4_t product = odd ? vmulltq_int_s16(a, b) : vmullbq_int_s16(a, b);
    const int32x4_t scaled = ft_mve_scaled_n(product, p.y.multiplier, p.y.shift);
    if (kind == FT_MVE_MUL)
        return scaled;
    const int32x4_t x = odd ? vmovltq_s16(a) : vmovlbq_s16(a);
    return vpselq_s32(ft_mve_scaled_n(x, p.a.multiplier, p.a.shift), scaled, vcmpgeq_n_s32(x, 0));
}

/* The results of the even or the odd lanes, before they are narrowed to int8. Constant kind, odd, p. */
FT_INLINE int16x8_t ft_mve_results_i8(ft_mve_kind_t kind, int8x16_t a, int8x16_t b, int odd,
                                      ft_binary_i8_t p) {
    int16x8_t wide_a, wide_b;
    if (kind == FT_MVE_ADD) {
        wide_a = ft_mve_shifted_offsets_i8(a, odd, p.a.zero_point);
        wide_b = ft_mve_shifted_offsets_i8(b, odd, p.b.zero_point);
    } else {
        wide_a = ft_mve_offsets_i8(a, odd, p.a.zero_point);
        wide_b = ft_mve_offsets_i8(b, odd, p.b.zero_point);
    }
    /* 16 bits that saturate lose nothing: what they cannot hold is beyond int8 with every zero point. */
    int16x8_t result = vqmovnbq_s32(wide_a, ft_mve_combined_i8(kind, wide_a, wide_b, 0, p));
    FT_MVE_PIN(result);
    result = vqmovntq_s32(result, ft_mve_combined_i8(kind, wide_a, wide_b, 1, p));
    FT_MVE_PIN(result);
    return vqaddq_n_s16(result, (int16_t)p.y.zero_point);
}

/* 16 values of an operand that lie side by side, of which `exist` are there if `cut`; if not `repeated`: then
 * it is one value. Constant repeated, cut. */
FT_INLINE int8x16_t ft_mve_operand_i8(const int8_t *x, int repeated, int cut, mve_pred16_t exist) {
    if (repeated)
        return vdupq_n_s8(*x);
    return cut ? vldrbq_z_s8(x, exist) : vldrbq_s8(x);
}

/* `count` outputs, 16 if not `cut`. Constant kind, p, runs, cut. */
FT_INLINE void ft_mve_binary_block_i8(ft_mve_kind_t kind, const int8_t *a, const int8_t *b, int8_t *y,
                                      ft_binary_i8_t p, ft_runs_t runs, int cut, int count) {
    const mve_pred16_t exist = cut ? vctp8q((uint32_t)count) : 0;
    int8x16_t left = ft_mve_operand_i8(a, runs.a_repeated, cut, exist);
    int8x16_t right = ft_mve_operand_i8(b, runs.b_repeated, cut, exist);
    FT_MVE_PIN(left);
    FT_MVE_PIN(right);
    int8x16_t result;
    if (kind == FT_MVE_MAXIMUM) {
        result = vmaxq_s8(left, right);
    } else if (kind == FT_MVE_MINIMUM) {
        result = vminq_s8(left, right);
    } else {
        const int16x8_t even = ft_mve_results_i8(kind, left, right, 0, p);
        const int16x8_t odd = ft_mve_results_i8(kind, left, right, 1, p);
        result = vqmovntq_s16(vqmovnbq_s16(left, even), odd);
    }
    if (p.low > INT8_MIN)
        result = vmaxq_s8(result, vdupq_n_s8((int8_t)p.low));
    if (p.high < INT8_MAX)
        result = vminq_s8(result, vdupq_n_s8((int8_t)p.high));
    if (cut)
        vstrbq_p_s8(y, result, exist);
    else
        vstrbq_s8(y, result);
}

FT_INLINE void ft_mve_binary_run_i8(ft_mve_kind_t kind, const int8_t *a, const int8_t *b, int8_t *y,
                                    ft_binary_i8_t p, ft_runs_t runs) {
    int left = runs.count;
    for (; left >= 16; left -= 16) {
        ft_mve_binary_block_i8(kind, a, b, y, p, runs, 0, 16);
        a += runs.a_repeated ? 0 : 16;
        b += runs.b_repeated ? 0 : 16;
        y += 16;
    }
    if (left > 0)
        ft_mve_binary_block_i8(kind, a, b, y, p, runs, 1, left);
}

/* Rows y0 <= row < y1; as the kernels in ../elementwise_i8.h. Constant kind, maps, p. */
FT_INLINE void ft_mve_binary_i8(ft_mve_kind_t kind, const int8_t *a, ft_map_t am, const int8_t *b,
                                ft_map_t bm, int8_t *y, ft_map_t ym, ft_binary_i8_t p, int y0, int y1) {
    const ft_strides_t as = ft_broadcast(am), bs = ft_broadcast(bm);
    const ft_runs_t runs = ft_runs(am, bm, ym, y0, y1);
    for (int row = y0; row < y1; row += runs.rows)
        for (int col = 0; col < ym.w; col += runs.cols)
            ft_mve_binary_run_i8(kind, a + ft_at(as, row, col, 0), b + ft_at(bs, row, col, 0),
                                 y + row * ym.row + col * ym.pixel, p, runs);
}

#endif
