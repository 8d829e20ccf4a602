/* Ticks of the 64-bit system counter of Arm's SSE-300 (Arm 101370), which runs at the core's clock and
 * interrupts nobody. */
#include "board.h"
#include "cortex_m.h"
#include "port.h"
#include "port_config.h"

#define COUNTER_CONTROL FT_REGISTER(FT_TIMER_BASE + 0x0u)
#define COUNTER_LOW     FT_REGISTER(FT_TIMER_BASE + 0x8u)
#define COUNTER_HIGH    FT_REGISTER(FT_TIMER_BASE + 0xCu)
#define CONTROL_ENABLE  (1u << 0)

void ft_timer_init(void) {
    COUNTER_CONTROL = CONTROL_ENABLE;
}

uint64_t ft_port_ticks(void) {
    uint32_t high, low;
    do {
        high = COUNTER_HIGH;
        low = COUNTER_LOW;
    } while (high != COUNTER_HIGH);
    return (uint64_t)high << 32 | low;
}

uint32_t ft_port_ticks_hz(void) {
    return FT_PORT_CLOCK_HZ;
}
