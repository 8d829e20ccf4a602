#include <string.h>
#include "sensors.h"
#include "recording.h"

#define ZONES (FT_ZONES * FT_ZONES)

static const uint8_t *frame(const ft_recording_t *recording, uint32_t number) {
    const uint32_t bytes = 3u * ZONES + 3u * recording->height * recording->width;
    return (const uint8_t *)(recording + 1) + number * bytes;
}

int ft_port_camera(ft_picture_t *picture) {
    ft_recording_t *recording = ft_recording();
    if (recording == NULL || recording->shown >= recording->frames) {
        return 0;
    }
    picture->pixels = frame(recording, recording->shown) + 3 * ZONES;
    picture->height = (uint16_t)recording->height;
    picture->width = (uint16_t)recording->width;
    recording->shown++;
    return 1;
}

int ft_port_tof(ft_tof_t *tof) {
    const ft_recording_t *recording = ft_recording();
    if (recording == NULL || recording->shown == 0) {
        return 0;
    }
    const uint8_t *zones = frame(recording, recording->shown - 1);
    memcpy(tof->distance_mm, zones, sizeof tof->distance_mm);
    memcpy(tof->target_status, zones + sizeof tof->distance_mm, sizeof tof->target_status);
    return 1;
}

void ft_port_tof_power(int on) {
    (void)on;
}
