/* Operators that combine two values at a time, float32. An operand has the shape of the result, or one
 * position along some of its axes. */
#ifndef FT_ELEMENTWISE_H
#define FT_ELEMENTWISE_H

#include "broadcast.h"

typedef enum { FT_ADD, FT_SUB, FT_MUL, FT_MAXIMUM, FT_MINIMUM, FT_PRELU } ft_binary_t;

FT_INLINE float ft_combine(ft_binary_t kind, float a, float b) {
    switch (kind) {
    case FT_ADD:
        return a + b;
    case FT_SUB:
        return a - b;
    case FT_MUL:
        return a * b;
    case FT_MAXIMUM:
        return a > b ? a : b;
    case FT_MINIMUM:
        return a < b ? a : b;
    default: /* FT_PRELU: b is the slope below 0 */
        return a > 0.0f ? a : a * b;
    }
}

/* y = a (kind) b, rows y0..y1. y may be an operand of its own shape. */
FT_INLINE void ft_binary_f32(ft_binary_t kind, const float *a, ft_map_t am, const float *b, ft_map_t bm,
                             float *y, ft_map_t ym, int y0, int y1) {
    const ft_strides_t as = ft_broadcast(am), bs = ft_broadcast(bm);
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++)
                y[row * ym.row + col * ym.pixel + c] =
                    ft_combine(kind, a[ft_at(as, row, col, c)], b[ft_at(bs, row, col, c)]);
}

/* y = -x, rows y0..y1. y may be x. */
FT_INLINE void ft_negate_f32(const float *x, ft_map_t xm, float *y, ft_map_t ym, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++)
                y[row * ym.row + col * ym.pixel + c] = -x[row * xm.row + col * xm.pixel + c];
}

/* dx = the sums of dy over the axes along which x, which has the map dxm, was repeated; in raster order. dx
 * does not overlap dy. */
FT_INLINE void ft_broadcast_sum_f32(const float *dy, ft_map_t dym, float *dx, ft_map_t dxm) {
    const ft_strides_t xs = ft_broadcast(dxm);
    for (int row = 0; row < dxm.h; row++)
        for (int col = 0; col < dxm.w; col++)
            for (int c = 0; c < dxm.c; c++)
                dx[row * dxm.row + col * dxm.pixel + c] = 0.0f;
    for (int row = 0; row < dym.h; row++)
        for (int col = 0; col < dym.w; col++)
            for (int c = 0; c < dym.c; c++)
                dx[ft_at(xs, row, col, c)] += dy[row * dym.row + col * dym.pixel + c];
}

/* dx = dy * slope of FT_PRELU at x, rows y0..y1. dx may be dy. */
FT_INLINE void ft_prelu_grad_f32(const float *dy, ft_map_t dym, const float *x, ft_map_t xm,
                                 const float *alpha, ft_map_t alpham, float *dx, ft_map_t dxm, int y0,
                                 int y1) {
    const ft_strides_t as = ft_broadcast(alpham);
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < dxm.w; col++)
            for (int c = 0; c < dxm.c; c++) {
                const float d = dy[row * dym.row + col * dym.pixel + c];
                const int above = x[row * xm.row + col * xm.pixel + c] > 0.0f;
                dx[row * dxm.row + col * dxm.pixel + c] = above ? d : d * alpha[ft_at(as, row, col, c)];
            }
}

/* y[0..count) = 0. */
FT_INLINE void ft_fill_zero_f32(float *y, int count) {
    for (int k = 0; k < count; k++)
        y[k] = 0.0f;
}

#endif
