/* Losses: the loss of one sample and its gradient with respect to the prediction.
 *
 * All are means over the positions whose mask is not 0, times `weight`; with no such position loss and
 * gradient are 0. A position is a value, of cross-entropy a pixel. Sums run in raster order.
 *
 * Cores divide the positions: each finds out what all of them need to know of its own, then makes gradients
 * and terms of the loss of its own, some pixels at a time, which the first core adds up in their order.
 */
#ifndef FT_LOSS_H
#define FT_LOSS_H

#include "cores.h"
#include "ft_math.h"

/* FT_L1: mean |p - t|. FT_MSE: mean (p - t)^2. FT_CROSS_ENTROPY: mean -log softmax(p)[label]; a label outside
 * 0..pm.c-1 counts as masked. FT_BERHU: on values normalised by the largest valid label n,
 *     d = |p - t| / n,  C = max d / 5,  l = d if d < C else (d^2 + C^2) / (2 C)
 * (Laina et al. 2016, continuous at C). C counts as a constant in the gradient. n must be positive.
 * FT_BERHU_PUBLISHED: l = (d^2 - C^2) / (2 C) above C, and C over all positions, an unknown label counting as
 * -1: the form that the code of arXiv 2512.00086 uses, which drops to 0 at C. */
typedef enum { FT_L1, FT_MSE, FT_CROSS_ENTROPY, FT_BERHU, FT_BERHU_PUBLISHED } ft_loss_kind_t;

/* p, dp: maps of one shape; dp may be p. Labels are dense as masks are: a float each or, of cross-entropy, an
 * uint8_t or an int32_t, `label_bytes` long. Constant but for the pointers. */
typedef struct {
    ft_loss_kind_t kind;
    float weight;
    const float *p;
    ft_map_t pm;
    const void *labels;
    int label_bytes;
    const uint8_t *mask;
    float *dp;
    ft_map_t dpm;
} ft_loss_t;

/* Of all positions: how many count; the largest label; the largest |p - t|. */
typedef struct {
    int valid;
    float top, farthest;
} ft_loss_facts_t;

/* Where pixel k of a map lies. */
FT_INLINE int ft_pixel_at(ft_map_t map, int k) {
    return ft_is_one_run(map) ? k * map.pixel : k / map.w * map.row + k % map.w * map.pixel;
}

/* The class of pixel k, -1 where it does not count. */
FT_INLINE int32_t ft_class_at(ft_loss_t loss, int k) {
    const int32_t label =
        loss.label_bytes == 1 ? ((const uint8_t *)loss.labels)[k] : ((const int32_t *)loss.labels)[k];
    return loss.mask[k] && label < loss.pm.c ? label : -1;
}

/* What is to be known of some pixels. */
FT_INLINE ft_loss_facts_t ft_loss_facts(ft_loss_t loss, ft_range_t pixels) {
    const float *labels = loss.labels;
    const int channels = loss.pm.c, berhu = loss.kind == FT_BERHU || loss.kind == FT_BERHU_PUBLISHED;
    ft_loss_facts_t facts = {0, 0.0f, 0.0f};
    for (int k = pixels.from; k < pixels.to; k++) {
        const float *in = loss.p + ft_pixel_at(loss.pm, k);
        if (loss.kind == FT_CROSS_ENTROPY) {
            facts.valid += ft_class_at(loss, k) >= 0;
            continue;
        }
        for (int c = 0; c < channels; c++) {
            const int at = k * channels + c, counts = loss.mask[at] != 0;
            facts.valid += counts;
            if (berhu && (counts || loss.kind == FT_BERHU_PUBLISHED)) {
                const float label = counts ? labels[at] : -1.0f, far = ft_absf(in[c] - label);
                facts.top = counts && label > facts.top ? label : facts.top;
                facts.farthest = far > facts.farthest ? far : facts.farthest;
            }
        }
    }
    return facts;
}

/* What follows from the facts: weight over the positions that count; of berHu n, C, and n times these. */
typedef struct {
    float share, top, threshold, all;
} ft_loss_units_t;

FT_INLINE ft_loss_units_t ft_loss_units(ft_loss_t loss, ft_loss_facts_t facts) {
    const ft_loss_units_t units = {loss.weight / (float)(facts.valid ? facts.valid : 1), facts.top,
                                   0.2f * (facts.farthest / facts.top) + 1e-12f,
                                   facts.top * (float)facts.valid};
    return units;
}

/* The gradient of a value, and its term of the sum. Not cross-entropy. */
FT_INLINE float ft_value_loss(ft_loss_t loss, ft_loss_units_t units, float p, float label, int counts,
                              float *term) {
    const float share = units.share, threshold = units.threshold;
    if (loss.kind == FT_L1 || loss.kind == FT_MSE) {
        const float e = counts ? p - label : 0.0f;
        *term = loss.kind == FT_MSE ? e : ft_absf(e);
        return loss.kind == FT_MSE ? 2.0f * e * share : e > 0.0f ? share : (e < 0.0f ? -share : 0.0f);
    }
    *term = 0.0f;
    if (!counts || !(units.top > 0.0f))
        return 0.0f;
    const float sign = loss.kind == FT_BERHU_PUBLISHED ? -1.0f : 1.0f;
    const float e = (p - label) / units.top, d = ft_absf(e);
    const int linear = d < threshold;
    *term = linear ? d : __builtin_fmaf(d, d, sign * threshold * threshold) / (2.0f * threshold);
    const float grad = linear ? (e > 0.0f ? 1.0f : (e < 0.0f ? -1.0f : 0.0f)) : e / threshold;
    return loss.weight * (grad / units.all);
}

/* The gradients of the classes of a pixel; returns its term of the sum. label: -1: it does not count. */
FT_INLINE float ft_class_loss(const float *in, float *out, int classes, int32_t label, float share) {
    if (label < 0) {
        for (int c = 0; c < classes; c++)
            out[c] = 0.0f;
        return 0.0f;
    }
    float top = in[0], sum = 0.0f;
    for (int c = 1; c < classes; c++)
        top = in[c] > top ? in[c] : top;
    const float at_label = in[label];
    for (int c = 0; c < classes; c++) {
        out[c] = ft_expf(in[c] - top);
        sum = sum + out[c];
    }
    for (int c = 0; c < classes; c++)
        out[c] = (out[c] / sum - (c == label ? 1.0f : 0.0f)) * share;
    return ft_logf(sum) - (at_label - top);
}

/* The sum with one more term. */
FT_INLINE float ft_loss_add(ft_loss_t loss, float sum, float term) {
    return loss.kind == FT_MSE ? __builtin_fmaf(term, term, sum) : sum + term;
}

/* Makes the gradients of some pixels. Their terms go to `terms`, or are added to the sum if that is NULL. */
FT_INLINE float ft_loss_pixels(ft_loss_t loss, ft_loss_units_t units, ft_range_t pixels, float *terms,
                               float sum) {
    const float *labels = loss.labels;
    const int channels = loss.pm.c, positions = loss.kind == FT_CROSS_ENTROPY ? 1 : channels;
    for (int k = pixels.from; k < pixels.to; k++) {
        const float *in = loss.p + ft_pixel_at(loss.pm, k);
        float *out = loss.dp + ft_pixel_at(loss.dpm, k);
        for (int c = 0; c < positions; c++) {
            const int at = k * positions + c;
            float term;
            if (loss.kind == FT_CROSS_ENTROPY)
                term = ft_class_loss(in, out, channels, ft_class_at(loss, k), units.share);
            else
                out[c] = ft_value_loss(loss, units, in[c], labels[at], loss.mask[at] != 0, &term);
            if (terms)
                *terms++ = term;
            else
                sum = ft_loss_add(loss, sum, term);
        }
    }
    return sum;
}

/* The facts of all cores' pixels; these have met then. `each`: room for those of every core. */
FT_INLINE ft_loss_facts_t ft_loss_meet(ft_loss_facts_t facts, ft_loss_facts_t *each, ft_cores_t cores) {
    if (cores.count == 1)
        return facts;
    each[cores.own] = facts;
    ft_meet(cores);
    for (int k = 0; k < cores.count; k++) {
        facts.valid = k ? facts.valid + each[k].valid : each[k].valid;
        facts.top = each[k].top > facts.top ? each[k].top : facts.top;
        facts.farthest = each[k].farthest > facts.farthest ? each[k].farthest : facts.farthest;
    }
    return facts;
}

/* Makes dp, and the loss, which goes to *value. scratch: NULL for a core that is alone; else aligned to 4,
 * room for 8 facts and two times the terms of `some` pixels. */
FT_INLINE void ft_loss_f32(ft_loss_t loss, float *value, int8_t *scratch, int some, ft_cores_t cores) {
    const int pixels = loss.pm.h * loss.pm.w, positions = loss.kind == FT_CROSS_ENTROPY ? 1 : loss.pm.c;
    ft_loss_facts_t *each = (ft_loss_facts_t *)(void *)scratch;
    const ft_loss_facts_t facts = ft_loss_meet(ft_loss_facts(loss, ft_part(cores, pixels)), each, cores);
    const ft_loss_units_t units = ft_loss_units(loss, facts);
    float sum = 0.0f;
    if (cores.count == 1)
        sum = ft_loss_pixels(loss, units, (ft_range_t){0, pixels}, NULL, sum);
    for (int first = 0, odd = 0; cores.count > 1 && first < pixels; first += some, odd = !odd) {
        /* While the first core adds them up the others go on with terms in the other place. */
        float *terms = (float *)(void *)(each + 8) + odd * some * positions;
        const int count = pixels - first < some ? pixels - first : some;
        const ft_range_t mine = ft_part(cores, count);
        ft_loss_pixels(loss, units, (ft_range_t){first + mine.from, first + mine.to},
                       terms + mine.from * positions, sum);
        ft_meet(cores);
        for (int k = 0; cores.own == 0 && k < count * positions; k++)
            sum = ft_loss_add(loss, sum, terms[k]);
    }
    if (cores.own != 0)
        return;
    if (loss.kind == FT_BERHU || loss.kind == FT_BERHU_PUBLISHED)
        *value = facts.valid ? loss.weight * (sum / (float)facts.valid) : 0.0f;
    else
        *value = sum * units.share;
}

#endif
