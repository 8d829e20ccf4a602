#include "drift.h"

#define SMOOTHING 0.125f

static float mean_of_cell(const uint8_t *picture, uint32_t height, uint32_t width, uint32_t y, uint32_t x,
                          uint32_t channel) {
    const uint32_t y0 = y * height / FT_DRIFT_GRID;
    const uint32_t y1 = (y + 1) * height / FT_DRIFT_GRID;
    const uint32_t x0 = x * width / FT_DRIFT_GRID;
    const uint32_t x1 = (x + 1) * width / FT_DRIFT_GRID;
    uint32_t sum = 0;
    for (uint32_t row = y0; row < y1; row++) {
        for (uint32_t column = x0; column < x1; column++) {
            sum += picture[3 * (row * width + column) + channel];
        }
    }
    return (float)sum / (float)((y1 - y0) * (x1 - x0));
}

static float distance(const ft_drift_t *drift, const float *features) {
    const float count = (float)drift->count;
    float sum = 0.0f;
    for (int k = 0; k < FT_DRIFT_FEATURES; k++) {
        const float difference = features[k] - drift->mean[k];
        sum = sum + difference * difference / (drift->squares[k] / count + 1.0f);
    }
    return sum / (float)FT_DRIFT_FEATURES;
}

void ft_drift_see(ft_drift_t *drift, const uint8_t *picture, uint32_t height, uint32_t width,
                  float features[FT_DRIFT_FEATURES]) {
    for (uint32_t k = 0; k < FT_DRIFT_FEATURES; k++) {
        const uint32_t cell = k / 3;
        features[k] = mean_of_cell(picture, height, width, cell / FT_DRIFT_GRID, cell % FT_DRIFT_GRID, k % 3);
    }
    if (drift->count > 0) {
        drift->drift = drift->drift + SMOOTHING * (distance(drift, features) - drift->drift);
    }
}

void ft_drift_learn(ft_drift_t *drift, const float features[FT_DRIFT_FEATURES]) {
    drift->count++;
    for (int k = 0; k < FT_DRIFT_FEATURES; k++) {
        const float before = features[k] - drift->mean[k];
        drift->mean[k] = drift->mean[k] + before / (float)drift->count;
        drift->squares[k] = drift->squares[k] + before * (features[k] - drift->mean[k]);
    }
}
