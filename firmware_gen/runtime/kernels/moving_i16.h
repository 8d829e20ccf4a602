/* Gradients of 16 bits that pass through int8 layers: what moving.h, moving_sums.h and learning_i8.h do with
 * 8 bits. Grids are symmetric, [-32767, 32767], weights stay int8. Scratch: none but ft_moving_tables'.
 */
#ifndef FT_MOVING_I16_H
#define FT_MOVING_I16_H

#include "moving_sums.h"
#include "update.h"

/* Output channels whose sums one inner loop holds in registers. */
#define FT_CHANNELS_I16 4

/* ft_range_observe */
FT_INLINE void ft_range_observe_i16(ft_moving_range_t *range, const int16_t *y, ft_map_t ym, int c0, int c1,
                                    int y0, int y1) {
    int32_t least = range->least, most = range->most;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int16_t *at = y + row * ym.row + col * ym.pixel;
            for (int c = c0; c < c1; c++) {
                least = at[c] < least ? at[c] : least;
                most = at[c] > most ? at[c] : most;
            }
        }
    range->least = least;
    range->most = most;
}

/* ft_quantize_gradient_i8 */
FT_INLINE void ft_quantize_gradient_i16(const float *dy, ft_map_t dym, int16_t *q, ft_map_t qm,
                                        ft_moving_range_t *range, int8_t *scratch, ft_cores_t cores) {
    const ft_range_t rows = ft_part(cores, dym.h);
    const float most = ft_largest_of_all_f32(dy, dym, rows, (float *)(void *)scratch, cores);
    const ft_grid_t grid = ft_range_hold(range, most, FT_MOST_I16);
    for (int row = rows.from; row < rows.to; row++)
        for (int col = 0; col < qm.w; col++)
            for (int c = 0; c < qm.c; c++) {
                const float steps = dy[row * dym.row + col * dym.pixel + c] / grid.scale;
                const int32_t nearest =
                    ft_round(steps > -32768.0f && steps < 32768.0f ? steps : 0.0f, FT_HALF_EVEN);
                q[row * qm.row + col * qm.pixel + c] =
                    (int16_t)ft_clamp_i32(nearest, -FT_MOST_I16, FT_MOST_I16);
            }
}

/* y = x * scale + bias, rounded once. Rows y0..y1. */
FT_INLINE void ft_dequantize_i16_f32(const int16_t *x, ft_map_t xm, float *y, ft_map_t ym, ft_grid_t grid,
                                     float bias, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++)
                y[row * ym.row + col * ym.pixel + c] =
                    __builtin_fmaf((float)x[row * xm.row + col * xm.pixel + c], grid.scale, bias);
}

/* `count` output channels from channel o of group n on of one pixel, whose window has these taps on the map.
 * Constant count. */
FT_INLINE void ft_conv_block_i16(const int16_t *x, ft_map_t xm, const int8_t *w, const int32_t *bias,
                                 int16_t *y, ft_conv_t conv, ft_requantize_t to, int n, int o, ft_taps_t rows,
                                 ft_taps_t cols, int count) {
    const int depthwise = ft_conv_depthwise_i8(conv);
    int32_t acc[FT_CHANNELS_I16];
    FT_EACH(k, count)
        acc[k] = bias[n * conv.out + o + k];
    x += n * conv.in;
    w += n * conv.w_group + o;
    for (int j = 0; j < rows.n; j++)
        for (int i = 0; i < cols.n; i++) {
            const int tap = (rows.k + j * rows.k_step) * conv.window.kernel_x + cols.k + i * cols.k_step;
            const int16_t *value =
                x + (rows.i + j * rows.i_step) * xm.row + (cols.i + i * cols.i_step) * xm.pixel;
            const int8_t *weight = w + tap * conv.w_tap;
            for (int c = 0; c < conv.in; c++)
                FT_EACH(k, count)
                    acc[k] += value[depthwise ? (o + k) / conv.out : c] * weight[c * conv.w_in + k];
        }
    for (int k = 0; k < count; k++) {
        const int channel = n * conv.out + o + k;
        y[channel] = (int16_t)ft_requantized_i8((uint32_t)acc[k], channel, to);
    }
}

/* All output channels of one pixel. Depthwise weights and outputs lie side by side: like one group. */
FT_INLINE void ft_conv_pixel_i16(const int16_t *x, ft_map_t xm, const int8_t *w, const int32_t *bias,
                                 int16_t *y, ft_conv_t conv, ft_requantize_t to, ft_taps_t rows,
                                 ft_taps_t cols) {
    const int depthwise = ft_conv_depthwise_i8(conv);
    const int groups = depthwise ? 1 : conv.groups, out = depthwise ? conv.groups * conv.out : conv.out;
    const int whole = out - out % FT_CHANNELS_I16;
    for (int n = 0; n < groups; n++) {
        for (int o = 0; o < whole; o += FT_CHANNELS_I16)
            ft_conv_block_i16(x, xm, w, bias, y, conv, to, n, o, rows, cols, FT_CHANNELS_I16);
        if (whole < out)
            ft_conv_block_i16(x, xm, w, bias, y, conv, to, n, whole, rows, cols, out % FT_CHANNELS_I16);
    }
}

/* Rows y0..y1 of a convolution; as ft_conv2d_i8, without zero points. Sums do not overflow: those of
 * gradients start from 0, and the sizes of an output's weights add up to no more than 65537. */
FT_INLINE void ft_conv2d_i16(const int16_t *x, ft_map_t xm, const int8_t *w, const int32_t *bias, int16_t *y,
                             ft_map_t ym, ft_conv_t conv, ft_requantize_t to, int y0, int y1) {
    const ft_window_t win = conv.window;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            ft_conv_pixel_i16(
                x, xm, w, bias, y + row * ym.row + col * ym.pixel, conv, to,
                ft_taps_direct(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h),
                ft_taps_direct(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w));
}

/* The same for a transposed window. */
FT_INLINE void ft_conv2d_transpose_i16(const int16_t *x, ft_map_t xm, const int8_t *w, const int32_t *bias,
                                       int16_t *y, ft_map_t ym, ft_conv_t conv, ft_requantize_t to, int y0,
                                       int y1) {
    const ft_window_t win = conv.window;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            ft_conv_pixel_i16(
                x, xm, w, bias, y + row * ym.row + col * ym.pixel, conv, to,
                ft_taps_transposed(row, win.kernel_y, win.stride_y, win.pad_y, win.dilation_y, xm.h),
                ft_taps_transposed(col, win.kernel_x, win.stride_x, win.pad_x, win.dilation_x, xm.w));
}

/* ft_mask_gradient_i8 */
FT_INLINE void ft_mask_gradient_i16(const int16_t *dy, ft_map_t dym, const uint8_t *bits, int16_t *dx,
                                    ft_map_t dxm, float slope, int y0, int y1) {
    int i = y0 * dym.w * dym.c;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < dym.w; col++)
            for (int c = 0; c < dym.c; c++, i++) {
                const int16_t q = dy[row * dym.row + col * dym.pixel + c];
                const int passes = (bits[i >> 3] >> (i & 7)) & 1;
                dx[row * dxm.row + col * dxm.pixel + c] =
                    passes ? q : (int16_t)ft_dithered((float)q * slope, i, FT_MOST_I16 + 1);
            }
}

/* ft_mask_gradient_from_output_i8 */
FT_INLINE void ft_mask_gradient_from_output_i16(const int16_t *dy, ft_map_t dym, const int8_t *y, ft_map_t ym,
                                                ft_grid_t grid, int16_t *dx, ft_map_t dxm,
                                                ft_activation_t act, float slope, int y0, int y1) {
    const ft_open_range_t passing = ft_passing(grid, act);
    int i = y0 * dym.w * dym.c;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < dym.w; col++)
            for (int c = 0; c < dym.c; c++, i++) {
                const int16_t q = dy[row * dym.row + col * dym.pixel + c];
                const int32_t value = y[row * ym.row + col * ym.pixel + c];
                const int passes = value > passing.low && value < passing.high;
                dx[row * dxm.row + col * dxm.pixel + c] =
                    passes ? q : (int16_t)ft_dithered((float)q * slope, i, FT_MOST_I16 + 1);
            }
}

/* y = a + b, as ft_moving_add_i8 without zero points and ReLU. */
FT_INLINE void ft_moving_add_i16(const int16_t *a, ft_map_t am, ft_grid_t a_grid, const int16_t *b,
                                 ft_map_t bm, ft_grid_t b_grid, int16_t *y, ft_map_t ym,
                                 ft_moving_range_t *range, int y0, int y1) {
    const ft_addends_t by = ft_addends(a_grid, b_grid, range->grid);
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++) {
            const int16_t *ac = a + row * am.row + col * am.pixel, *bc = b + row * bm.row + col * bm.pixel;
            int16_t *yc = y + row * ym.row + col * ym.pixel;
            for (int c = 0; c < ym.c; c++) {
                const int64_t sum =
                    (int64_t)ac[c] * by.multipliers[0] + (int64_t)bc[c] * by.multipliers[1] + by.half;
                const int64_t steps = sum >> by.shift;
                yc[c] = (int16_t)(steps > FT_MOST_I16    ? FT_MOST_I16
                                  : steps < -FT_MOST_I16 ? -FT_MOST_I16
                                                         : steps);
            }
        }
    ft_range_observe_i16(range, y, ym, 0, ym.c, y0, y1);
}

/* ft_mean_gradient_i8 */
FT_INLINE void ft_mean_gradient_i16(const int16_t *dy, ft_map_t dym, ft_grid_t from, int16_t *dx,
                                    ft_map_t dxm, ft_moving_range_t *range, int divisor) {
    ft_range_divided(range, from, divisor, FT_MOST_I16);
    for (int row = 0; row < dxm.h; row++)
        for (int col = 0; col < dxm.w; col++)
            for (int c = 0; c < dxm.c; c++)
                dx[row * dxm.row + col * dxm.pixel + c] =
                    dy[(dym.h == 1 ? 0 : row * dym.row) + (dym.w == 1 ? 0 : col * dym.pixel) +
                       (dym.c == 1 ? 0 : c)];
}

/* ft_bias_grad_i8; the sum of integers is exact, up to 2^24 pixels, and is rounded once to a float. */
FT_INLINE void ft_bias_grad_i16(const int16_t *dy, ft_map_t dym, float scale, ft_sink_t to, int c0, int c1) {
    for (int c = c0; c < c1; c += FT_LANES) {
        const int count = c1 - c < FT_LANES ? c1 - c : FT_LANES;
        float sums[FT_LANES] = {0};
        for (int k = 0; k < count; k++) {
            int64_t sum = 0;
            for (int row = 0; row < dym.h; row++)
                for (int col = 0; col < dym.w; col++)
                    sum += dy[row * dym.row + col * dym.pixel + c + k];
            sums[k] = __builtin_fmaf((float)(int32_t)(sum >> 16), 65536.0f, (float)(int32_t)(sum & 0xFFFF));
        }
        const ft_vec start = to.g ? ft_gather(to.g + c, 1, count) : ft_splat(0.0f);
        ft_sink_finish(to, c, ft_fma(ft_splat(scale), ft_load(sums), start), count);
    }
}

#endif
