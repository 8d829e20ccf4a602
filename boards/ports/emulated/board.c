/* A board whose clocks and pins the emulator has set up. A port for a real part has an ft_hw_init of its own,
 * which sets them up first; the folders that only name addresses have never seen a real part. */
#include "board.h"
#include "cortex_m.h"
#include "hardware.h"

FT_INTERRUPTS interrupts[] = {
    [FT_UART_IRQ] = ft_uart_handler,
#ifdef FT_TIMER_IRQ
    [FT_TIMER_IRQ] = ft_timer_handler,
#endif
};

void ft_hw_init(void) {
    ft_timer_init();
    ft_uart_init();
}
