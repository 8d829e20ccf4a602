/* Convolution and fully connected layers on int8 for Cortex-M4, M7 and M33: two multiply-accumulates an
 * instruction (smlad). Weights and tables are packed by operators/conv2d_i8_dsp.py.
 *
 * The window of two output pixels is widened to int16 in scratch (the patch); then each pair of output
 * channels reads the patch once:
 *
 *     for (k = 0; k < groups; k++)                     14 instructions for 16 multiply-accumulates
 *         v = 2 pixels x 4 values of the patch         ldmia
 *         w = 2 channels x 4 weights                   ldrd
 *         for each channel: (w0, w2), (w1, w3) = w     sxtb16; sxtb16 with ror #8
 *             for each pixel: acc += v * w             smlad; smlad
 *
 * Values are widened by the same two instructions and so pair up with the weights as they lie in memory.
 */
#ifndef FT_DSP_CONV2D_I8_H
#define FT_DSP_CONV2D_I8_H

#include "../conv2d_i8.h"

#include <string.h>

/* Groups of 4 values that the loop over the patch has in its body. */
#define FT_GROUPS_DSP 4

/* Entries of a table of multipliers, halves and shifts for a pair of channels. */
#define FT_FACTORS_DSP 6

/* A patch holds, for each group of 4 values, those of the first pixel and then those of the second, as
 * (v0, v2), (v1, v3). First the whole groups of all rows of the window, then what is left of each row;
 * what fills up the last group is never written: its weights are 0. */
typedef struct {
    int length, whole, rest; /* values, whole groups and other values of a row */
    int groups;              /* of all rows */
    int pixels;              /* 1 if y has a single one, else 2 */
} ft_patch_t;

FT_INLINE ft_patch_t ft_patch_dsp(ft_conv_t conv, ft_map_t ym) {
    const int length = conv.window.kernel_x * conv.in;
    const int whole = length / 4, rest = length % 4;
    const int groups = conv.window.kernel_y * whole + (conv.window.kernel_y * rest + 3) / 4;
    const ft_patch_t patch = {length, whole, rest, groups, ym.h * ym.w == 1 ? 1 : 2};
    return patch;
}

/* sum * multiplier * 2^(-31 - shift), rounded as ft_requantize does, plus the zero point of y.
 * half = 2^(shift - 1) + (zero << shift). -2^30 <= sum < 2^30, 1 <= shift <= 31. */
FT_INLINE int32_t ft_round_dsp(int32_t sum, int32_t multiplier, int32_t half, int32_t shift) {
    int32_t high;
    __asm__("smmulr %0, %1, %2" : "=r"(high) : "r"(sum * 2), "r"(multiplier));
    /* Adding half rounds halves up; below 0 they are to go down. */
    return (high + (high >> 31) + half) >> shift;
}

FT_INLINE int32_t ft_clamp_dsp(int32_t x, int32_t low, int32_t high) {
    if (low > -128 || high < 127)
        return ft_clamp_i32(x, low, high);
    __asm__("ssat %0, #8, %0" : "+r"(x));
    return x;
}

/* Appends groups of 4 values that lie side by side to one pixel of a patch of `pixels`. Constant pixels. */
FT_INLINE int16_t *ft_widen_dsp(int16_t *patch, const int8_t *x, int groups, int pixels) {
    _Pragma("GCC unroll 4") for (int k = 0; k < groups; k++) {
        uint32_t even, odd;
        __asm__ volatile("ldr %1, [%3], #4\n\t"
                         "sxtb16 %0, %1\n\t"
                         "sxtb16 %1, %1, ror #8\n\t"
                         "strd %0, %1, [%2], #%c4"
                         : "=&r"(even), "=&r"(odd), "+r"(patch), "+r"(x)
                         : "i"(8 * pixels)
                         : "memory");
    }
    return patch;
}

/* Gathers row i of x from column j on, as the window has it; what lies in the padding is `zero`. */
FT_INLINE void ft_gather_dsp(int8_t *line, const int8_t *x, ft_map_t xm, int32_t zero, ft_conv_t conv, int i,
                             int j) {
    for (int kx = 0; kx < conv.window.kernel_x; kx++) {
        if (i >= 0 && i < xm.h && j >= 0 && j < xm.w)
            memcpy(line, x + i * xm.row + j * xm.pixel, (size_t)conv.in);
        else
            memset(line, zero, (size_t)conv.in);
        line += conv.in;
        j += conv.window.dilation_x;
    }
}

/* 1 when some window reaches beyond the map. */
FT_INLINE int ft_padded_dsp(ft_map_t xm, ft_map_t ym, ft_window_t win) {
    const int last_y = (ym.h - 1) * win.stride_y - win.pad_y + (win.kernel_y - 1) * win.dilation_y;
    const int last_x = (ym.w - 1) * win.stride_x - win.pad_x + (win.kernel_x - 1) * win.dilation_x;
    return win.pad_y > 0 || win.pad_x > 0 || last_y >= xm.h || last_x >= xm.w;
}

/* Widens the window of the output pixel at (row, col) into one pixel of the patch. line: as for
 * ft_conv2d_i8_dsp. */
FT_INLINE void ft_widen_window_dsp(int16_t *patch, int8_t *line, const int8_t *x, ft_map_t xm, int32_t zero,
                                   ft_map_t ym, ft_conv_t conv, int row, int col) {
    const ft_window_t win = conv.window;
    const ft_patch_t size = ft_patch_dsp(conv, ym);
    const int padded = ft_padded_dsp(xm, ym, win);
    const int beside = win.kernel_x == 1 || (win.dilation_x == 1 && xm.pixel == conv.in);
    const int j = col * win.stride_x - win.pad_x;
    const int columns_on_map = !padded || (j >= 0 && j + win.kernel_x <= xm.w);
    int16_t *rest = patch + 4 * size.pixels * win.kernel_y * size.whole;
    int rests = 0;
    for (int ky = 0; ky < win.kernel_y; ky++) {
        const int i = row * win.stride_y - win.pad_y + ky * win.dilation_y;
        const int row_on_map = !padded || (i >= 0 && i < xm.h);
        const int8_t *run = line;
        if (beside && columns_on_map && row_on_map)
            run = x + i * xm.row + j * xm.pixel;
        else
            ft_gather_dsp(line, x, xm, zero, conv, i, j);
        patch = ft_widen_dsp(patch, run, size.whole, size.pixels);
        for (int k = 0; k < size.rest; k++, rests++)
            rest[rests / 4 * 4 * size.pixels + rests % 4] = run[4 * size.whole + k];
    }
}

/* Two channels: one group of 4 values, 2 pixels or 1. w0, w1: weights; t: scratch. */
#define FT_STEP_2X2_DSP                                                                                      \
    "ldrd %[w0], %[w1], [%[w]], #8\n\t"                                                                      \
    "ldmia %[v]!, {r4, r5, r6, r8}\n\t"                                                                      \
    "sxtb16 %[t], %[w0]\n\t"                                                                                 \
    "sxtb16 %[w0], %[w0], ror #8\n\t"                                                                        \
    "smlad %[a00], r4, %[t], %[a00]\n\t"                                                                     \
    "smlad %[a10], r6, %[t], %[a10]\n\t"                                                                     \
    "sxtb16 %[t], %[w1]\n\t"                                                                                 \
    "smlad %[a00], r5, %[w0], %[a00]\n\t"                                                                    \
    "smlad %[a10], r8, %[w0], %[a10]\n\t"                                                                    \
    "sxtb16 %[w1], %[w1], ror #8\n\t"                                                                        \
    "smlad %[a01], r4, %[t], %[a01]\n\t"                                                                     \
    "smlad %[a11], r6, %[t], %[a11]\n\t"                                                                     \
    "smlad %[a01], r5, %[w1], %[a01]\n\t"                                                                    \
    "smlad %[a11], r8, %[w1], %[a11]\n\t"
#define FT_STEP_1X2_DSP                                                                                      \
    "ldrd %[w0], %[w1], [%[w]], #8\n\t"                                                                      \
    "ldrd %[v0], %[v1], [%[v]], #%c[step]\n\t"                                                               \
    "sxtb16 %[t], %[w0]\n\t"                                                                                 \
    "sxtb16 %[w0], %[w0], ror #8\n\t"                                                                        \
    "smlad %[a0], %[v0], %[t], %[a0]\n\t"                                                                    \
    "sxtb16 %[t], %[w1]\n\t"                                                                                 \
    "smlad %[a0], %[v1], %[w0], %[a0]\n\t"                                                                   \
    "sxtb16 %[w1], %[w1], ror #8\n\t"                                                                        \
    "smlad %[a1], %[v0], %[t], %[a1]\n\t"                                                                    \
    "smlad %[a1], %[v1], %[w1], %[a1]\n\t"
/* STEP for all groups of a patch: a loop over FT_GROUPS_DSP of them, then what is left. No .rept: the
 * compiler takes the number of lines for that of the instructions, and must not believe that there are fewer.
 */
#define FT_LOOP_DSP(STEP)                                                                                    \
    ".if %c[loops]\n"                                                                                        \
    "1:\n\t" STEP STEP STEP STEP "cmp %[v], %[end]\n\t"                                                      \
    "bne 1b\n\t"                                                                                             \
    ".endif\n\t"                                                                                             \
    ".if %c[left] > 0\n\t" STEP ".endif\n\t"                                                                 \
    ".if %c[left] > 1\n\t" STEP ".endif\n\t"                                                                 \
    ".if %c[left] > 2\n\t" STEP ".endif"

/* acc[p][k] += patch of pixel p * weights of channel k, for `pixels` and 2 channels; returns the weights
 * behind. Constant size, pixels. */
FT_INLINE const int8_t *ft_multiply_dsp(uint32_t acc[2][2], const int16_t *patch, const int8_t *w,
                                        ft_patch_t size, int pixels) {
    const int loops = size.groups / FT_GROUPS_DSP, left = size.groups % FT_GROUPS_DSP;
    const int16_t *end = patch + 4 * size.pixels * FT_GROUPS_DSP * loops;
    uint32_t w0, w1, t, v0, v1;
    if (pixels == 2)
        __asm__ volatile(
            FT_LOOP_DSP(FT_STEP_2X2_DSP)
            : [a00] "+r"(acc[0][0]), [a01] "+r"(acc[0][1]), [a10] "+r"(acc[1][0]), [a11] "+r"(acc[1][1]),
              [v] "+r"(patch), [w] "+r"(w), [w0] "=&r"(w0), [w1] "=&r"(w1), [t] "=&r"(t)
            : [end] "r"(end), [loops] "i"(loops), [left] "i"(left)
            : "r4", "r5", "r6", "r8", "cc", "memory");
    else
        __asm__ volatile(FT_LOOP_DSP(FT_STEP_1X2_DSP)
                         : [a0] "+r"(acc[0][0]), [a1] "+r"(acc[0][1]), [v] "+r"(patch), [w] "+r"(w),
                           [w0] "=&r"(w0), [w1] "=&r"(w1), [t] "=&r"(t), [v0] "=&r"(v0), [v1] "=&r"(v1)
                         : [end] "r"(end), [loops] "i"(loops), [left] "i"(left), [step] "i"(8 * size.pixels)
                         : "cc", "memory");
    return w;
}

/* The output of channel o, the first or second (k) of a pair: one of the pairs of ft_conv2d_i8_dsp. */
FT_INLINE int32_t ft_output_dsp(uint32_t acc, int o, int k, const int32_t *pair, int leaky,
                                ft_requantize_t to) {
    const int32_t sum = (int32_t)acc;
    if (pair == NULL)
        return ft_requantized_i8(acc, o, to);
    if (leaky && sum < 0)
        pair += FT_FACTORS_DSP;
    return ft_clamp_dsp(ft_round_dsp(sum, pair[2 + k], pair[4 + k], pair[6 + k]), to.low, to.high);
}

/* All output channels of 1 or 2 pixels, to y[0] and y[1]. Constant size, pixels. */
FT_INLINE void ft_conv_pixels_dsp(const int16_t *patch, ft_patch_t size, const int8_t *w,
                                  const int32_t *pairs, int leaky, const int32_t *bias, int8_t *const y[2],
                                  ft_conv_t conv, ft_requantize_t to, int pixels) {
    const int fast = pairs != NULL;
    int8_t *at[2] = {y[0], y[1]};
    for (int o = 0; o < conv.out; o += 2) {
        const int both = o + 1 < conv.out;
        const uint32_t first = (uint32_t)(fast ? pairs[0] : bias[o]);
        const uint32_t second = (uint32_t)(fast ? pairs[1] : both ? bias[o + 1] : 0);
        uint32_t acc[2][2] = {{first, second}, {first, second}};
        int32_t out[2][2];
        w = ft_multiply_dsp(acc, patch, w, size, pixels);
        FT_EACH(k, 2)
            FT_EACH(p, pixels)
                out[p][k] = k == 0 || both ? ft_output_dsp(acc[p][k], o + k, k, pairs, leaky, to) : 0;
        FT_EACH(p, pixels) {
            at[p][0] = (int8_t)out[p][0];
            if (both)
                at[p][1] = (int8_t)out[p][1];
            at[p] += 2;
        }
        if (fast)
            pairs += 2 + (leaky ? 2 : 1) * FT_FACTORS_DSP;
    }
}

/* Rows y0 <= row < y1 of y; as ft_conv2d_i8, with conv.groups = 1.
 *
 * w: packed weights, aligned to 4 bytes. pairs: NULL, or for each two channels their biases and then their
 * multipliers, halves and shifts for ft_round_dsp; if `leaky`, then those of negative sums. With them, only
 * the limits of `to` count; without, bias has one entry an output channel. scratch: the patch, aligned to 4
 * bytes, and a row of the window (line), unless no window is padded and kernel_x is 1. x, y and scratch do
 * not overlap. */
FT_INLINE void ft_conv2d_i8_dsp(const int8_t *x, ft_map_t xm, int32_t zero, const int8_t *w,
                                const int32_t *pairs, int leaky, const int32_t *bias, int8_t *y, ft_map_t ym,
                                ft_conv_t conv, ft_requantize_t to, int8_t *scratch, int y0, int y1) {
    const ft_patch_t size = ft_patch_dsp(conv, ym);
    const int odd = (y1 - y0) * ym.w % 2;
    int16_t *patch = (int16_t *)(void *)scratch;
    int8_t *line = scratch + 8 * size.pixels * size.groups;
    int row = y0, col = 0;
    while (row < y1) {
        int8_t *out[2] = {NULL, NULL};
        int pixels = 0;
        for (; pixels < size.pixels && row < y1; pixels++) {
            ft_widen_window_dsp(patch + 4 * pixels, line, x, xm, zero, ym, conv, row, col);
            out[pixels] = y + row * ym.row + col * ym.pixel;
            if (++col == ym.w) {
                col = 0;
                row++;
            }
        }
        if (odd && pixels == 1)
            ft_conv_pixels_dsp(patch, size, w, pairs, leaky, bias, out, conv, to, 1);
        else
            ft_conv_pixels_dsp(patch, size, w, pairs, leaky, bias, out, conv, to, 2);
    }
}

#endif
