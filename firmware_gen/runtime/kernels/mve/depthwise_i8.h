/* Depthwise convolution on int8 with Helium, 16 channels at a time: the bits of ft_conv2d_i8.
 *
 * The products of `group` taps at most are summed in 16 bits; the generator has proven that they fit. Then
 * the sums are widened: of 16 channels, vector 0 of four sums has channels 0, 4, 8, 12; vector 1 has 2, 6,
 * 10, 14; vector 2 has 1, 5, 9, 13; vector 3 has 3, 7, 11, 15. The tables lie in this order.
 */
#ifndef FT_MVE_DEPTHWISE_I8_H
#define FT_MVE_DEPTHWISE_I8_H

#include "requantize_i8.h"

/* The most taps of a window, and of one that has a path of its own where no tap lies in the padding. */
#define FT_MVE_TAPS     64
#define FT_MVE_UNROLLED 16

typedef struct {
    const int8_t *at[FT_MVE_TAPS];
} ft_mve_taps_t;

/* Where the taps of output pixel (row, col) lie; taps in the padding lie at `padding`. */
FT_INLINE void ft_mve_taps_i8(ft_mve_taps_t *taps, const int8_t *x, ft_map_t xm, ft_window_t win,
                              const int8_t *padding, int row, int col) {
    int tap = 0;
    for (int ky = 0; ky < win.kernel_y; ky++)
        for (int kx = 0; kx < win.kernel_x; kx++) {
            const int y = row * win.stride_y - win.pad_y + ky * win.dilation_y;
            const int at = col * win.stride_x - win.pad_x + kx * win.dilation_x;
            const int on_map = y >= 0 && y < xm.h && at >= 0 && at < xm.w;
            taps->at[tap++] = on_map ? x + y * xm.row + at * xm.pixel : padding;
        }
}

/* Outputs o to o + 15. The taps lie where `taps` says or, if NULL, from x on. `count` of the channels exist,
 * if `cut`; else all. Constant group, cut. */
FT_INLINE void ft_mve_depthwise_block_i8(const ft_mve_taps_t *taps, const int8_t *x, ft_map_t xm,
                                         ft_window_t win, const int8_t *w, const int32_t *bias, int8_t *y,
                                         int group, ft_requantize_t to, int o, int cut, int count) {
    const mve_pred16_t exist = cut ? vctp8q((uint32_t)count) : 0;
    int32x4_t sums[4];
    FT_EACH(k, 4) {
        sums[k] = vldrwq_s32(bias + o + k * 4);
        FT_MVE_PIN(sums[k]);
    }
    int16x8_t even, odd;
    int tap = 0;
    _Pragma("GCC unroll 16") for (int t = 0; t < win.kernel_y * win.kernel_x; t++) {
        const int ky = t / win.kernel_x, kx = t - ky * win.kernel_x;
        const int8_t *at =
            (taps ? taps->at[t] : x + ky * win.dilation_y * xm.row + kx * win.dilation_x * xm.pixel) + o;
        const int8x16_t weight = vldrbq_s8(w + t * 16);
        int8x16_t value = cut ? vldrbq_z_s8(at, exist) : vldrbq_s8(at);
        if (tap == 0) {
            even = vmullbq_int_s8(value, weight);
            odd = vmulltq_int_s8(value, weight);
            FT_MVE_PIN(even);
            FT_MVE_PIN(odd);
        } else {
            /* Read twice: with four vectors of sums there is no register for another product. */
            even = vaddq_s16(even, vmullbq_int_s8(value, weight));
            FT_MVE_PIN(even);
            value = cut ? vldrbq_z_s8(at, exist) : vldrbq_s8(at);
            odd = vaddq_s16(odd, vmulltq_int_s8(value, weight));
            FT_MVE_PIN(odd);
        }
        if (++tap == group || t == win.kernel_y * win.kernel_x - 1) {
            sums[0] = vaddq_s32(sums[0], vmovlbq_s16(even));
            FT_MVE_PIN(sums[0]);
            sums[1] = vaddq_s32(sums[1], vmovltq_s16(even));
            FT_MVE_PIN(sums[1]);
            sums[2] = vaddq_s32(sums[2], vmovlbq_s16(odd));
            FT_MVE_PIN(sums[2]);
            sums[3] = vaddq_s32(sums[3], vmovltq_s16(odd));
            FT_MVE_PIN(sums[3]);
            tap = 0;
        }
    }
    FT_EACH(k, 4) {
        sums[k] = ft_mve_scaled(sums[k], to.multipliers + o + k * 4, to.shifts + o + k * 4);
        FT_MVE_PIN(sums[k]);
    }
    /* 16 bits that saturate lose nothing: what they cannot hold is beyond int8 with every zero point. */
    even = vqmovntq_s32(vqmovnbq_s32(even, sums[0]), sums[1]);
    odd = vqmovntq_s32(vqmovnbq_s32(odd, sums[2]), sums[3]);
    even = vqaddq_n_s16(even, (int16_t)to.zero);
    odd = vqaddq_n_s16(odd, (int16_t)to.zero);
    int8x16_t result = vqmovntq_s16(vqmovnbq_s16(vreinterpretq_s8_s16(even), even), odd);
    if (to.low > INT8_MIN)
        result = vmaxq_s8(result, vdupq_n_s8((int8_t)to.low));
    if (to.high < INT8_MAX)
        result = vminq_s8(result, vdupq_n_s8((int8_t)to.high));
    if (cut)
        vstrbq_p_s8(y + o, result, exist);
    else
        vstrbq_s8(y + o, result);
}

/* All channels of one pixel; arguments as for ft_mve_depthwise_block_i8. */
FT_INLINE void ft_mve_depthwise_pixel_i8(const ft_mve_taps_t *taps, const int8_t *x, ft_map_t xm,
                                         ft_window_t win, const int8_t *w, const int32_t *bias, int8_t *y,
                                         int group, ft_requantize_t to) {
    const int whole = xm.c / 16 * 16;
    const int w_block = win.kernel_y * win.kernel_x * 16;
    for (int o = 0; o < whole; o += 16, w += w_block)
        ft_mve_depthwise_block_i8(taps, x, xm, win, w, bias, y, group, to, o, 0, 16);
    if (whole < xm.c)
        ft_mve_depthwise_block_i8(taps, x, xm, win, w, bias, y, group, to, whole, 1, xm.c - whole);
}

/* Rows y0 <= row < y1 of y. w: for every 16 channels, for every tap, 16 weights; 0 where the channels end.
 * bias and the tables of `to`: multiples of 16 channels, in the order of the sums; the zero point folded into
 * the bias, no sum reaches 2^30 and all shifts lie in [-31, -1]. padding: as many zero points as there are
 * channels, NULL if nothing is padded. group: 1 or more. No scratch. */
FT_INLINE void ft_mve_depthwise_i8(const int8_t *x, ft_map_t xm, const int8_t *padding, const int8_t *w,
                                   const int32_t *bias, int8_t *y, ft_map_t ym, ft_window_t win, int group,
                                   ft_requantize_t to, int y0, int y1) {
    const int unrolled = win.kernel_y * win.kernel_x <= FT_MVE_UNROLLED;
    for (int row = y0; row < y1; row++) {
        const ft_taps_t rows =
            ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h);
        for (int col = 0; col < ym.w; col++) {
            const ft_taps_t cols =
                ft_taps_direct(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w);
            int8_t *yp = y + row * ym.row + col * ym.pixel;
            if (unrolled && rows.n == win.kernel_y && cols.n == win.kernel_x) {
                const int8_t *xp = x + rows.i * xm.row + cols.i * xm.pixel;
                ft_mve_depthwise_pixel_i8(NULL, xp, xm, win, w, bias, yp, group, to);
            } else {
                ft_mve_taps_t taps;
                ft_mve_taps_i8(&taps, x, xm, win, padding, row, col);
                ft_mve_depthwise_pixel_i8(&taps, x, xm, win, w, bias, yp, group, to);
            }
        }
    }
}

#endif
