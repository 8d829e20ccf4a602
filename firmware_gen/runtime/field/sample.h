/* From what the sensors deliver to what a model takes: input, label and mask.
 *
 * The same bits as zoo/prepare.py and zoo/tof.py give on the host, in the same order of operations. Labels
 * are computed in double: on a core without one this is the compiler's library, some 20,000 operations for a
 * map of 48 x 48.
 */
#ifndef FT_SAMPLE_H
#define FT_SAMPLE_H

#include <stdint.h>
#include "../link/sensors.h"

/* From which two zones a row or a column of a label is mixed; both weights are 0 outside of the sensor's
 * field. */
typedef struct {
    double weights[2];
    uint8_t zones[2];
} ft_between_t;

/* Which zones to believe: status among those of the bits set, and 0 < distance < end_mm. */
typedef struct {
    uint32_t status[256 / 32];
    int32_t end_mm;
} ft_valid_t;

/* An output of kind depth or disparity that learns from zones. */
typedef struct {
    float *label;  /* height * width, in the network's unit */
    uint8_t *mask; /* height * width: 1 counts, 0 does not */
    const ft_between_t *rows, *columns;
    uint16_t height, width;
    double fb; /* disparity = fb / depth; 0: the label is the depth in metres */
} ft_tof_label_t;

/* Writes label and mask and returns how many pixels count. */
uint32_t ft_label(const ft_tof_t *tof, const ft_valid_t *valid, const ft_tof_label_t *out);

/* Writes the mean of the picture over each pixel of a map (height, width, 3), rounded to nearest, ties to
 * even. */
void ft_network_input(const ft_picture_t *picture, uint8_t *out, uint16_t height, uint16_t width);

#endif
