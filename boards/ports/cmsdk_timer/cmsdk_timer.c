/* Ticks of the 32-bit down-counter of Arm's Cortex-M System Design Kit (Arm DDI 0479, chapter 4.1), with its
 * wraps counted. */
#include "board.h"
#include "cortex_m.h"
#include "port.h"
#include "port_config.h"
#include "wraps.h"

#define TIMER_CTRL      FT_REGISTER(FT_TIMER_BASE + 0x0u)
#define TIMER_VALUE     FT_REGISTER(FT_TIMER_BASE + 0x4u)
#define TIMER_RELOAD    FT_REGISTER(FT_TIMER_BASE + 0x8u)
#define TIMER_INTERRUPT FT_REGISTER(FT_TIMER_BASE + 0xCu)
#define TIMER_ENABLE    (1u << 0)
#define TIMER_IRQ       (1u << 3)

static volatile uint32_t timer_wraps;

void ft_timer_init(void) {
    TIMER_RELOAD = UINT32_MAX;
    TIMER_VALUE = UINT32_MAX;
    TIMER_CTRL = TIMER_ENABLE | TIMER_IRQ;
    ft_nvic_enable(FT_TIMER_IRQ);
}

void ft_timer_handler(void) {
    TIMER_INTERRUPT = 1;
    timer_wraps = timer_wraps + 1;
}

static uint32_t value(void) {
    return UINT32_MAX - TIMER_VALUE;
}

static bool pending(void) {
    return TIMER_INTERRUPT != 0;
}

uint64_t ft_port_ticks(void) {
    return ft_wrapped_ticks(&timer_wraps, 32, value, pending);
}

uint32_t ft_port_ticks_hz(void) {
    return FT_PORT_CLOCK_HZ;
}
