/* Losses: they return the loss of one sample and write its gradient with respect to the prediction.
 *
 * All are means over the positions whose mask is not 0, times `weight`; with no such position loss and
 * gradient are 0.
 * Predictions, labels and gradients are maps of one shape (cross-entropy: one label a pixel); masks are
 * dense, one byte a position. dp may be p. Sums run in raster order. */
#ifndef FT_LOSS_H
#define FT_LOSS_H

#include "ft_math.h"
#include "map.h"

FT_INLINE int ft_count_valid(const uint8_t *mask, int count) {
    int valid = 0;
    for (int k = 0; k < count; k++)
        valid += mask[k] != 0;
    return valid;
}

/* Masked berHu on values normalised by the largest valid label n:
 *     d = |p - t| / n,  C = max d / 5,  l = d if d < C else (d^2 + C^2) / (2 C)
 * (Laina et al. 2016, continuous at C). C counts as a constant in the gradient. n must be positive.
 * published: l = (d^2 - C^2) / (2 C) above C, and C over all positions, an unknown label counting as -1: the
 * form that the code of arXiv 2512.00086 uses, which drops to 0 at C. */
FT_INLINE float ft_berhu_f32(const float *p, ft_map_t pm, const float *t, const uint8_t *mask, float *dp,
                             ft_map_t dpm, float weight, int published) {
    const int valid = ft_count_valid(mask, pm.h * pm.w * pm.c);
    float top = 0.0f, largest = 0.0f, loss = 0.0f;
    int k = 0;
    for (k = 0; k < pm.h * pm.w * pm.c; k++)
        if (mask[k] && t[k] > top)
            top = t[k];
    k = 0;
    for (int row = 0; row < pm.h; row++)
        for (int col = 0; col < pm.w; col++)
            for (int c = 0; c < pm.c; c++, k++) {
                if (!mask[k] && !published)
                    continue;
                const float label = mask[k] ? t[k] : -1.0f;
                const float d = ft_absf((p[row * pm.row + col * pm.pixel + c] - label) / top);
                largest = d > largest ? d : largest;
            }
    const float threshold = 0.2f * largest + 1e-12f;
    const float sign = published ? -1.0f : 1.0f;
    k = 0;
    for (int row = 0; row < pm.h; row++)
        for (int col = 0; col < pm.w; col++)
            for (int c = 0; c < pm.c; c++, k++) {
                float grad = 0.0f;
                if (mask[k] && top > 0.0f) {
                    const float e = (p[row * pm.row + col * pm.pixel + c] - t[k]) / top;
                    const float d = ft_absf(e);
                    const int linear = d < threshold;
                    loss = loss +
                           (linear ? d
                                   : __builtin_fmaf(d, d, sign * threshold * threshold) / (2.0f * threshold));
                    grad = linear ? (e > 0.0f ? 1.0f : (e < 0.0f ? -1.0f : 0.0f)) : e / threshold;
                    grad = weight * (grad / (top * (float)valid));
                }
                dp[row * dpm.row + col * dpm.pixel + c] = grad;
            }
    return valid ? weight * (loss / (float)valid) : 0.0f;
}

/* mean |p - t|. */
FT_INLINE float ft_l1_f32(const float *p, ft_map_t pm, const float *t, const uint8_t *mask, float *dp,
                          ft_map_t dpm, float weight) {
    const int valid = ft_count_valid(mask, pm.h * pm.w * pm.c);
    const float share = weight / (float)(valid ? valid : 1);
    float loss = 0.0f;
    int k = 0;
    for (int row = 0; row < pm.h; row++)
        for (int col = 0; col < pm.w; col++)
            for (int c = 0; c < pm.c; c++, k++) {
                const float e = mask[k] ? p[row * pm.row + col * pm.pixel + c] - t[k] : 0.0f;
                loss = loss + ft_absf(e);
                dp[row * dpm.row + col * dpm.pixel + c] = e > 0.0f ? share : (e < 0.0f ? -share : 0.0f);
            }
    return loss * share;
}

/* mean (p - t)^2. */
FT_INLINE float ft_mse_f32(const float *p, ft_map_t pm, const float *t, const uint8_t *mask, float *dp,
                           ft_map_t dpm, float weight) {
    const int valid = ft_count_valid(mask, pm.h * pm.w * pm.c);
    const float share = weight / (float)(valid ? valid : 1);
    float loss = 0.0f;
    int k = 0;
    for (int row = 0; row < pm.h; row++)
        for (int col = 0; col < pm.w; col++)
            for (int c = 0; c < pm.c; c++, k++) {
                const float e = mask[k] ? p[row * pm.row + col * pm.pixel + c] - t[k] : 0.0f;
                loss = __builtin_fmaf(e, e, loss);
                dp[row * dpm.row + col * dpm.pixel + c] = 2.0f * e * share;
            }
    return loss * share;
}

/* The class at position k; `bytes` is the size of a label: 1, uint8_t, or 4, int32_t. */
FT_INLINE int32_t ft_class_at(const void *labels, int bytes, int k) {
    return bytes == 1 ? ((const uint8_t *)labels)[k] : ((const int32_t *)labels)[k];
}

/* mean -log softmax(p)[label] over the pixels; a label outside 0..pm.c-1 counts as masked. label_bytes as for
 * ft_class_at. */
FT_INLINE float ft_cross_entropy_f32(const float *p, ft_map_t pm, const void *labels, const uint8_t *mask,
                                     float *dp, ft_map_t dpm, float weight, int label_bytes) {
    int valid = 0;
    for (int k = 0; k < pm.h * pm.w; k++) {
        const int32_t label = ft_class_at(labels, label_bytes, k);
        valid += mask[k] && label >= 0 && label < pm.c;
    }
    const float share = weight / (float)(valid ? valid : 1);
    float loss = 0.0f;
    int k = 0;
    for (int row = 0; row < pm.h; row++)
        for (int col = 0; col < pm.w; col++, k++) {
            const float *in = p + row * pm.row + col * pm.pixel;
            float *out = dp + row * dpm.row + col * dpm.pixel;
            const int32_t label = ft_class_at(labels, label_bytes, k);
            if (!mask[k] || label < 0 || label >= pm.c) {
                for (int c = 0; c < pm.c; c++)
                    out[c] = 0.0f;
                continue;
            }
            float top = in[0], sum = 0.0f;
            for (int c = 1; c < pm.c; c++)
                top = in[c] > top ? in[c] : top;
            const float at_label = in[label];
            for (int c = 0; c < pm.c; c++) {
                out[c] = ft_expf(in[c] - top);
                sum = sum + out[c];
            }
            loss = loss + (ft_logf(sum) - (at_label - top));
            for (int c = 0; c < pm.c; c++)
                out[c] = (out[c] / sum - (c == label ? 1.0f : 0.0f)) * share;
        }
    return loss * share;
}

#endif
