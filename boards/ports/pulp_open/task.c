/* The main task is all that the fabric controller runs. Nothing starts it anew: the host starts the simulator
 * again. */
#include "gap.h"
#include "pmsis.h"
#include "port.h"

void ft_gap_task_init(void) {}

/* Clocks, voltages and pads are as the simulator has them. */
void ft_gap_chip_init(void) {}

void ft_port_reset(void) {
    pmsis_exit(0);
    for (;;) {
    }
}
