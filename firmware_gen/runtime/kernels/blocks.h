/* The inner loops of float layers: blocks of outputs that are held in registers.
 *
 * acc[p * vectors + v] is vector v of row p (a pixel, or a row of weights). Every loop adds its products one
 * after the other, each with one fused multiply-add, so that all implementations give the same bits.
 * `pixels`, `vectors` and `count` are constants: count = FT_LANES, or with one vector the lanes in use.
 */
#ifndef FT_BLOCKS_H
#define FT_BLOCKS_H

#include "lanes.h"
#if FT_VFP
#include "blocks_vfp.h"
#endif

/* acc[p][v] = start[p * start_pixel + lane] or, if start is NULL, 0. start_pixel: constant, 0 if start is
 * NULL. */
FT_INLINE void ft_block_start(ft_vec acc[FT_BLOCK_VECTORS], const float *start, int start_pixel, int pixels,
                              int vectors, int count) {
#if FT_VFP
    if (pixels == 4 && vectors == 4 && start_pixel) {
        ft_vfp_start_4x4(acc, start, start_pixel);
        return;
    }
    if (pixels == 4 && vectors == 4) {
        ft_vfp_start_16(acc, start);
        return;
    }
#endif
    FT_EACH(p, pixels)
        FT_EACH(v, vectors)
            acc[p * vectors + v] =
                start ? ft_gather(start + p * start_pixel + v * FT_LANES, 1, count) : ft_splat(0.0f);
}

/* acc[p][v] += x[p * x_pixel + c] * w[c * w_in + lane * w_out] for c = 0, 1, ..., n - 1. */
FT_INLINE void ft_block_matmul(ft_vec acc[FT_BLOCK_VECTORS], const float *x, int x_pixel, const float *w,
                               int w_in, int w_out, int n, int pixels, int vectors, int count) {
#if FT_VFP
    if (w_out == 1 && pixels == 4 && vectors == 4) {
        ft_vfp_matmul_4x4(acc, x, x_pixel, w, w_in, n);
        return;
    }
    if (w_out == 1 && pixels == 1 && vectors == 8) {
        ft_vfp_matmul_1x8(acc, x, w, w_in, n);
        return;
    }
    if (w_in == 1 && pixels == 4 && vectors == 4) {
        ft_vfp_dot_4x4(acc, x, x_pixel, w, w_out, n);
        return;
    }
    if (w_in == 1 && pixels == 4 && vectors == 1) { /* pixels take the place of channels */
        ft_vfp_dot_1x4(acc, w, x, x_pixel, n);
        return;
    }
    if (w_in == 1 && pixels == 1 && vectors == 8) {
        ft_vfp_dot_1x4(acc, x, w, w_out, n);
        ft_vfp_dot_1x4(acc + 4, x, w + 4 * w_out, w_out, n);
        return;
    }
#endif
    FT_PRODUCTS(c, n) {
        ft_vec weight[FT_SINGLE];
        FT_EACH(v, vectors)
            weight[v] = ft_gather(w + v * FT_LANES * w_out, w_out, count);
        FT_EACH(p, pixels) {
            const float value = x[p * x_pixel + c];
            FT_EACH(v, vectors)
                acc[p * vectors + v] = ft_fma_scalar(value, weight[v], acc[p * vectors + v]);
        }
        w += w_in;
    }
}

/* acc[r][v] += x[r] * dy[lane] for n pixels, x_pixel and dy_pixel apart. */
FT_INLINE void ft_block_outer(ft_vec acc[FT_BLOCK_VECTORS], const float *x, int x_pixel, const float *dy,
                              int dy_pixel, int n, int rows, int vectors, int count) {
#if FT_VFP
    if (rows == 4 && vectors == 4) {
        ft_vfp_outer_4x4(acc, x, x_pixel, dy, dy_pixel, n);
        return;
    }
#endif
    FT_PRODUCTS(k, n) {
        ft_vec grad[FT_SINGLE];
        FT_EACH(v, vectors)
            grad[v] = ft_gather(dy + v * FT_LANES, 1, count);
        FT_EACH(r, rows) {
            const float value = x[r];
            FT_EACH(v, vectors)
                acc[r * vectors + v] = ft_fma_scalar(value, grad[v], acc[r * vectors + v]);
        }
        x += x_pixel;
        dy += dy_pixel;
    }
}

/* acc[p][v] += a[p * a_row + lane] * b[lane] for n pairs of vectors, a_step and b_step apart. */
FT_INLINE void ft_block_multiply(ft_vec acc[FT_BLOCK_VECTORS], const float *a, int a_row, int a_step,
                                 const float *b, int b_step, int n, int pixels, int vectors, int count) {
#if FT_VFP
    if (pixels == 1 && vectors == 16) {
        ft_vfp_multiply_16(acc, a, a_step, b, b_step, n);
        return;
    }
#endif
    FT_PRODUCTS(k, n) {
        FT_EACH(v, vectors) {
            const ft_vec weight = ft_gather(b + v * FT_LANES, 1, count);
            FT_EACH(p, pixels) {
                const ft_vec value = ft_gather(a + p * a_row + v * FT_LANES, 1, count);
                acc[p * vectors + v] = ft_fma(value, weight, acc[p * vectors + v]);
            }
        }
        a += a_step;
        b += b_step;
    }
}

#endif
