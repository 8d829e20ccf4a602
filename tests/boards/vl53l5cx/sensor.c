/* A sensor that does as ST's manual says, and a program that switches it on and off and reads it.
 *
 * Prints every order that the sensor takes, and each reading: 1, then distance and status of zones 0 to 2; or
 * 0. Argument: after so many readings it no longer answers.
 */
#include <stdio.h>
#include <stdlib.h>
#include "port.h"
#include "sensors.h"
#include "vl53l5cx_api.h"

static uint64_t now;
static int readings, lifetime, ranging;

uint64_t ft_port_ticks(void) {
    return now += 1000; /* each look at the clock takes a millisecond */
}

uint32_t ft_port_ticks_hz(void) {
    return 1000000;
}

static uint8_t order(const char *what, int value) {
    printf("%s %d\n", what, value);
    return 0;
}

uint8_t vl53l5cx_init(VL53L5CX_Configuration *dev) {
    return order("init", dev->platform.address);
}

uint8_t vl53l5cx_set_power_mode(VL53L5CX_Configuration *dev, uint8_t mode) {
    (void)dev;
    return ranging ? 255 : order("power", mode); /* only while it does not range */
}

uint8_t vl53l5cx_set_resolution(VL53L5CX_Configuration *dev, uint8_t resolution) {
    (void)dev;
    return order("resolution", resolution);
}

uint8_t vl53l5cx_set_ranging_frequency_hz(VL53L5CX_Configuration *dev, uint8_t hz) {
    (void)dev;
    return order("frequency", hz);
}

uint8_t vl53l5cx_start_ranging(VL53L5CX_Configuration *dev) {
    (void)dev;
    ranging = 1;
    return order("start", 0);
}

uint8_t vl53l5cx_stop_ranging(VL53L5CX_Configuration *dev) {
    (void)dev;
    ranging = 0;
    return order("stop", 0);
}

uint8_t vl53l5cx_check_data_ready(VL53L5CX_Configuration *dev, uint8_t *ready) {
    (void)dev;
    *ready = readings < lifetime && now % 66000 == 0;
    return 0;
}

uint8_t vl53l5cx_get_ranging_data(VL53L5CX_Configuration *dev, VL53L5CX_ResultsData *results) {
    (void)dev;
    for (unsigned zone = 0; zone < VL53L5CX_RESOLUTION_8X8; zone++) {
        results->nb_target_detected[zone] = zone == 1 ? 0 : 2;
        for (unsigned target = 0; target < 2; target++) {
            results->distance_mm[2 * zone + target] = (int16_t)(100 * zone + 10 * target + 7);
            results->target_status[2 * zone + target] = (uint8_t)(zone == 2 ? 9 : 5);
        }
    }
    readings++;
    return 0;
}

static void read_it(void) {
    ft_tof_t tof;
    if (!ft_port_tof(&tof)) {
        puts("0");
        return;
    }
    printf("1");
    for (unsigned zone = 0; zone < 3; zone++) {
        printf(" %d:%d", tof.distance_mm[zone], tof.target_status[zone]);
    }
    puts("");
}

int main(int count, char **words) {
    lifetime = count > 1 ? atoi(words[1]) : 0;
    read_it();
    for (int round = 0; round < 2; round++) {
        ft_port_tof_power(1);
        ft_port_tof_power(1);
        read_it();
        ft_port_tof_power(0);
        ft_port_tof_power(0);
    }
    return 0;
}
