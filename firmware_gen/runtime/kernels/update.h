/* What optimizers do with gradients. Each weight is one chain of operations in the order that stands here, at
 * the end of which it is stored; one in bf16 is rounded there, once. */
#ifndef FT_UPDATE_H
#define FT_UPDATE_H

#include "../model_api.h"
#include "bf16.h"

/* Weights in bf16, rounded when they are stored: to the nearest or, if `stochastic`, away from 0 with the
 * probability of what is cut off, so that small moves count on average. `key` is another one in each update.
 */
typedef struct {
    uint16_t *bits;
    int stochastic;
    uint32_t key;
} ft_halves_t;

/* Weights in int8: w = q * scales[channel], in rows of `out` channels. A weight moves by whole steps, to the
 * nearest (halves up) or, if `stochastic`, up with the probability of what is left, so that small moves count
 * on average; at the ends it saturates. `key` is another one in each update. */
typedef struct {
    int8_t *q;
    const float *scales;
    int out, stochastic;
    uint32_t key;
} ft_steps_t;

/* All bits of x into all bits of the result: C. Wellons' lowbias32. */
FT_INLINE uint32_t ft_mixed(uint32_t x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

/* The key of the next update of a tensor. */
FT_INLINE uint32_t ft_next_key(int32_t *generator) {
    const uint32_t next = (uint32_t)*generator + 0x9e3779b9u;
    *generator = (int32_t)next;
    return ft_mixed(next);
}

/* Moves the weight `at` by a real value. The draw belongs to the weight, not to the order of updates. */
FT_INLINE void ft_steps_move(ft_steps_t w, int at, float move) {
    if (!(move == move)) /* no number */
        return;
    float steps = move / w.scales[at % w.out];
    steps = steps > -256.0f ? steps : -256.0f;
    steps = steps < 256.0f ? steps : 256.0f;
    int32_t whole = (int32_t)steps;
    whole -= (float)whole > steps; /* down */
    const float threshold =
        w.stochastic ? (float)(ft_mixed(w.key + (uint32_t)at) >> 8) * 0x1p-24f : 0x1.fffffep-2f;
    const int32_t q = w.q[at] + whole + (steps - (float)whole > threshold);
    w.q[at] = (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
}

/* Stores a real value as the weight `at`. The draw belongs to the weight, not to the order of updates. */
FT_INLINE void ft_halves_store(ft_halves_t w, int at, float value) {
    const uint32_t bits = ft_float_to_bits(value);
    if (w.stochastic && value == value)
        w.bits[at] = (uint16_t)((bits + (ft_mixed(w.key + (uint32_t)at) >> 16)) >> 16);
    else
        w.bits[at] = ft_float_to_bf16(value);
}

/* Weights in the type whose pointer is not NULL, which is a constant of the plan. */
typedef struct {
    float *f32;
    ft_halves_t bf16;
    ft_steps_t steps;
} ft_weights_t;

/* Weights `at` and behind it into the first `count` lanes; the others hold 0. */
FT_INLINE ft_vec ft_weights_load(ft_weights_t from, int at, int count) {
    if (from.f32)
        return ft_gather(from.f32 + at, 1, count);
    if (from.bf16.bits)
        return ft_reals_load((ft_reals_t){NULL, from.bf16.bits}, at, count);
    float lane[FT_LANES] = {0};
    for (int k = 0; k < count; k++)
        lane[k] = (float)from.steps.q[at + k] * from.steps.scales[(at + k) % from.steps.out];
    return ft_load(lane);
}

/* The first `count` lanes of `to`, which were `from`, to the place `at` and behind it. */
FT_INLINE void ft_weights_move(ft_weights_t weights, int at, ft_vec from, ft_vec to, int count) {
    if (weights.f32) {
        ft_scatter(weights.f32 + at, to, count);
        return;
    }
    float old[FT_LANES], new[FT_LANES];
    ft_store(new, to);
    ft_store(old, from);
    for (int k = 0; k < count; k++)
        if (weights.bf16.bits)
            ft_halves_store(weights.bf16, at + k, new[k]);
        else if (weights.steps.q) /* or GCC 12 warns of a store to NULL */
            ft_steps_move(weights.steps, at + k, new[k] - old[k]);
}

/* One update by stochastic gradient descent, as torch.optim.SGD. */
typedef struct {
    ft_weights_t w;
    ft_reals_t velocity; /* none: then there is no momentum */
    float lr, momentum, weight_decay;
} ft_sgd_t;

FT_INLINE ft_sgd_t ft_sgd(const ft_hyper_t *hyper, ft_weights_t w, ft_reals_t velocity) {
    return (ft_sgd_t){w, velocity, hyper->lr, hyper->momentum, hyper->weight_decay};
}

/* g' = weight_decay * w + g; v = momentum * v + g'; w -= lr * v. A velocity in bf16 is rounded when it is
 * stored: w moves by the one that was not. */
FT_INLINE void ft_sgd_vec(ft_sgd_t to, int at, ft_vec gradient, int count) {
    const ft_vec w = ft_weights_load(to.w, at, count);
    ft_vec step = ft_fma(ft_splat(to.weight_decay), w, gradient);
    if (to.velocity.f32 || to.velocity.bf16) {
        step = ft_fma(ft_splat(to.momentum), ft_reals_load(to.velocity, at, count), step);
        ft_reals_store(to.velocity, at, step, count);
    }
    ft_weights_move(to.w, at, w, ft_fma(ft_splat(-to.lr), step, w), count);
}

/* Adam adds weight_decay * w to the gradient, AdamW takes it from w. */
typedef enum { FT_ADAM, FT_ADAMW } ft_decay_t;

/* One update as torch.optim.Adam or AdamW. */
typedef struct {
    ft_weights_t w;
    ft_reals_t first; /* moment */
    float *second;
    ft_decay_t decay;
    float beta1, beta2, eps;
    float rate;         /* lr / (1 - beta1^t) in update t */
    float root;         /* 1 / sqrt(1 - beta2^t) */
    float weight_decay; /* AdamW: times lr */
} ft_adam_t;

/* `corrections` are 1 - beta1^t and 1 - beta2^t, by which moments that start from 0 are too small. */
FT_INLINE ft_adam_t ft_adam(const ft_hyper_t *hyper, ft_decay_t decay, ft_weights_t w, ft_reals_t first,
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
    const ft_vec old = ft_weights_load(to->w, at, count);
    ft_vec w = old;
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
    ft_weights_move(to->w, at, old, ft_fma(ft_splat(-to->rate), ft_div(first, size), w), count);
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

/* Kept gradients, which `factor` scales first (mean over accumulated samples, clipping), into an update. Each
 * of the cores moves weights of its own. */
FT_INLINE void ft_apply_f32(ft_sink_t to, const float *g, int count, float factor, ft_cores_t cores) {
    const ft_range_t mine = ft_part(cores, count);
    for (int k = mine.from; k < mine.to; k += FT_LANES) {
        const int lanes = mine.to - k < FT_LANES ? mine.to - k : FT_LANES;
        ft_sink_finish(to, k, ft_mul(ft_splat(factor), ft_gather(g + k, 1, lanes)), lanes);
    }
}

/* The same of gradients that wait in bf16. */
FT_INLINE void ft_apply_bf16(ft_sink_t to, const uint16_t *g, int count, float factor, ft_cores_t cores) {
    const ft_range_t mine = ft_part(cores, count);
    for (int k = mine.from; k < mine.to; k += FT_LANES) {
        const int lanes = mine.to - k < FT_LANES ? mine.to - k : FT_LANES;
        float lane[FT_LANES] = {0};
        for (int i = 0; i < lanes; i++)
            lane[i] = ft_bf16_to_float(g[k + i]);
        ft_sink_finish(to, k, ft_mul(ft_splat(factor), ft_load(lane)), lanes);
    }
}

/* sum + g[0]^2 + g[1]^2 + ..., one chain. */
FT_INLINE float ft_square_sum_f32(const float *g, int count, float sum) {
    for (int k = 0; k < count; k++)
        sum = __builtin_fmaf(g[k], g[k], sum);
    return sum;
}

FT_INLINE float ft_square_sum_bf16(const uint16_t *g, int count, float sum) {
    for (int k = 0; k < count; k++)
        sum = __builtin_fmaf(ft_bf16_to_float(g[k]), ft_bf16_to_float(g[k]), sum);
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
