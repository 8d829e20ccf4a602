/* How far what the camera sees is from what was learned from: when to switch the depth sensor on.
 *
 * A picture is described by the means of a grid of cells, each channel alone. Of the pictures that were taken
 * to learn from, mean and variance of each of these numbers are carried on (Welford). The drift of a picture
 * is the mean of (number - mean)^2 / (variance + 1): about 1 where it is of the same kind. It is smoothed
 * over some eight pictures. ondevice/drift.py computes the same bits. */
#ifndef FT_DRIFT_H
#define FT_DRIFT_H

#include <stdint.h>

#define FT_DRIFT_GRID     4 /* cells in each direction */
#define FT_DRIFT_FEATURES (FT_DRIFT_GRID * FT_DRIFT_GRID * 3)

typedef struct {
    float mean[FT_DRIFT_FEATURES];
    float squares[FT_DRIFT_FEATURES]; /* sum of squared deviations */
    uint32_t count;                   /* pictures in both */
    float drift;                      /* smoothed */
} ft_drift_t;

/* Describes a picture (height, width, 3) of at least 4 x 4 pixels and updates the smoothed drift; without
 * anything that was learned from, the drift is 0. */
void ft_drift_see(ft_drift_t *drift, const uint8_t *picture, uint32_t height, uint32_t width,
                  float features[FT_DRIFT_FEATURES]);

/* Adds a picture to those that are learned from. */
void ft_drift_learn(ft_drift_t *drift, const float features[FT_DRIFT_FEATURES]);

#endif
