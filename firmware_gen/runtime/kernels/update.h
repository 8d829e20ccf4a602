/* What optimizers do with gradients. Each weight is one chain of operations in the order that stands here, at
 * the end of which it is stored; one in bf16 is rounded there, once. */
#ifndef FT_UPDATE_H
#define FT_UPDATE_H

#include "../model_api.h"
#include "bf16.h"

/* One update by stochastic gradient descent, as torch.optim.SGD. */
typedef struct {
    ft_reals_t w;
    ft_reals_t velocity; /* none: then there is no momentum */
    float lr, momentum, weight_decay;
} ft_sgd_t;

FT_INLINE ft_sgd_t ft_sgd(const ft_hyper_t *hyper, ft_reals_t w, ft_reals_t velocity) {
    return (ft_sgd_t){w, velocity, hyper->lr, hyper->momentum, hyper->weight_decay};
}

/* g' = weight_decay * w + g; v = momentum * v + g'; w -= lr * v. A velocity in bf16 is rounded when it is
 * stored: w moves by the one that was not. */
FT_INLINE void ft_sgd_vec(ft_sgd_t to, int at, ft_vec gradient, int count) {
    const ft_vec w = ft_reals_load(to.w, at, count);
    ft_vec step = ft_fma(ft_splat(to.weight_decay), w, gradient);
    if (to.velocity.f32 || to.velocity.bf16) {
        step = ft_fma(ft_splat(to.momentum), ft_reals_load(to.velocity, at, count), step);
        ft_reals_store(to.velocity, at, step, count);
    }
    ft_reals_store(to.w, at, ft_fma(ft_splat(-to.lr), step, w), count);
}

/* Adam adds weight_decay * w to the gradient, AdamW takes it from w. */
typedef enum { FT_ADAM, FT_ADAMW } ft_decay_t;

/* One update as torch.optim.Adam or AdamW. */
typedef struct {
    ft_reals_t w;
    ft_reals_t first; /* moment */
    float *second;
    ft_decay_t decay;
    float beta1, beta2, eps;
    float rate;         /* lr / (1 - beta1^t) in update t */
    float root;         /* 1 / sqrt(1 - beta2^t) */
    float weight_decay; /* AdamW: times lr */
} ft_adam_t;

/* `corrections` are 1 - beta1^t and 1 - beta2^t, by which moments that start from 0 are too small. */
FT_INLINE ft_adam_t ft_adam(const ft_hyper_t *hyper, ft_decay_t decay, ft_reals_t w, ft_reals_t first,
                            float *second, const float *corrections) {
    return (ft_adam_t){w,
                       first,
                       second,
                       decay,
                       hyper->beta1,
                       hyper->beta2,
                       hyper->eps,
                       hyper->lr / corrections[0],
                       1.0f / __builtin_sqrtf(corrections[1]),
                       decay == FT_ADAM ? hyper->weight_decay : hyper->lr * hyper->weight_decay};
}

/* Another update begins; from 0. 1 - beta^t is the moment of a gradient that is always 1 and is carried on as
 * one: that takes no power and loses no digits. */
FT_INLINE void ft_adam_advance(const ft_hyper_t *hyper, float *corrections) {
    corrections[0] = __builtin_fmaf(hyper->beta1, corrections[0], 1.0f - hyper->beta1);
    corrections[1] = __builtin_fmaf(hyper->beta2, corrections[1], 1.0f - hyper->beta2);
}

/* Adam: g += weight_decay * w. AdamW: w -= (lr * weight_decay) * w. Then
 * m = beta1 * m + (1 - beta1) * g; v = beta2 * v + ((1 - beta2) * g) * g;
 * w -= rate * (m / (root * sqrt(v) + eps)). A first moment in bf16 is rounded when it is stored: w moves by
 * the one that was not. Not inlined, because a layer calls it from a dozen places. */
static __attribute__((noinline, unused)) void ft_adam_vec(const ft_adam_t *to, int at, ft_vec gradient,
                                                          int count) {
    const ft_vec rest1 = ft_splat(1.0f - to->beta1), rest2 = ft_splat(1.0f - to->beta2);
    ft_vec w = ft_reals_load(to->w, at, count);
    if (to->decay == FT_ADAM)
        gradient = ft_fma(ft_splat(to->weight_decay), w, gradient);
    else
        w = ft_fma(ft_splat(-to->weight_decay), w, w);
    const ft_vec first =
        ft_fma(ft_splat(to->beta1), ft_reals_load(to->first, at, count), ft_mul(rest1, gradient));
    const ft_vec second = ft_fma(ft_splat(to->beta2), ft_gather(to->second + at, 1, count),
                                 ft_mul(ft_mul(rest2, gradient), gradient));
    ft_reals_store(to->first, at, first, count);
    ft_scatter(to->second + at, second, count);
    const ft_vec size = ft_fma(ft_splat(to->root), ft_sqrt(second), ft_splat(to->eps));
    ft_reals_store(to->w, at, ft_fma(ft_splat(-to->rate), ft_div(first, size), w), count);
}

/* Where gradients go: added to g, or into an update at once: by adam or, if that is NULL too, by sgd. */
typedef struct {
    float *g;
    const ft_adam_t *adam;
    ft_sgd_t sgd;
} ft_sink_t;

/* The sums of `count` gradients, which started from g or from 0, to the place `at`. */
FT_INLINE void ft_sink_finish(ft_sink_t to, int at, ft_vec gradient, int count) {
    if (to.g)
        ft_scatter(to.g + at, gradient, count);
    else if (to.adam)
        ft_adam_vec(to.adam, at, gradient, count);
    else
        ft_sgd_vec(to.sgd, at, gradient, count);
}

/* Kept gradients, which `factor` scales first (mean over accumulated samples, clipping), into an update. */
FT_INLINE void ft_apply_f32(ft_sink_t to, const float *g, int count, float factor) {
    for (int k = 0; k < count; k += FT_LANES) {
        const int lanes = count - k < FT_LANES ? count - k : FT_LANES;
        ft_sink_finish(to, k, ft_mul(ft_splat(factor), ft_gather(g + k, 1, lanes)), lanes);
    }
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
