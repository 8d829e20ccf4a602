/* Ticks of the core's own 24-bit down-counter (Armv7-M Architecture Reference Manual, B3.3), with its wraps
 * counted. For boards that have no better timer: it wraps often. */
#include "cortex_m.h"
#include "port.h"
#include "port_config.h"
#include "wraps.h"

#define SYSTICK_BITS   24
#define SYSTICK_MAX    0xFFFFFFu
#define SYSTICK_ON     0x7u /* core clock, interrupt, enable */
#define ICSR_PENDSTSET (1u << 26)

static volatile uint32_t systick_wraps;

void ft_timer_init(void) {
    SYSTICK_LOAD = SYSTICK_MAX;
    SYSTICK_VALUE = 0;
    SYSTICK_CTRL = SYSTICK_ON;
}

void ft_systick_handler(void) {
    systick_wraps = systick_wraps + 1;
}

static uint32_t value(void) {
    return SYSTICK_MAX - SYSTICK_VALUE;
}

static bool pending(void) {
    return (SCB_ICSR & ICSR_PENDSTSET) != 0;
}

uint64_t ft_port_ticks(void) {
    return ft_wrapped_ticks(&systick_wraps, SYSTICK_BITS, value, pending);
}

uint32_t ft_port_ticks_hz(void) {
    return FT_PORT_CLOCK_HZ;
}
