/* What a port with a camera and a time-of-flight sensor brings besides port.h: three functions.
 *
 * Boards whose description has a table [sensors] have them. All are called from the main program only, the
 * picture first and the reading right after it. A sensor that has something new should wake ft_port_idle.
 */
#ifndef FT_SENSORS_H
#define FT_SENSORS_H

#include <stdint.h>

#define FT_ZONES 8 /* in each direction */

/* A picture in the port's own memory: rows of pixels, each red, green and blue. */
typedef struct {
    const uint8_t *pixels;
    uint16_t height, width; /* height * width below 2^24 */
} ft_picture_t;

/* A reading of the VL53L5CX or VL53L8CX at 8 x 8, in the sensor's own zone order and with the names of ST's
 * driver: the first target of each zone. Where nb_target_detected is 0, target_status must be 255. */
typedef struct {
    int16_t distance_mm[FT_ZONES * FT_ZONES];
    uint8_t target_status[FT_ZONES * FT_ZONES];
} ft_tof_t;

/* Shows a new picture, which stays as it is until the next call; returns 0 when there is none (yet). */
int ft_port_camera(ft_picture_t *picture);

/* Gives the reading that belongs to the picture; returns 0 when there is none. */
int ft_port_tof(ft_tof_t *tof);

/* Switches the depth sensor on before readings are asked for, and off when none will be for a while. */
void ft_port_tof_power(int on);

#endif
