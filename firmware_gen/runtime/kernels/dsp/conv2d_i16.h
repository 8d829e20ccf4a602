/* Convolutions of 16-bit gradients with int8 weights for Cortex-M4, M7 and M33: ft_conv2d_i16 with two
 * multiply-accumulates an instruction. Weights are packed by operators/moving_i16.py.
 *
 * The windows of two output pixels are gathered in scratch, and the loop is that of the int8 layers
 * (ft_multiply_dsp): here values lie in the patch in their order, as 4 values of each pixel in turn, and so
 * the bytes of a word of weights are in the order in which sxtb16 makes neighbours of them.
 */
#ifndef FT_DSP_CONV2D_I16_H
#define FT_DSP_CONV2D_I16_H

#include "../moving_i16.h"
#include "conv2d_i8.h"

/* Gathers the window of the output pixel at (row, col) for one pixel of the patch. */
FT_INLINE void ft_gather_i16_dsp(int16_t *patch, ft_patch_t size, const int16_t *x, ft_map_t xm,
                                 ft_conv_t conv, int row, int col) {
    const ft_window_t win = conv.window;
    const int step = 4 * size.pixels;
    int at = 0;
    for (int ky = 0; ky < win.kernel_y; ky++)
        for (int kx = 0; kx < win.kernel_x; kx++) {
            const int i = row * win.stride_y - win.pad_y + ky * win.dilation_y;
            const int j = col * win.stride_x - win.pad_x + kx * win.dilation_x;
            const int on_map = i >= 0 && i < xm.h && j >= 0 && j < xm.w;
            const int16_t *value = on_map ? x + i * xm.row + j * xm.pixel : NULL;
            if (conv.in % 4 == 0)
                for (int c = 0; c < conv.in; c += 4, patch += step) {
                    if (on_map)
                        memcpy(patch, value + c, 8);
                    else
                        memset(patch, 0, 8);
                }
            else
                for (int c = 0; c < conv.in; c++, at++)
                    patch[at / 4 * step + at % 4] = on_map ? value[c] : 0;
        }
}

/* Output channels `first` to `end` of 1 or 2 pixels, to y[0] and y[1]; w are the weights of the first.
 * Constant size, pixels. */
FT_INLINE void ft_conv_pixels_i16_dsp(const int16_t *patch, ft_patch_t size, const void *w,
                                      const int32_t *bias, int16_t *const y[2], ft_requantize_t to, int first,
                                      int end, int pixels) {
    for (int o = first; o < end; o += 2) {
        const int count = o + 1 < end ? 2 : 1;
        const uint32_t start = (uint32_t)bias[o], beside = count == 2 ? (uint32_t)bias[o + 1] : 0;
        uint32_t acc[2][2] = {{start, beside}, {start, beside}};
        w = ft_multiply_dsp(acc, patch, w, size, pixels, 0);
        for (int p = 0; p < pixels; p++)
            for (int k = 0; k < count; k++)
                y[p][o + k] = (int16_t)ft_requantized_i8(acc[p][k], o + k, to);
    }
}

/* As ft_conv2d_i16. w: packed weights, of each group filled up to whole pairs of outputs, aligned to 4 bytes.
 * patch: scratch, aligned to 4 bytes. x, y and patch do not overlap. */
FT_INLINE void ft_conv2d_i16_dsp(const int16_t *x, ft_map_t xm, const int8_t *w, const int32_t *bias,
                                 int16_t *y, ft_map_t ym, ft_conv_t conv, ft_requantize_t to, int16_t *patch,
                                 int y0, int y1) {
    const int values = conv.window.kernel_y * conv.window.kernel_x * conv.in;
    const ft_patch_t size = {.words = (values + 3) / 4, .pixels = ym.h * ym.w == 1 ? 1 : 2};
    for (int g = 0; g < conv.groups; g++) {
        const int first = g * conv.out, end = first + conv.out;
        int row = y0, col = 0;
        while (row < y1) {
            int16_t *out[2] = {NULL, NULL};
            int pixels = 0;
            for (; pixels < size.pixels && row < y1; pixels++) {
                ft_gather_i16_dsp(patch + 4 * pixels, size, x + g * conv.in, xm, conv, row, col);
                out[pixels] = y + row * ym.row + col * ym.pixel;
                if (++col == ym.w) {
                    col = 0;
                    row++;
                }
            }
            if (pixels == 1)
                ft_conv_pixels_i16_dsp(patch, size, w, bias, out, to, first, end, 1);
            else
                ft_conv_pixels_i16_dsp(patch, size, w, bias, out, to, first, end, 2);
        }
        w += (conv.out + 1) / 2 * 8 * size.words;
    }
}

#endif
