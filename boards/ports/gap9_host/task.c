/* The main task is the process's main thread, with its stack painted; a restart is the program executed
 * again, which hands the terminal on (uart.c). */
#define _GNU_SOURCE
#include <unistd.h>
#include "gap.h"
#include "pmsis.h"
#include "port.h"
#include "shim.h"

static const uint32_t *stack_low, *stack_high;

/* Leaves paint on the stack below the caller's frame. */
void __attribute__((noinline, no_sanitize_address)) ft_gap_task_init(void) {
    volatile uint32_t area[FT_PORT_STACK_BYTES / sizeof(uint32_t)];
    for (size_t i = 0; i < FT_PORT_STACK_BYTES / sizeof(uint32_t); i++) {
        area[i] = FT_STACK_PAINT;
    }
    uintptr_t low = (uintptr_t)area;
    /* The address outlives the array on purpose: keep the compiler from warning. */
    __asm volatile("" : "+r"(low));
    stack_low = (const uint32_t *)low;
    stack_high = stack_low + FT_PORT_STACK_BYTES / sizeof(uint32_t);
}

void ft_port_stack(const uint32_t **low, const uint32_t **high) {
    *low = stack_low;
    *high = stack_high;
}

void ft_port_reset(void) {
    execl("/proc/self/exe", "firmware", (char *)NULL);
    shim_die("restart");
}
