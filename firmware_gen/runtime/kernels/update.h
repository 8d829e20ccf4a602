/* Stochastic gradient descent on vectors of weights. */
#ifndef FT_UPDATE_H
#define FT_UPDATE_H

#include "ft_math.h"

/* As torch.optim.SGD: g' = g * factor + weight_decay * w; v = momentum * v + g'; w -= lr * v. velocity is
 * NULL when the plan keeps none (then v = g'). factor scales the gradient first: clipping, mean over
 * accumulated samples. */
FT_INLINE void ft_sgd_f32(float *w, float *velocity, const float *g, int count, float lr, float momentum,
                          float weight_decay, float factor) {
    for (int k = 0; k < count; k++) {
        float step = __builtin_fmaf(weight_decay, w[k], g[k] * factor);
        if (velocity) {
            step = __builtin_fmaf(momentum, velocity[k], step);
            velocity[k] = step;
        }
        w[k] = __builtin_fmaf(-lr, step, w[k]);
    }
}

/* Where gradients go: added to g or, if g is NULL, applied to the weights w at once, as ft_sgd_f32 does. */
typedef struct {
    float *g;
    float *w, *velocity;
    float lr, momentum, weight_decay;
} ft_sink_t;

/* The sums of `count` gradients, which started from g or from 0, to the place `at`. */
FT_INLINE void ft_sink_finish(ft_sink_t to, int at, ft_vec gradient, int count) {
    if (to.g) {
        ft_scatter(to.g + at, gradient, count);
        return;
    }
    const ft_vec w = ft_gather(to.w + at, 1, count);
    ft_vec step = ft_fma(ft_splat(to.weight_decay), w, gradient);
    if (to.velocity) {
        step = ft_fma(ft_splat(to.momentum), ft_gather(to.velocity + at, 1, count), step);
        ft_scatter(to.velocity + at, step, count);
    }
    ft_scatter(to.w + at, ft_fma(ft_splat(-to.lr), step, w), count);
}

/* sum + g[0]^2 + g[1]^2 + ..., one chain. */
FT_INLINE float ft_square_sum_f32(const float *g, int count, float sum) {
    for (int k = 0; k < count; k++)
        sum = __builtin_fmaf(g[k], g[k], sum);
    return sum;
}

/* The factor that clips a gradient of `mean` times the norm sqrt(square_sum) to clip_norm; clip_norm <= 0:
 * none. As torch.nn.utils.clip_grad_norm_. */
FT_INLINE float ft_clip_factor(float square_sum, float mean, float clip_norm) {
    if (!(clip_norm > 0.0f))
        return mean;
    const float norm = __builtin_sqrtf(square_sum) * mean;
    const float clip = clip_norm / (norm + 1e-6f);
    return clip < 1.0f ? clip * mean : mean;
}

#endif
