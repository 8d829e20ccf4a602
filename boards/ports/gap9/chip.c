/* GAP9's voltage, clocks and pads. */
#include "pmsis.h"
#include "gap.h"
#include "port_config.h"

#define MILLIVOLT 800 /* published for 370 MHz */

void ft_gap_chip_init(void) {
    pi_pmu_voltage_set(PI_PMU_VOLTAGE_DOMAIN_CHIP, MILLIVOLT); /* twice, as in the vendor's own programs */
    pi_pmu_voltage_set(PI_PMU_VOLTAGE_DOMAIN_CHIP, MILLIVOLT);
    pi_freq_set(PI_FREQ_DOMAIN_FC, FT_PORT_CLOCK_HZ);
    pi_freq_set(PI_FREQ_DOMAIN_CL, FT_PORT_CLOCK_HZ);
    /* As in GreenWaves' MLPerf Tiny v1.0 submission. */
    pi_pad_set_function(PI_PAD_060, PI_PAD_FUNC0);
    pi_pad_set_function(PI_PAD_061, PI_PAD_FUNC0);
}
