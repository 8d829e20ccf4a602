/* Frames that were recorded before, in the place of a camera and a depth sensor: for emulated boards.
 *
 * boards/recording.py writes it, little endian: the header, then each frame as distance_mm i16[64],
 * target_status u8[64] and height * width * 3 bytes of pixels. */
#ifndef FT_RECORDING_H
#define FT_RECORDING_H

#include <stdint.h>

#define FT_RECORDING_MAGIC 0x43525446u /* "FTRC" */

typedef struct {
    uint32_t magic, frames, height, width;
    uint32_t shown; /* frames so far, counted here: a start from reset finds 0 again */
} ft_recording_t;

/* Where the recording lies in memory, NULL: there is none. */
ft_recording_t *ft_recording(void);

#endif
