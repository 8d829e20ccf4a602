/* The main task as the vendor's kit makes it. */
#include "pmsis.h"
#include "gap.h"
#include "port.h"

void ft_gap_task_init(void) {}

/* The kit tells neither where the task's stack lies nor how large it is: unknown. */
void ft_port_stack(const uint32_t **low, const uint32_t **high) {
    *low = NULL;
    *high = NULL;
}

/* pmsis can end a program, and has no call that starts it anew: that takes the board's button, or power. */
void ft_port_reset(void) {
    pmsis_exit(0);
    for (;;) {
    }
}
