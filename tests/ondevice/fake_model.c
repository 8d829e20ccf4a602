/* A model small enough to read that is still sensitive to everything a link can get wrong: a step taken twice
 * or not at all, a sample of another step, a weight that is not what was written. Every tensor lies between
 * canaries.
 */
#include "model_api.h"

#include <string.h>

#define PIXELS  (48 * 48)
#define WEIGHTS 64
#define ARENA   2000
#define CANARY  0xA5

#define TENSORS(X)                                                                                           \
    X(image, uint8_t, PIXELS * 3, FT_INPUT, FT_U8, 48, 48, 3)                                                \
    X(offset, int32_t, 4, FT_INPUT, FT_I32, 1, 1, 4)                                                         \
    X(tilt, int8_t, 1, FT_INPUT, FT_I8, 1, 1, 1)                                                             \
    X(depth, float, PIXELS, FT_LABEL, FT_F32, 48, 48, 1)                                                     \
    X(known, uint8_t, PIXELS, FT_MASK, FT_U8, 48, 48, 1)                                                     \
    X(prediction, float, PIXELS, FT_OUTPUT, FT_F32, 48, 48, 1)                                               \
    X(active, uint8_t, PIXELS / 8, FT_OUTPUT, FT_BITS, 48, 48, 1)                                            \
    X(weight, float, WEIGHTS, FT_WEIGHT, FT_F32, 1, 1, WEIGHTS)                                              \
    X(momentum, float, WEIGHTS, FT_STATE, FT_F32, 1, 1, WEIGHTS)                                             \
    X(gradient, float, WEIGHTS, FT_GRADIENT, FT_F32, 1, 1, WEIGHTS)                                          \
    X(arena, uint8_t, ARENA, FT_ARENA, FT_U8, 0, 0, 0)

#define DECLARE(name, type, count, role, dtype, h, w, c)                                                     \
    static struct {                                                                                          \
        uint8_t before[16];                                                                                  \
        type data[count];                                                                                    \
        uint8_t after[16];                                                                                   \
    } name;
TENSORS(DECLARE)

#define DESCRIBE(name, type, count, role, dtype, h, w, c)                                                    \
    {#name, (uint8_t *)name.data, sizeof name.data, {h, w, c}, role, dtype},
static const ft_tensor_t tensors[] = {TENSORS(DESCRIBE)};

#define GUARD(name, type, count, role, dtype, h, w, c)                                                       \
    memset(name.before, CANARY, sizeof name.before);                                                         \
    memset(name.after, CANARY, sizeof name.after);

#define CHECK(name, type, count, role, dtype, h, w, c)                                                       \
    for (int i = 0; i < 16; i++) {                                                                           \
        if (name.before[i] != CANARY || name.after[i] != CANARY) {                                           \
            return 0;                                                                                        \
        }                                                                                                    \
    }

static int intact(void) {
    TENSORS(CHECK)
    return 1;
}

static void reset(void) {
    TENSORS(GUARD)
    for (int k = 0; k < WEIGHTS; k++) {
        weight.data[k] = 0.01f * (float)(k - WEIGHTS / 2);
        momentum.data[k] = 0.0f;
        gradient.data[k] = 0.0f;
    }
}

static void predict(void) {
    memset(active.data, 0, sizeof active.data);
    for (int i = 0; i < PIXELS; i++) {
        const uint8_t *rgb = image.data + 3 * i;
        const float level = (float)rgb[0] + 0.5f * (float)rgb[1] + 0.25f * (float)rgb[2];
        prediction.data[i] =
            0.01f * level * weight.data[i % WEIGHTS] + (float)offset.data[i % 4] + (float)tilt.data[0];
        if (prediction.data[i] > 0.0f) {
            active.data[i / 8] |= (uint8_t)(1u << i % 8);
        }
    }
}

/* Two steps: the first leaves some of the image in the arena. */
static void infer(uint32_t first, uint32_t end) {
    if (first <= 0 && 0 < end) {
        memcpy(arena.data, image.data, sizeof arena.data);
    }
    if (first <= 1 && 1 < end) {
        predict();
    }
}

/* One part of `accumulate` says how long the step takes, so that tests can have slow ones. */
static void dawdle(uint32_t rounds) {
    for (volatile uint32_t i = 0; i < rounds; i++) {
    }
}

static void differentiate(float *losses) {
    losses[0] = losses[1] = 0.0f;
    memset(gradient.data, 0, sizeof gradient.data);
    for (int i = 0; i < PIXELS; i++) {
        if (known.data[i]) {
            const float error = prediction.data[i] - depth.data[i];
            losses[0] += error * error;
            losses[1] += error;
            gradient.data[i % WEIGHTS] += error / (float)PIXELS;
        }
    }
}

static void update(const ft_hyper_t *hyper) {
    for (int k = 0; k < WEIGHTS; k++) {
        momentum.data[k] = hyper->momentum * momentum.data[k] + gradient.data[k];
        weight.data[k] -= hyper->lr * momentum.data[k];
    }
}

static void step(uint32_t first, uint32_t end, const ft_hyper_t *hyper, float *losses) {
    if (first <= 0 && 0 < end) {
        dawdle(hyper->accumulate);
        predict();
    }
    if (first <= 1 && 1 < end) {
        differentiate(losses);
    }
    if (first <= 2 && 2 < end) {
        update(hyper);
    }
}

const ft_model_t ft_model = {
    .name = "fake",
    .model_hash = 0x12345678,
    .plan_hash = 0x9ABCDEF0,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof tensors[0],
    .loss_count = 2,
    .step_parts = 3,
    .reset = reset,
    .infer = infer,
    .step = step,
    .intact = intact,
};
