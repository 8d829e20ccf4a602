/* Activations: applied when a block of outputs is stored, or in place; their gradients from the output or
 * from bits. */
#ifndef FT_ACTIVATION_H
#define FT_ACTIVATION_H

#include "ft_math.h"
#include "map.h"

typedef enum {
    FT_LINEAR,
    FT_RELU,
    FT_LEAKY_RELU,
    FT_CLIP,
    FT_SIGMOID,
    FT_TANH,
    FT_ELU,
    FT_HARD_SWISH
} ft_activation_kind_t;

/* FT_LEAKY_RELU: a = slope > 0. FT_CLIP: a = lowest, b = highest value. FT_ELU: -a = lowest value, a > 0. */
typedef struct {
    ft_activation_kind_t kind;
    float a, b;
} ft_activation_t;

/* clip(x / 6 + 1/2, 0, 1) */
FT_INLINE float ft_hard_sigmoidf(float x) {
    const float gate = __builtin_fmaf(x, 1.0f / 6.0f, 0.5f);
    const float open = gate > 0.0f ? gate : 0.0f;
    return open < 1.0f ? open : 1.0f;
}

FT_INLINE float ft_activate(float x, ft_activation_t act) {
    switch (act.kind) {
    case FT_RELU:
        return x > 0.0f ? x : 0.0f;
    case FT_LEAKY_RELU:
        return x > 0.0f ? x : x * act.a;
    case FT_CLIP:
        x = x > act.a ? x : act.a;
        return x < act.b ? x : act.b;
    case FT_SIGMOID:
        return ft_sigmoidf(x);
    case FT_TANH:
        return ft_tanhf(x);
    case FT_ELU:
        return x > 0.0f ? x : act.a * (ft_expf(x) - 1.0f);
    case FT_HARD_SWISH:
        return x * ft_hard_sigmoidf(x);
    default:
        return x;
    }
}

/* Stores the first `count` lanes of v at y after the activation. */
FT_INLINE void ft_store_activated(float *y, ft_vec v, int count, ft_activation_t act) {
    ft_scatter(y, v, count);
    if (act.kind != FT_LINEAR)
        for (int k = 0; k < count; k++)
            y[k] = ft_activate(y[k], act);
}

/* 1 where the gradient passes with its full weight. Derived from the output: the slope of a leaky ReLU is
 * positive, so input and output have the same sign, and a clipped output lies on its limit. */
FT_INLINE int ft_passes(float y, ft_activation_t act) {
    return act.kind == FT_CLIP ? y > act.a && y < act.b : y > 0.0f;
}

/* The slope, from the output; that of a hard swish, which is not monotonous, from the input. */
FT_INLINE float ft_activation_slope(float y, ft_activation_t act) {
    switch (act.kind) {
    case FT_SIGMOID:
        return y * (1.0f - y);
    case FT_TANH:
        return __builtin_fmaf(-y, y, 1.0f);
    case FT_ELU:
        return y > 0.0f ? 1.0f : y + act.a;
    case FT_HARD_SWISH:
        if (y <= -3.0f || y >= 3.0f)
            return y > 0.0f ? 1.0f : 0.0f;
        return __builtin_fmaf(y, 1.0f / 3.0f, 0.5f);
    default:
        return ft_passes(y, act) ? 1.0f : (act.kind == FT_LEAKY_RELU ? act.a : 0.0f);
    }
}

/* y = activation(x), rows y0 <= row < y1. x and y may be the same map. */
FT_INLINE void ft_activation_f32(const float *x, ft_map_t xm, float *y, ft_map_t ym, ft_activation_t act,
                                 int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++)
                y[row * ym.row + col * ym.pixel + c] = ft_activate(x[row * xm.row + col * xm.pixel + c], act);
}

/* bits[i] = "the gradient passes at value i", i counting rows, columns, channels; bit i % 8 of byte i / 8.
 * The rows y0..y1 must begin and end on a byte. */
FT_INLINE void ft_activation_bits_f32(const float *y, ft_map_t ym, uint8_t *bits, ft_activation_t act, int y0,
                                      int y1) {
    int i = y0 * ym.w * ym.c;
    unsigned byte = 0;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < ym.w; col++)
            for (int c = 0; c < ym.c; c++, i++) {
                byte |= (unsigned)ft_passes(y[row * ym.row + col * ym.pixel + c], act) << (i & 7);
                if ((i & 7) == 7) {
                    bits[i >> 3] = (uint8_t)byte;
                    byte = 0;
                }
            }
    if (i & 7)
        bits[i >> 3] = (uint8_t)byte;
}

/* dx = dy * slope, the slope from the output y (of a hard swish: the input). dx may be dy. */
FT_INLINE void ft_activation_grad_f32(const float *dy, ft_map_t dym, const float *y, ft_map_t ym, float *dx,
                                      ft_map_t dxm, ft_activation_t act, int y0, int y1) {
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < dym.w; col++)
            for (int c = 0; c < dym.c; c++)
                dx[row * dxm.row + col * dxm.pixel + c] =
                    dy[row * dym.row + col * dym.pixel + c] *
                    ft_activation_slope(y[row * ym.row + col * ym.pixel + c], act);
}

/* The same from the bits of ft_activation_bits_f32. dx may be dy. */
FT_INLINE void ft_activation_grad_bits_f32(const float *dy, ft_map_t dym, const uint8_t *bits, float *dx,
                                           ft_map_t dxm, ft_activation_t act, int y0, int y1) {
    const float otherwise = act.kind == FT_LEAKY_RELU ? act.a : 0.0f;
    int i = y0 * dym.w * dym.c;
    for (int row = y0; row < y1; row++)
        for (int col = 0; col < dym.w; col++)
            for (int c = 0; c < dym.c; c++, i++) {
                const float slope = (bits[i >> 3] >> (i & 7)) & 1 ? 1.0f : otherwise;
                dx[row * dxm.row + col * dxm.pixel + c] = dy[row * dym.row + col * dym.pixel + c] * slope;
            }
}

#endif
