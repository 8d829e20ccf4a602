/* Ticks of a 32-bit timer of the nRF51 and nRF52 series (Nordic nRF51 Series Reference Manual 3.0, chapter
 * 18; nRF52840 Product Specification, TIMER), with its wraps counted: it runs at 16 MHz, whatever the core
 * does. */
#include "board.h"
#include "cortex_m.h"
#include "port.h"
#include "wraps.h"

#define TIMER_START     FT_REGISTER(FT_TIMER_BASE + 0x000u)
#define TIMER_CAPTURE_0 FT_REGISTER(FT_TIMER_BASE + 0x040u)
#define TIMER_EVENT_1   FT_REGISTER(FT_TIMER_BASE + 0x144u)
#define TIMER_IRQ_SET   FT_REGISTER(FT_TIMER_BASE + 0x304u)
#define TIMER_BIT_MODE  FT_REGISTER(FT_TIMER_BASE + 0x508u)
#define TIMER_PRESCALER FT_REGISTER(FT_TIMER_BASE + 0x510u)
#define TIMER_VALUE_0   FT_REGISTER(FT_TIMER_BASE + 0x540u)
#define TIMER_VALUE_1   FT_REGISTER(FT_TIMER_BASE + 0x544u)
#define BITS_32         3u
#define TIMER_HZ        16000000u
#define IRQ_EVENT_1     (1u << 17)

static volatile uint32_t timer_wraps;

void ft_timer_init(void) {
    TIMER_BIT_MODE = BITS_32;
    TIMER_PRESCALER = 0;
    TIMER_VALUE_1 = 0; /* event 1 is the wrap */
    TIMER_IRQ_SET = IRQ_EVENT_1;
    TIMER_START = 1;
    ft_nvic_enable(FT_TIMER_IRQ);
}

void ft_timer_handler(void) {
    TIMER_EVENT_1 = 0;
    timer_wraps = timer_wraps + 1;
}

static uint32_t value(void) {
    TIMER_CAPTURE_0 = 1;
    return TIMER_VALUE_0;
}

static bool pending(void) {
    return TIMER_EVENT_1 != 0;
}

uint64_t ft_port_ticks(void) {
    return ft_wrapped_ticks(&timer_wraps, 32, value, pending);
}

uint32_t ft_port_ticks_hz(void) {
    return TIMER_HZ;
}
