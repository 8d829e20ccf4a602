/* Convolution and fully connected layers on int8 for Cortex-M4, M7 and M33: two multiply-accumulates an
 * instruction (smlad). Weights and tables are packed by operators/conv2d_i8_dsp.py.
 *
 * The window of two output pixels is widened to int16 in scratch (the patch); then each pair of output
 * channels reads the patch once:
 *
 *     for (k = 0; k < words; k++)                      14 instructions for 16 multiply-accumulates
 *         v = 2 pixels x 4 values of the patch         ldmia
 *         w = 2 channels x 4 weights                   ldrd
 *         for each channel: (w0, w2), (w1, w3) = w     sxtb16; sxtb16 with ror #8
 *             for each pixel: acc += v * w             smlad; smlad
 *
 * Values are widened by the same two instructions and so pair up with the weights as they lie in memory. Wide
 * weights lie there as the two instructions would leave them: then each channel's are one ldrd, 11
 * instructions in all.
 */
#ifndef FT_DSP_CONV2D_I8_H
#define FT_DSP_CONV2D_I8_H

#include "../conv2d_i8.h"

#include <string.h>

/* Words that the loop over the patch has in its body. */
#define FT_WORDS_DSP 4

/* Factors for two channels: three arguments of a rounding for each. */
#define FT_FACTORS_DSP 6

/* A patch holds, for each word of 4 values, those of the first pixel and then those of the second, as
 * (v0, v2), (v1, v3). First the whole words of all rows of the window, then what is left of each row;
 * what fills up the last word is never written: its weights are 0. */
typedef struct {
    int length, whole, rest; /* values, whole words and other values of a row */
    int words;               /* of all rows */
    int pixels;              /* 1 if y has a single one, else 2 */
} ft_patch_t;

/* How sums become outputs: as ft_requantize_t says; by ft_round_dsp, with factors of their own for sums
 * below 0 or without; by ft_round_once_fast. */
enum { FT_TABLES_DSP, FT_TWICE_DSP, FT_LEAKY_DSP, FT_ONCE_DSP };

/* What makes outputs from patches.
 *
 * w: packed weights, int16 if wide, else int8, aligned to 4 bytes. bias: of each output channel; but if
 * rounding is not FT_TABLES_DSP, only zero and limits of `to` count, and bias holds for each two channels
 * their biases and the other arguments of the rounding, if leaky then those for sums below 0. */
typedef struct {
    const void *w;
    int wide;
    const int32_t *bias;
    int rounding;
    ft_requantize_t to;
} ft_channels_t;

FT_INLINE ft_patch_t ft_patch_dsp(ft_conv_t conv, ft_map_t ym) {
    const int length = conv.window.kernel_x * conv.in;
    const int whole = length / 4, rest = length % 4;
    const int words = conv.window.kernel_y * whole + (conv.window.kernel_y * rest + 3) / 4;
    const ft_patch_t patch = {length, whole, rest, words, ym.h * ym.w == 1 ? 1 : 2};
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

/* Appends words of values that lie side by side to one pixel of a patch of `pixels`. Constant pixels. */
FT_INLINE int16_t *ft_widen_dsp(int16_t *patch, const int8_t *x, int words, int pixels) {
    _Pragma("GCC unroll 4") for (int k = 0; k < words; k++) {
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

/* One word of 4 values for two channels and 2 pixels. Of channel K, halves of the weights go to t and wK. */
#define FT_CHANNEL_2X2_DSP(K)                                                                                \
    ".if %c[wide]\n\t"                                                                                       \
    "ldrd %[t], %[w" #K "], [%[w]], #8\n\t"                                                                  \
    ".else\n\t"                                                                                              \
    "sxtb16 %[t], %[w" #K "]\n\t"                                                                            \
    "sxtb16 %[w" #K "], %[w" #K "], ror #8\n\t"                                                              \
    ".endif\n\t"                                                                                             \
    "smlad %[a0" #K "], r4, %[t], %[a0" #K "]\n\t"                                                           \
    "smlad %[a1" #K "], r6, %[t], %[a1" #K "]\n\t"                                                           \
    "smlad %[a0" #K "], r5, %[w" #K "], %[a0" #K "]\n\t"                                                     \
    "smlad %[a1" #K "], r8, %[w" #K "], %[a1" #K "]\n\t"
#define FT_STEP_2X2_DSP                                                                                      \
    "ldmia %[v]!, {r4, r5, r6, r8}\n\t"                                                                      \
    ".if %c[wide] == 0\n\t"                                                                                  \
    "ldrd %[w0], %[w1], [%[w]], #8\n\t"                                                                      \
    ".endif\n\t" FT_CHANNEL_2X2_DSP(0) FT_CHANNEL_2X2_DSP(1)
/* The same for 1 pixel: there are registers for all weights. */
#define FT_STEP_1X2_DSP                                                                                      \
    "ldrd %[v0], %[v1], [%[v]], #%c[step]\n\t"                                                               \
    ".if %c[wide]\n\t"                                                                                       \
    "ldmia %[w]!, {r4, r5, r6, r8}\n\t"                                                                      \
    ".else\n\t"                                                                                              \
    "ldrd r5, r8, [%[w]], #8\n\t"                                                                            \
    "sxtb16 r4, r5\n\t"                                                                                      \
    "sxtb16 r5, r5, ror #8\n\t"                                                                              \
    "sxtb16 r6, r8\n\t"                                                                                      \
    "sxtb16 r8, r8, ror #8\n\t"                                                                              \
    ".endif\n\t"                                                                                             \
    "smlad %[a00], %[v0], r4, %[a00]\n\t"                                                                    \
    "smlad %[a01], %[v0], r6, %[a01]\n\t"                                                                    \
    "smlad %[a00], %[v1], r5, %[a00]\n\t"                                                                    \
    "smlad %[a01], %[v1], r8, %[a01]\n\t"
/* STEP for FT_WORDS_DSP words at a time, as long as there are so many. No .rept: the compiler takes the
 * number of lines for that of the instructions, and must not believe that there are fewer. */
#define FT_LOOP_DSP(STEP)      "1:\n\t" STEP STEP STEP STEP "cmp %[v], %[end]\n\tbne 1b\n\t"
#define FT_REST_2X2_DSP(COUNT) ".if %c[left] >= " #COUNT "\n\t" FT_STEP_2X2_DSP ".endif\n\t"

/* acc[p][k] += patch of pixel p * weights of channel k, for `pixels` and 2 channels; returns the weights
 * behind. Constant pixels, wide and, for 2 pixels, size. */
FT_INLINE const void *ft_multiply_dsp(uint32_t acc[2][2], const int16_t *patch, const void *w,
                                      ft_patch_t size, int pixels, int wide) {
    const int loops = size.words / FT_WORDS_DSP, left = size.words % FT_WORDS_DSP;
    const int16_t *end = patch + 4 * size.pixels * FT_WORDS_DSP * loops;
    if (pixels == 2) {
        uint32_t w0, w1, t;
        __asm__ volatile(
            ".if %c[loops]\n" FT_LOOP_DSP(FT_STEP_2X2_DSP) ".endif\n\t" FT_REST_2X2_DSP(1) FT_REST_2X2_DSP(2)
                FT_REST_2X2_DSP(3)
            : [a00] "+r"(acc[0][0]), [a01] "+r"(acc[0][1]), [a10] "+r"(acc[1][0]), [a11] "+r"(acc[1][1]),
              [v] "+r"(patch), [w] "+r"(w), [w0] "=&r"(w0), [w1] "=&r"(w1), [t] "=&r"(t)
            : [end] "r"(end), [loops] "i"(loops), [left] "i"(left), [wide] "i"(wide)
            : "r4", "r5", "r6", "r8", "cc", "memory");
        return w;
    }
    uint32_t v0, v1;
#define FT_PIXEL_DSP(STEPS)                                                                                  \
    __asm__ volatile(STEPS                                                                                   \
                     : [a00] "+r"(acc[0][0]), [a01] "+r"(acc[0][1]), [v] "+r"(patch), [w] "+r"(w),           \
                       [v0] "=&r"(v0), [v1] "=&r"(v1)                                                        \
                     : [end] "r"(end), [step] "i"(8 * size.pixels), [wide] "i"(wide)                         \
                     : "r4", "r5", "r6", "r8", "cc", "memory")
    if (loops > 0)
        FT_PIXEL_DSP(FT_LOOP_DSP(FT_STEP_1X2_DSP));
    for (int k = 0; k < left; k++)
        FT_PIXEL_DSP(FT_STEP_1X2_DSP);
#undef FT_PIXEL_DSP
    return w;
}

/* Entries of ft_channels_t.bias for two channels. */
FT_INLINE int ft_pair_dsp(int rounding) {
    return rounding == FT_TABLES_DSP ? 2 : 2 + (rounding == FT_LEAKY_DSP ? 2 : 1) * FT_FACTORS_DSP;
}

/* The output of channel o, the first or second (k) of the pair at which channels.bias points. */
FT_INLINE int32_t ft_output_dsp(uint32_t acc, int o, int k, ft_channels_t channels) {
    const int32_t sum = (int32_t)acc;
    const ft_requantize_t to = channels.to;
    if (channels.rounding == FT_TABLES_DSP)
        return ft_requantized_i8(acc, o, to);
    const int32_t *factors = channels.bias + 2 + k;
    if (channels.rounding == FT_ONCE_DSP)
        return ft_clamp_dsp(ft_round_once_fast(sum, factors[0], factors[2], factors[4], 2 * to.zero + 1),
                            to.low, to.high);
    if (channels.rounding == FT_LEAKY_DSP && sum < 0)
        factors += FT_FACTORS_DSP;
    return ft_clamp_dsp(ft_round_dsp(sum, factors[0], factors[2], factors[4]), to.low, to.high);
}

/* Output channels `first` to `end` of 1 or 2 pixels, to y[0] and y[1]; w and bias are those of the first.
 * Constant size, pixels. */
FT_INLINE void ft_conv_pixels_dsp(const int16_t *patch, ft_patch_t size, ft_channels_t channels,
                                  int8_t *const y[2], int first, int end, int pixels) {
    int8_t *at[2] = {y[0], y[1]};
    for (int o = first; o < end; o += 2) {
        const int both = o + 1 < end;
        const uint32_t bias = (uint32_t)channels.bias[0];
        const uint32_t beside = both || channels.rounding != FT_TABLES_DSP ? (uint32_t)channels.bias[1] : 0;
        uint32_t acc[2][2] = {{bias, beside}, {bias, beside}};
        int32_t out[2][2];
        channels.w = ft_multiply_dsp(acc, patch, channels.w, size, pixels, channels.wide);
        FT_EACH(k, 2)
            FT_EACH(p, pixels)
                out[p][k] = k == 0 || both ? ft_output_dsp(acc[p][k], o + k, k, channels) : 0;
        FT_EACH(p, pixels) {
            at[p][0] = (int8_t)out[p][0];
            if (both)
                at[p][1] = (int8_t)out[p][1];
            at[p] += 2;
        }
        channels.bias += ft_pair_dsp(channels.rounding);
    }
}

/* Layers with a single output pixel are many and run once: they share their code, in which GCC makes
 * constants of all that they have in common. Not for FT_TABLES_DSP. */
#define FT_SINGLE_PIXEL_DSP(NAME, WIDE)                                                                      \
    static __attribute__((noinline, unused)) void NAME(const int16_t *patch, int words, const void *w,       \
                                                       const int32_t *bias, int rounding, int32_t zero,      \
                                                       int32_t low, int32_t high, int8_t *y, int count) {    \
        const ft_patch_t size = {.words = words, .pixels = 1};                                               \
        const ft_channels_t channels = {w, WIDE, bias, rounding, {.zero = zero, .low = low, .high = high}};  \
        int8_t *const out[2] = {y, NULL};                                                                    \
        if (rounding == FT_TABLES_DSP)                                                                       \
            __builtin_unreachable();                                                                         \
        ft_conv_pixels_dsp(patch, size, channels, out, 0, count, 1);                                         \
    }
FT_SINGLE_PIXEL_DSP(ft_single_pixel_dsp, 0)
FT_SINGLE_PIXEL_DSP(ft_single_pixel_wide_dsp, 1)

/* The outputs of one group of channels, whose first is `first`; x and y point at the group's. */
FT_INLINE void ft_conv_group_dsp(const int8_t *x, ft_map_t xm, int32_t zero, ft_channels_t channels,
                                 int8_t *y, ft_map_t ym, ft_conv_t conv, int first, int8_t *scratch, int y0,
                                 int y1) {
    const ft_patch_t size = ft_patch_dsp(conv, ym);
    const int odd = (y1 - y0) * ym.w % 2, end = first + conv.out;
    int16_t *patch = (int16_t *)(void *)scratch;
    int8_t *line = scratch + 8 * size.pixels * size.words;
    if (size.pixels == 1 && y0 < y1) {
        ft_widen_window_dsp(patch, line, x, xm, zero, ym, conv, 0, 0);
        const ft_requantize_t to = channels.to;
        int8_t *const out[2] = {y, NULL};
        if (channels.rounding == FT_TABLES_DSP)
            ft_conv_pixels_dsp(patch, size, channels, out, first, end, 1);
        else if (channels.wide)
            ft_single_pixel_wide_dsp(patch, size.words, channels.w, channels.bias, channels.rounding, to.zero,
                                     to.low, to.high, y, conv.out);
        else
            ft_single_pixel_dsp(patch, size.words, channels.w, channels.bias, channels.rounding, to.zero,
                                to.low, to.high, y, conv.out);
        return;
    }
    int row = y0, col = 0;
    while (row < y1) {
        int8_t *out[2] = {NULL, NULL};
        int pixels = 0;
        for (; pixels < 2 && row < y1; pixels++) {
            ft_widen_window_dsp(patch + 4 * pixels, line, x, xm, zero, ym, conv, row, col);
            out[pixels] = y + row * ym.row + col * ym.pixel;
            if (++col == ym.w) {
                col = 0;
                row++;
            }
        }
        if (odd && pixels == 1)
            ft_conv_pixels_dsp(patch, size, channels, out, first, end, 1);
        else
            ft_conv_pixels_dsp(patch, size, channels, out, first, end, 2);
    }
}

/* Rows y0 <= row < y1 of y; as ft_conv2d_i8. channels: of all groups; except of bias without other factors,
 * those of each group are filled up to whole pairs. scratch: the patch, aligned to 4 bytes, and a row of the
 * window (line), unless no window is padded and kernel_x is 1. x, y and scratch do not overlap. */
FT_INLINE void ft_conv2d_i8_dsp(const int8_t *x, ft_map_t xm, int32_t zero, ft_channels_t channels, int8_t *y,
                                ft_map_t ym, ft_conv_t conv, int8_t *scratch, int y0, int y1) {
    const int pairs = (conv.out + 1) / 2;
    const int weights = 8 * pairs * ft_patch_dsp(conv, ym).words * (channels.wide ? 2 : 1);
    const int bias = channels.rounding == FT_TABLES_DSP ? conv.out : pairs * ft_pair_dsp(channels.rounding);
    for (int g = 0; g < conv.groups; g++) {
        ft_conv_group_dsp(x + g * conv.in, xm, zero, channels, y + g * conv.out, ym, conv, g * conv.out,
                          scratch, y0, y1);
        channels.w = (const int8_t *)channels.w + weights;
        channels.bias += bias;
    }
}

#endif
