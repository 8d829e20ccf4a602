/* What our port uses of ST's driver, as its header declares it (VL53L5CX ULD 2.0). */
#include <stdint.h>

#define VL53L5CX_DEFAULT_I2C_ADDRESS ((uint16_t)0x52)
#define VL53L5CX_RESOLUTION_8X8      ((uint8_t)64U)
#define VL53L5CX_NB_TARGET_PER_ZONE  2U /* ST's default is 1; 2 shows whether the first is taken */
#define VL53L5CX_POWER_MODE_SLEEP    ((uint8_t)0U)
#define VL53L5CX_POWER_MODE_WAKEUP   ((uint8_t)1U)
#define VL53L5CX_STATUS_OK           ((uint8_t)0U)

typedef struct {
    uint16_t address;
} VL53L5CX_Platform;

typedef struct {
    VL53L5CX_Platform platform;
} VL53L5CX_Configuration;

typedef struct {
    uint8_t nb_target_detected[VL53L5CX_RESOLUTION_8X8];
    int16_t distance_mm[VL53L5CX_RESOLUTION_8X8 * VL53L5CX_NB_TARGET_PER_ZONE];
    uint8_t target_status[VL53L5CX_RESOLUTION_8X8 * VL53L5CX_NB_TARGET_PER_ZONE];
} VL53L5CX_ResultsData;

uint8_t vl53l5cx_init(VL53L5CX_Configuration *p_dev);
uint8_t vl53l5cx_set_power_mode(VL53L5CX_Configuration *p_dev, uint8_t power_mode);
uint8_t vl53l5cx_set_resolution(VL53L5CX_Configuration *p_dev, uint8_t resolution);
uint8_t vl53l5cx_set_ranging_frequency_hz(VL53L5CX_Configuration *p_dev, uint8_t frequency_hz);
uint8_t vl53l5cx_start_ranging(VL53L5CX_Configuration *p_dev);
uint8_t vl53l5cx_stop_ranging(VL53L5CX_Configuration *p_dev);
uint8_t vl53l5cx_check_data_ready(VL53L5CX_Configuration *p_dev, uint8_t *p_isReady);
uint8_t vl53l5cx_get_ranging_data(VL53L5CX_Configuration *p_dev, VL53L5CX_ResultsData *p_results);
