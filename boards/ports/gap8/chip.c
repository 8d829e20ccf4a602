/* GAP8's voltage, clocks and pads. The cluster's clock is set by who opens it (cluster/team.c), because that
 * powers it up.
 */
#include "pmsis.h"
#include "gap.h"
#include "port_config.h"

#define MILLIVOLT 1200 /* for the highest clocks */

void ft_gap_chip_init(void) {
    pi_pmu_voltage_set(PI_PMU_DOMAIN_FC, MILLIVOLT);
    pi_freq_set(PI_FREQ_DOMAIN_FC, FT_PORT_CLOCK_HZ);
    /* Function 0 is the UART's. The kit's initialization of the AI-deck is not called: by Bitcraze's reports
     * it switches the UART off, to leave the Crazyflie's to other decks. */
    pi_pad_set_function(PI_PAD_38_B6_UART_RX, PI_PAD_FUNC0);
    pi_pad_set_function(PI_PAD_39_A7_UART_TX, PI_PAD_FUNC0);
}
