/* Convolution and fully connected layers on int8 with Helium: the bits of ft_conv2d_i8.
 *
 * Each output is the scalar product of two rows of bytes: the window of its pixel, and the weights of its
 * channel. Windows of one tap are read where they lie, others are gathered in scratch.
 */
#ifndef FT_MVE_CONV2D_I8_H
#define FT_MVE_CONV2D_I8_H

#include "requantize_i8.h"

/* `count` bytes; a loop of whole vectors whose last one the hardware cuts. Separate areas. */
FT_INLINE void ft_mve_copy_i8(int8_t *to, const int8_t *from, int count) {
    __asm volatile("wlstp.8 lr, %[count], 2f\n"
                   "1: vldrb.8 q0, [%[from]], #16\n"
                   "vstrb.8 q0, [%[to]], #16\n"
                   "letp lr, 1b\n"
                   "2:\n"
                   : [to] "+r"(to), [from] "+r"(from)
                   : [count] "r"(count)
                   : "q0", "lr", "cc", "memory");
}

/* `count` times the value. */
FT_INLINE void ft_mve_fill_i8(int8_t *to, int8_t value, int count) {
    __asm volatile("vdup.8 q0, %[value]\n"
                   "wlstp.8 lr, %[count], 2f\n"
                   "1: vstrb.8 q0, [%[to]], #16\n"
                   "letp lr, 1b\n"
                   "2:\n"
                   : [to] "+r"(to)
                   : [count] "r"(count), [value] "r"(value)
                   : "q0", "lr", "cc", "memory");
}

/* The window of output pixel (row, col) as one row of bytes, tap by tap; taps in the padding are `zero`. */
FT_INLINE void ft_mve_window_i8(int8_t *to, const int8_t *x, ft_map_t xm, int zero, ft_conv_t conv, int row,
                                int col) {
    const ft_window_t win = conv.window;
    const int y0 = row * win.stride_y - win.pad_y;
    const int x0 = col * win.stride_x - win.pad_x;
    const int run = win.kernel_x * conv.in;
    for (int ky = 0; ky < win.kernel_y; ky++, to += run) {
        const int y = y0 + ky * win.dilation_y;
        const int from = y * xm.row + x0 * xm.pixel; /* of x; may lie before it */
        if (y < 0 || y >= xm.h) {
            ft_mve_fill_i8(to, (int8_t)zero, run);
        } else if (win.dilation_x == 1 && xm.pixel == conv.in) {
            /* Neighbouring taps lie side by side. */
            const int before = x0 < 0 ? (-x0 < win.kernel_x ? -x0 : win.kernel_x) : 0;
            const int left = xm.w - x0;
            const int end = left < win.kernel_x ? (left > before ? left : before) : win.kernel_x;
            if (before > 0)
                ft_mve_fill_i8(to, (int8_t)zero, before * conv.in);
            ft_mve_copy_i8(to + before * conv.in, x + (from + before * conv.in), (end - before) * conv.in);
            if (end < win.kernel_x)
                ft_mve_fill_i8(to + end * conv.in, (int8_t)zero, (win.kernel_x - end) * conv.in);
        } else {
            for (int kx = 0; kx < win.kernel_x; kx++) {
                const int column = x0 + kx * win.dilation_x;
                if (column < 0 || column >= xm.w)
                    ft_mve_fill_i8(to + kx * conv.in, (int8_t)zero, conv.in);
                else
                    ft_mve_copy_i8(to + kx * conv.in, x + (from + kx * win.dilation_x * xm.pixel), conv.in);
            }
        }
    }
}

/* The scalar products of 2 rows of x and 4 output channels. w: 16 weights of each channel in turn, for each
 * of `vectors` > 0 times 16 values of a row. Returns the w that follows.
 *
 * By hand, because a sum wants a register of even number: eight sums take all of them. */
FT_INLINE const int8_t *ft_mve_dot2_i8(int32x4_t *sums0, int32x4_t *sums1, const int8_t *x0, const int8_t *x1,
                                       const int8_t *w, int vectors) {
    __asm volatile("movs r0, #0\n"
                   "movs r2, #0\n"
                   "movs r4, #0\n"
                   "movs r6, #0\n"
                   "mov r8, #0\n"
                   "mov r10, #0\n"
                   "mov r12, #0\n"
                   "mov lr, #0\n"
                   "1: vldrb.8 q0, [%[x0]], #16\n"
                   "vldrb.8 q2, [%[w]], #64\n"
                   "vmladava.s8 r0, q0, q2\n"
                   "vldrb.8 q1, [%[x1]], #16\n"
                   "vmladava.s8 r8, q1, q2\n"
                   "vldrb.8 q2, [%[w], #-48]\n"
                   "vmladava.s8 r2, q0, q2\n"
                   "subs %[vectors], #1\n"
                   "vmladava.s8 r10, q1, q2\n"
                   "vldrb.8 q2, [%[w], #-32]\n"
                   "vmladava.s8 r4, q0, q2\n"
                   "vmladava.s8 r12, q1, q2\n"
                   "vldrb.8 q2, [%[w], #-16]\n"
                   "vmladava.s8 r6, q0, q2\n"
                   "vmladava.s8 lr, q1, q2\n"
                   "bne 1b\n"
                   "vmov %q[sums0][2], %q[sums0][0], r0, r4\n"
                   "vmov %q[sums0][3], %q[sums0][1], r2, r6\n"
                   "vmov %q[sums1][2], %q[sums1][0], r8, r12\n"
                   "vmov %q[sums1][3], %q[sums1][1], r10, lr\n"
                   : [sums0] "=w"(*sums0), [sums1] "=w"(*sums1), [x0] "+r"(x0), [x1] "+r"(x1), [w] "+r"(w),
                     [vectors] "+r"(vectors)
                   :
                   : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q2", "cc", "memory");
    return w;
}

/* The same for one row. */
FT_INLINE const int8_t *ft_mve_dot1_i8(int32x4_t *sums, const int8_t *x, const int8_t *w, int vectors) {
    __asm volatile("movs r0, #0\n"
                   "movs r2, #0\n"
                   "movs r4, #0\n"
                   "movs r6, #0\n"
                   "dls lr, %[vectors]\n"
                   "1: vldrb.8 q0, [%[x]], #16\n"
                   "vldrb.8 q2, [%[w]], #64\n"
                   "vmladava.s8 r0, q0, q2\n"
                   "vldrb.8 q2, [%[w], #-48]\n"
                   "vmladava.s8 r2, q0, q2\n"
                   "vldrb.8 q2, [%[w], #-32]\n"
                   "vmladava.s8 r4, q0, q2\n"
                   "vldrb.8 q2, [%[w], #-16]\n"
                   "vmladava.s8 r6, q0, q2\n"
                   "le lr, 1b\n"
                   "vmov %q[sums][2], %q[sums][0], r0, r4\n"
                   "vmov %q[sums][3], %q[sums][1], r2, r6\n"
                   : [sums] "=w"(*sums), [x] "+r"(x), [w] "+r"(w)
                   : [vectors] "r"(vectors)
                   : "r0", "r2", "r4", "r6", "lr", "q0", "q2", "cc", "memory");
    return w;
}

/* All output channels of 1 or 2 pixels, whose windows are rows x0 and x1. */
FT_INLINE void ft_mve_conv_pixels_i8(const int8_t *x0, const int8_t *x1, const int8_t *w, const int32_t *bias,
                                     int8_t *y, int y_pixel, int vectors, int out, ft_requantize_t to,
                                     int fast, int pixels) {
    for (int o = 0; o < out; o += 4) {
        int32x4_t sums[2];
        if (pixels == 2)
            w = ft_mve_dot2_i8(&sums[0], &sums[1], x0, x1, w, vectors);
        else
            w = ft_mve_dot1_i8(&sums[0], x0, w, vectors);
        const int32x4_t start = vldrwq_s32(bias + o);
        FT_EACH(p, pixels) {
            const int32x4_t sum = vaddq_s32(sums[p], start);
            if (fast)
                ft_mve_store_i8(y + p * y_pixel + o, ft_mve_requantized_i8(sum, o, to), o, out);
            else
                ft_mve_store_slowly_i8(y + p * y_pixel, sum, o, out, to);
        }
    }
}

/* One group of ft_mve_conv2d_i8. */
FT_INLINE void ft_mve_conv_group_i8(const int8_t *x, ft_map_t xm, int zero, const int8_t *w,
                                    const int32_t *bias, int8_t *y, ft_map_t ym, ft_conv_t conv,
                                    ft_requantize_t to, int fast, int8_t *scratch, int y0, int y1) {
    const int vectors = (conv.window.kernel_y * conv.window.kernel_x * conv.in + 15) / 16;
    const int x_row = conv.window.stride_y * xm.row, x_pixel = conv.window.stride_x * xm.pixel;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col += 2) {
            const int both = col + 1 < ym.w;
            const int8_t *first = x + row * x_row + col * x_pixel, *second = first + x_pixel;
            if (scratch != NULL) {
                ft_mve_window_i8(scratch, x, xm, zero, conv, row, col);
                if (both)
                    ft_mve_window_i8(scratch + vectors * 16, x, xm, zero, conv, row, col + 1);
                first = scratch;
                second = scratch + vectors * 16;
            }
            int8_t *yp = y + row * ym.row + col * ym.pixel;
            if (both)
                ft_mve_conv_pixels_i8(first, second, w, bias, yp, ym.pixel, vectors, conv.out, to, fast, 2);
            else
                ft_mve_conv_pixels_i8(first, first, w, bias, yp, ym.pixel, vectors, conv.out, to, fast, 1);
        }
}

/* The factors from channel o on. */
FT_INLINE ft_requantize_t ft_mve_from_channel(ft_requantize_t to, int o) {
    to.multipliers += o;
    to.shifts += o;
    to.rests = to.rests != NULL ? to.rests + o : NULL;
    to.negative_multipliers = to.negative_multipliers != NULL ? to.negative_multipliers + o : NULL;
    to.negative_shifts = to.negative_shifts != NULL ? to.negative_shifts + o : NULL;
    return to;
}

/* Rows y0 <= row < y1 of y. w: for each group, for every 4 output channels, for every 16 bytes of the window,
 * the 16 weights of each of the 4; 0 where the window or the channels end. bias: the zero point folded in,
 * for each group in multiples of 4. fast: so come the tables of `to`, no sum reaches 2^30, and all shifts
 * lie in [-31, -1], or [-31, -2] with rests. scratch: two windows of
 * a group, each rounded up to 16 bytes; NULL for windows of one tap in no padding, of a multiple of 16
 * channels. */
FT_INLINE void ft_mve_conv2d_i8(const int8_t *x, ft_map_t xm, int zero, const int8_t *w, const int32_t *bias,
                                int8_t *y, ft_map_t ym, ft_conv_t conv, ft_requantize_t to, int fast,
                                int8_t *scratch, int y0, int y1) {
    const int window = (conv.window.kernel_y * conv.window.kernel_x * conv.in + 15) / 16 * 16;
    const int channels = (conv.out + 3) / 4 * 4;
    for (int g = 0; g < conv.groups; g++)
        ft_mve_conv_group_i8(
            x + g * conv.in, xm, zero, w + g * channels * window, bias + g * channels, y + g * conv.out, ym,
            conv, ft_mve_from_channel(to, g * (fast ? channels : conv.out)), fast, scratch, y0, y1);
}

#endif
