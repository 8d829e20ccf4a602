/* int8 weights that learn: their gradients from int8 activations and int8 output gradients, and what the
 * layer derives from weights that change, each time that it runs.
 *
 * Sums are integers, whatever the order: the bits are the same. A weight's gradient in real values is the sum
 * times `unit`, the product of both scales; what becomes of it is the sink's (update.h).
 */
#ifndef FT_LEARNING_I8_H
#define FT_LEARNING_I8_H

#include "moving.h"
#include <string.h>

/* FT_LANES sums side by side, and as many vectors of them as one loop holds in registers, for each of
 * FT_ROWS_INT rows. */
#if defined(__AVX2__) && defined(__FMA__)
typedef __m256i ft_ints;
#define FT_VECTORS_INT 2
#define FT_ROWS_INT    4
FT_INLINE ft_ints ft_ints_load(const int8_t *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}
FT_INLINE ft_ints ft_ints_splat(int32_t x) {
    return _mm256_set1_epi32(x);
}
FT_INLINE ft_ints ft_ints_add(ft_ints a, ft_ints b) {
    return _mm256_add_epi32(a, b);
}
FT_INLINE ft_ints ft_ints_mul(ft_ints a, ft_ints b) {
    return _mm256_mullo_epi32(a, b);
}
FT_INLINE ft_vec ft_ints_to_vec(ft_ints a) {
    return _mm256_cvtepi32_ps(a);
}
#elif FT_MVE
typedef int32x4_t ft_ints;
#define FT_VECTORS_INT 2
#define FT_ROWS_INT    2
FT_INLINE ft_ints ft_ints_load(const int8_t *p) {
    return vldrbq_s32(p);
}
FT_INLINE ft_ints ft_ints_splat(int32_t x) {
    return vdupq_n_s32(x);
}
FT_INLINE ft_ints ft_ints_add(ft_ints a, ft_ints b) {
    return vaddq_s32(a, b);
}
FT_INLINE ft_ints ft_ints_mul(ft_ints a, ft_ints b) {
    return vmulq_s32(a, b);
}
FT_INLINE ft_vec ft_ints_to_vec(ft_ints a) {
    return vcvtq_f32_s32(a);
}
#else
typedef int32_t ft_ints;
#if defined(__riscv)
#define FT_VECTORS_INT 4
#define FT_ROWS_INT    4
#else
#define FT_VECTORS_INT 2
#define FT_ROWS_INT    4
#endif
FT_INLINE ft_ints ft_ints_load(const int8_t *p) {
    return *p;
}
FT_INLINE ft_ints ft_ints_splat(int32_t x) {
    return x;
}
FT_INLINE ft_ints ft_ints_add(ft_ints a, ft_ints b) {
    return a + b;
}
FT_INLINE ft_ints ft_ints_mul(ft_ints a, ft_ints b) {
    return a * b;
}
FT_INLINE ft_vec ft_ints_to_vec(ft_ints a) {
    return (float)a;
}
#endif

/* The first `count` of FT_LANES neighbours; the other lanes hold 0. */
FT_INLINE ft_ints ft_ints_some(const int8_t *p, int count) {
    if (count == FT_LANES)
        return ft_ints_load(p);
    int8_t lane[FT_LANES] = {0};
    for (int k = 0; k < count; k++)
        lane[k] = p[k];
    return ft_ints_load(lane);
}

/* `count` sums that lie side by side. */
FT_INLINE ft_ints ft_ints_of(const int32_t *sums, int count) {
    ft_ints lanes = ft_ints_splat(0);
    memcpy(&lanes, sums, (size_t)count * sizeof *sums);
    return lanes;
}

/* The sums of `count` neighbours, times `unit`, to the place `at` of the sink. */
FT_INLINE void ft_ints_finish(ft_sink_t to, int at, ft_ints sums, float unit, int count) {
    const ft_vec start = to.g ? ft_gather(to.g + at, 1, count) : ft_splat(0.0f);
    ft_sink_finish(to, at, ft_fma(ft_splat(unit), ft_ints_to_vec(sums), start), count);
}

/* An int8 tensor as a weight gradient reads it: neighbouring positions of the map that the window steps over
 * lie `row` and `pixel` apart. */
typedef struct {
    const int8_t *at;
    int row, pixel;
} ft_steps_over_t;

/* `rows` x `vectors` weight gradients of one tap over the pixels ys x xs; `at` is the place of the first in
 * the sink, where rows lie `pitch` apart. Depthwise: one row, whose lanes have inputs of their own. Constant
 * rows, vectors, count, depthwise. */
FT_INLINE void ft_grad_w_block_i8(ft_steps_over_t x, int32_t zero, ft_steps_over_t dy, float unit,
                                  ft_sink_t to, int at, int pitch, ft_range_t ys, ft_range_t xs, int rows,
                                  int vectors, int count, int depthwise) {
    ft_ints acc[FT_ROWS_INT * FT_VECTORS_INT];
    FT_EACH(k, rows * vectors)
        acc[k] = ft_ints_splat(0);
    for (int row = ys.from; row < ys.to; row++) {
        const int8_t *x_at = x.at + row * x.row + xs.from * x.pixel;
        const int8_t *dy_at = dy.at + row * dy.row + xs.from * dy.pixel;
        _Pragma("GCC unroll 1") for (int col = xs.from; col < xs.to; col++) {
            ft_ints gradient[FT_VECTORS_INT];
            FT_EACH(v, vectors)
                gradient[v] = ft_ints_some(dy_at + v * FT_LANES, count);
            FT_EACH(r, rows) {
                if (depthwise) {
                    FT_EACH(v, vectors) {
                        const ft_ints value =
                            ft_ints_add(ft_ints_some(x_at + v * FT_LANES, count), ft_ints_splat(-zero));
                        acc[v] = ft_ints_add(acc[v], ft_ints_mul(value, gradient[v]));
                    }
                } else {
                    const ft_ints value = ft_ints_splat(x_at[r] - zero);
                    FT_EACH(v, vectors)
                        acc[r * vectors + v] =
                            ft_ints_add(acc[r * vectors + v], ft_ints_mul(value, gradient[v]));
                }
            }
            x_at += x.pixel;
            dy_at += dy.pixel;
        }
    }
    FT_EACH(r, rows)
        FT_EACH(v, vectors)
            ft_ints_finish(to, at + r * pitch + v * FT_LANES, acc[r * vectors + v], unit, count);
}

/* `outs` of the outputs of `rows` neighbouring weight rows. Constant rows, depthwise. */
FT_INLINE void ft_grad_w_rows_i8(ft_steps_over_t x, int32_t zero, ft_steps_over_t dy, float unit,
                                 ft_sink_t to, int at, int pitch, ft_range_t outs, ft_range_t ys,
                                 ft_range_t xs, int rows, int depthwise) {
    for (int o = outs.from; o < outs.to;) {
        const int left = outs.to - o;
        const ft_steps_over_t from = {x.at + (depthwise ? o : 0), x.row, x.pixel};
        const ft_steps_over_t gradient = {dy.at + o, dy.row, dy.pixel};
        if (left >= FT_VECTORS_INT * FT_LANES) {
            ft_grad_w_block_i8(from, zero, gradient, unit, to, at + o, pitch, ys, xs, rows, FT_VECTORS_INT,
                               FT_LANES, depthwise);
            o += FT_VECTORS_INT * FT_LANES;
        } else {
            const int count = left >= FT_LANES ? FT_LANES : left;
            ft_grad_w_block_i8(from, zero, gradient, unit, to, at + o, pitch, ys, xs, rows, 1, count,
                               depthwise);
            o += count;
        }
    }
}

/* What a weight gradient of one tap sums over: x and dy at the positions ys x xs. */
typedef struct {
    ft_steps_over_t x, dy;
    ft_range_t ys, xs;
} ft_tap_i8_t;

FT_INLINE ft_tap_i8_t ft_tap_i8(const int8_t *x, ft_map_t xm, const int8_t *dy, ft_map_t dym, ft_window_t win,
                                int ky, int kx, int transposed) {
    const ft_map_t near = transposed ? xm : dym, far = transposed ? dym : xm;
    const int offset =
        (ky * win.dilation_y - win.pad_y) * far.row + (kx * win.dilation_x - win.pad_x) * far.pixel;
    const int far_row = win.stride_y * far.row, far_pixel = win.stride_x * far.pixel;
    const ft_steps_over_t moved = {(transposed ? dy : x) + offset, far_row, far_pixel};
    const ft_steps_over_t plain = {transposed ? x : dy, near.row, near.pixel};
    const ft_tap_i8_t tap = {transposed ? plain : moved, transposed ? moved : plain,
                             ft_positions(ky, win.stride_y, win.pad_y, win.dilation_y, far.h, near.h),
                             ft_positions(kx, win.stride_x, win.pad_x, win.dilation_x, far.w, near.w)};
    return tap;
}

/* The weight gradients of row c of a group's inputs, or of FT_ROWS_INT rows from there on where `more`, in
 * one tap; `at` is the place of row 0 in the sink. Not depthwise. */
FT_INLINE void ft_tap_grad_w_i8(ft_tap_i8_t tap, int n, int c, int more, int32_t zero, float unit,
                                ft_sink_t to, int at, int pitch, ft_conv_t conv) {
    const ft_steps_over_t x = {tap.x.at + n * conv.in + c, tap.x.row, tap.x.pixel};
    const ft_steps_over_t dy = {tap.dy.at + n * conv.out, tap.dy.row, tap.dy.pixel};
    const ft_range_t outs = {0, conv.out};
    at += c * pitch;
    if (more)
        ft_grad_w_rows_i8(x, zero, dy, unit, to, at, pitch, outs, tap.ys, tap.xs, FT_ROWS_INT, 0);
    else
        ft_grad_w_rows_i8(x, zero, dy, unit, to, at, pitch, outs, tap.ys, tap.xs, 1, 0);
}

/* The weight gradients of a convolution with input x on the grid `from` and output gradient dy in units of
 * `scale` go to the sink. At most 65535 pixels of the map that the window steps over: so no sum of products
 * up to 255 * 127 overflows. Cores divide the channels of a depthwise layer, else some rows of each tap. No
 * scratch. */
FT_INLINE void ft_conv2d_grad_w_i8(const int8_t *x, ft_map_t xm, ft_grid_t from, const int8_t *dy,
                                   ft_map_t dym, float scale, ft_sink_t to, ft_conv_t conv, int transposed,
                                   ft_cores_t cores) {
    const float unit = from.scale * scale;
    const int width = conv.window.kernel_x, taps = conv.window.kernel_y * width;
    if (ft_is_depthwise(conv)) {
        const ft_range_t channels = ft_part(cores, conv.groups);
        _Pragma("GCC unroll 1") for (int t = 0; t < taps; t++) {
            const ft_tap_i8_t tap = ft_tap_i8(x, xm, dy, dym, conv.window, t / width, t % width, transposed);
            ft_grad_w_rows_i8(tap.x, from.zero, tap.dy, unit, to, t * conv.w_tap, 0, channels, tap.ys, tap.xs,
                              1, 1);
        }
        return;
    }
    const int pitch = transposed ? conv.out : conv.groups * conv.out;
    const int full = conv.in / FT_ROWS_INT, blocks = full + conv.in % FT_ROWS_INT; /* of rows of a group */
    const ft_range_t mine = ft_part(cores, taps * conv.groups * blocks);
    _Pragma("GCC unroll 1") for (int k = mine.from; k < mine.to; k++) {
        const int t = k / (conv.groups * blocks), n = k / blocks % conv.groups, block = k % blocks;
        const ft_tap_i8_t tap = ft_tap_i8(x, xm, dy, dym, conv.window, t / width, t % width, transposed);
        const int c = block < full ? block * FT_ROWS_INT : block + full * (FT_ROWS_INT - 1);
        const int at = t * conv.w_tap + (transposed ? n * conv.in * pitch : n * conv.out);
        ft_tap_grad_w_i8(tap, n, c, block < full, from.zero, unit, to, at, pitch, conv);
    }
}

/* The bias gradients of channels c0..c1, sums of dy in units of `scale`, go to the sink. No scratch. */
FT_INLINE void ft_bias_grad_i8(const int8_t *dy, ft_map_t dym, float scale, ft_sink_t to, int c0, int c1) {
    for (int c = c0; c < c1; c += FT_LANES) {
        const int count = c1 - c < FT_LANES ? c1 - c : FT_LANES;
        ft_ints sums = ft_ints_splat(0);
        for (int row = 0; row < dym.h; row++)
            for (int col = 0; col < dym.w; col++)
                sums = ft_ints_add(sums, ft_ints_some(dy + row * dym.row + col * dym.pixel + c, count));
        ft_ints_finish(to, c, sums, scale, count);
    }
}

/* The weights of a convolution wherever they lie: that of (row, column, i, o) at[row * row_step + column *
 * column_step + i * in_step + o * out_step]. `in` of a group, `out` of all groups; steps may be negative. */
typedef struct {
    const int8_t *at;
    int rows, columns, in, out, groups;
    int row_step, column_step, in_step, out_step;
} ft_weights_from_t;

/* sums[o] = the sum of the weights of output o. Cores divide the outputs. */
FT_INLINE void ft_weight_sums_i8(ft_weights_from_t w, int32_t *sums, ft_cores_t cores) {
    const ft_range_t mine = ft_part(cores, w.out);
    memset(sums + mine.from, 0, (size_t)(mine.to - mine.from) * sizeof *sums);
    for (int row = 0; row < w.rows; row++)
        for (int column = 0; column < w.columns; column++)
            for (int i = 0; i < w.in; i++) {
                const int8_t *from = w.at + row * w.row_step + column * w.column_step + i * w.in_step;
                for (int o = mine.from; o < mine.to; o++)
                    sums[o] += from[o * w.out_step];
            }
}

/* The weights w, [taps][in][out], with which the opposite window carries a gradient back to the inputs first
 * <= i < end: turned is [taps][out][end - first]. So that its sums need one factor an output, the values get
 * scales for these, scales[n * (end - first) + i], from those of w: to be multiplied out by `channels`.
 * given: outputs of a group; a transposed layer's groups lie in `in`, and it has given = out. Cores divide
 * the inputs. */
FT_INLINE void ft_turn_weights_i8(ft_steps_t w, int taps, int in, int given, int first, int end,
                                  int8_t *turned, float *scales, ft_cores_t cores) {
    const int out = w.out, count = end - first;
    const ft_range_t mine = ft_part(cores, count);
    for (int n = 0; n < out / given; n++)
        for (int k = mine.from; k < mine.to; k++)
            scales[n * count + k] = 0.0f;
    for (int pass = 0; pass < 2; pass++) {
        for (int t = 0; t < taps; t++)
            for (int i = first + mine.from; i < first + mine.to; i++)
                for (int o = 0; o < out; o++) {
                    const int at = (t * in + i) * out + o;
                    float *scale = scales + o / given * count + i - first;
                    const float value = (float)w.q[at] * w.scales[o];
                    const float size = value < 0.0f ? -value : value;
                    if (pass == 0)
                        *scale = size > *scale ? size : *scale;
                    else
                        turned[(t * out + o) * count + i - first] =
                            (int8_t)ft_nearest_i32(value / *scale, 127);
                }
        for (int n = 0; pass == 0 && n < out / given; n++)
            for (int k = mine.from; k < mine.to; k++) {
                float *scale = scales + n * count + k;
                *scale = *scale > 127.0f * FT_RANGE_SMALLEST ? *scale / 127.0f : FT_RANGE_SMALLEST;
            }
    }
}

#endif
