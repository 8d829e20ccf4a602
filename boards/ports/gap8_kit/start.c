/* The kit of GAP8 runs main before its system: the main task begins with a call. */
#include "pmsis.h"
#include "port.h"

int ft_port_start(void (*run)(void)) {
    return pmsis_kickoff((void *)run);
}
