/* The depth sensor of sensors.h: ST's VL53L5CX, at 8 x 8, through ST's driver "VL53L5CX ULD", version 2.
 *
 * The driver and its platform.c, which speaks to the I2C bus, are not part of this project: put them into a
 * folder of your own beside the board's description, and both folders into its `port`. The board counts
 * the driver's memory in `port_ram_bytes`. The first switching on loads the sensor's firmware (86 KB)
 * over the bus, so that it takes a second or more.
 */
#include "vl53l5cx_api.h"
#include "port.h"
#include "sensors.h"

#define ZONES      (FT_ZONES * FT_ZONES)
#define RANGING_HZ 15 /* the most at 8 x 8 */
#define NO_TARGET  255

static VL53L5CX_Configuration sensor;
static VL53L5CX_ResultsData results;
static int is_set_up, is_ranging;

static int set_up(void) {
    sensor.platform.address = VL53L5CX_DEFAULT_I2C_ADDRESS;
    return vl53l5cx_init(&sensor) == VL53L5CX_STATUS_OK &&
           vl53l5cx_set_resolution(&sensor, VL53L5CX_RESOLUTION_8X8) == VL53L5CX_STATUS_OK &&
           vl53l5cx_set_ranging_frequency_hz(&sensor, RANGING_HZ) == VL53L5CX_STATUS_OK;
}

static int wake(void) {
    if (!is_set_up) {
        is_set_up = set_up();
    } else if (vl53l5cx_set_power_mode(&sensor, VL53L5CX_POWER_MODE_WAKEUP) != VL53L5CX_STATUS_OK) {
        return 0;
    }
    return is_set_up && vl53l5cx_start_ranging(&sensor) == VL53L5CX_STATUS_OK;
}

void ft_port_tof_power(int on) {
    if (on && !is_ranging) {
        is_ranging = wake();
    } else if (!on && is_ranging) {
        vl53l5cx_stop_ranging(&sensor);
        vl53l5cx_set_power_mode(&sensor, VL53L5CX_POWER_MODE_SLEEP);
        is_ranging = 0;
    }
}

/* Waits for the next reading: the one that is there may be older than the picture. Two periods without one
 * mean that the sensor is gone. */
static int is_ready(void) {
    uint8_t ready = 0;
    const uint64_t begun = ft_port_ticks();
    const uint64_t patience = (uint64_t)ft_port_ticks_hz() * 2 / RANGING_HZ;
    while (!ready && ft_port_ticks() - begun <= patience) {
        if (vl53l5cx_check_data_ready(&sensor, &ready) != VL53L5CX_STATUS_OK) {
            return 0;
        }
    }
    return ready;
}

int ft_port_tof(ft_tof_t *tof) {
    if (!is_ranging || !is_ready() || vl53l5cx_get_ranging_data(&sensor, &results) != VL53L5CX_STATUS_OK) {
        return 0;
    }
    for (unsigned zone = 0; zone < ZONES; zone++) {
        const unsigned first = zone * VL53L5CX_NB_TARGET_PER_ZONE;
        tof->distance_mm[zone] = results.distance_mm[first];
        tof->target_status[zone] =
            results.nb_target_detected[zone] > 0 ? results.target_status[first] : NO_TARGET;
    }
    return 1;
}
