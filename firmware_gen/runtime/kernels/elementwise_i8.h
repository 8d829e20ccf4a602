/* Operators that combine two int8 values at a time, with the bits of TFLite's reference kernels. An operand
 * has the shape of the result, or one position along some of its axes. y may be an operand of its own shape.
 * All make the rows y0..y1. */
#ifndef FT_ELEMENTWISE_I8_H
#define FT_ELEMENTWISE_I8_H

#include "broadcast.h"
#include "fixed_point.h"

/* The factor multiplier * 2^(shift - 31); the zero point is what stands for 0. */
typedef struct {
    int32_t zero_point, multiplier, shift;
} ft_rescale_t;

typedef struct {
    ft_rescale_t a, b, y;
    int32_t low, high; /* limits of the output */
} ft_binary_i8_t;

FT_INLINE int8_t ft_result_i8(int32_t value, ft_binary_i8_t p) {
    return (int8_t)ft_clamp_i32(value + p.y.zero_point, p.low, p.high);
}

/* 1 when the factor is 1/2, as for an addend that has the larger scale: it is exact without a product. */
FT_INLINE int ft_is_half(ft_rescale_t r) {
    return r.multiplier == 1 << 30 && r.shift == 0;
}

/* An operand at the scale that both have in common. */
FT_INLINE int32_t ft_addend_i8(int8_t x, ft_rescale_t r) {
    const int32_t offset = x - r.zero_point;
    return ft_is_half(r) ? offset * (1 << 19) : ft_requantize(offset * (1 << 20), r.multiplier, r.shift);
}

/* y = a + b: both at a common scale, times 2^20, so that little is lost. For a difference b's multiplier is
 * negative. */
FT_INLINE void ft_add_i8(const int8_t *a, ft_map_t am, const int8_t *b, ft_map_t bm, int8_t *y, ft_map_t ym,
                         ft_binary_i8_t p, int y0, int y1) {
    const ft_strides_t as = ft_broadcast(am), bs = ft_broadcast(bm);
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                const int32_t sum = ft_addend_i8(a[ft_at(as, row, col, c)], p.a) +
                                    ft_addend_i8(b[ft_at(bs, row, col, c)], p.b);
                y[row * ym.row + col * ym.pixel + c] =
                    ft_result_i8(ft_requantize(sum, p.y.multiplier, p.y.shift), p);
            }
}

/* y = a * b. */
FT_INLINE void ft_mul_i8(const int8_t *a, ft_map_t am, const int8_t *b, ft_map_t bm, int8_t *y, ft_map_t ym,
                         ft_binary_i8_t p, int y0, int y1) {
    const ft_strides_t as = ft_broadcast(am), bs = ft_broadcast(bm);
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                const int32_t product = (a[ft_at(as, row, col, c)] - p.a.zero_point) *
                                        (b[ft_at(bs, row, col, c)] - p.b.zero_point);
                y[row * ym.row + col * ym.pixel + c] =
                    ft_result_i8(ft_requantize(product, p.y.multiplier, p.y.shift), p);
            }
}

/* y = a above 0, a * b below; p.a is the factor above. */
FT_INLINE void ft_prelu_i8(const int8_t *a, ft_map_t am, const int8_t *b, ft_map_t bm, int8_t *y, ft_map_t ym,
                           ft_binary_i8_t p, int y0, int y1) {
    const ft_strides_t as = ft_broadcast(am), bs = ft_broadcast(bm);
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                const int32_t x = a[ft_at(as, row, col, c)] - p.a.zero_point;
                const int32_t slope = b[ft_at(bs, row, col, c)] - p.b.zero_point;
                const int32_t value = x >= 0 ? ft_requantize(x, p.a.multiplier, p.a.shift)
                                             : ft_requantize(x * slope, p.y.multiplier, p.y.shift);
                y[row * ym.row + col * ym.pixel + c] = ft_result_i8(value, p);
            }
}

/* y = the larger one; all three have one scale and zero point. */
FT_INLINE void ft_maximum_i8(const int8_t *a, ft_map_t am, const int8_t *b, ft_map_t bm, int8_t *y,
                             ft_map_t ym, ft_binary_i8_t p, int y0, int y1) {
    const ft_strides_t as = ft_broadcast(am), bs = ft_broadcast(bm);
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                const int8_t v = a[ft_at(as, row, col, c)], w = b[ft_at(bs, row, col, c)];
                y[row * ym.row + col * ym.pixel + c] = (int8_t)ft_clamp_i32(v > w ? v : w, p.low, p.high);
            }
}

/* y = the smaller one; all three have one scale and zero point. */
FT_INLINE void ft_minimum_i8(const int8_t *a, ft_map_t am, const int8_t *b, ft_map_t bm, int8_t *y,
                             ft_map_t ym, ft_binary_i8_t p, int y0, int y1) {
    const ft_strides_t as = ft_broadcast(am), bs = ft_broadcast(bm);
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++) {
                const int8_t v = a[ft_at(as, row, col, c)], w = b[ft_at(bs, row, col, c)];
                y[row * ym.row + col * ym.pixel + c] = (int8_t)ft_clamp_i32(v < w ? v : w, p.low, p.high);
            }
}

#endif
