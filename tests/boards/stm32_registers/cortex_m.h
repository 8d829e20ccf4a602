/* In the place of the port's cortex_m.h: registers are those of registers.c. */
#ifndef FT_CORTEX_M_H
#define FT_CORTEX_M_H

#include <stdint.h>

volatile uint32_t *simulated_register(uint32_t address);

#define FT_REGISTER(address) (*simulated_register(address))
#define FT_INTERRUPTS        const ft_handler_t

typedef void (*ft_handler_t)(void);

void ft_nvic_enable(unsigned interrupt);
void ft_uart_init(void);
void ft_uart_handler(void);
void ft_timer_init(void);
void ft_timer_handler(void);

#endif
