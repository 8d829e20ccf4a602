/* The main task is all that the fabric controller runs. Nothing starts it anew: the host starts the simulator
 * again. */
#include "gap9.h"
#include "pmsis.h"
#include "port.h"

void ft_gap9_task_init(void) {}

void ft_port_reset(void) {
    pmsis_exit(0);
    for (;;) {
    }
}
