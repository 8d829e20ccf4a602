/* Between the parts of a port for an STM32: the device (clocks), the board (pins, UART), and what all share.
 *
 * The device's "device.h" names FT_GPIO_BASE and FT_GPIO_ENABLE, the clock enable register with one bit for
 * each port. The board's "board.h" includes this file, names FT_UART_TX and FT_UART_RX as FT_PIN,
 * FT_UART_ENABLE (the UART's clock enable register) with FT_UART_ENABLE_BIT, and what the driver of the UART
 * asks for.
 */
#ifndef FT_STM32_H
#define FT_STM32_H

#include "cortex_m.h"
#include "device.h"
#include "port_config.h"

/* A pin with its alternate function: FT_PIN('D', 8, 7) is PD8, function 7. */
#define FT_PIN(port, number, function)                                                                       \
    ((uint32_t)((port) - 'A') << 8 | (uint32_t)(number) << 4 | (uint32_t)(function))

/* Replaces the bits of `mask` at `address` by those of `value`. */
static inline void ft_set_bits(uint32_t address, uint32_t mask, uint32_t value) {
    FT_REGISTER(address) = (FT_REGISTER(address) & ~mask) | value;
}

/* Waits until the bits of `mask` at `address` are those of `value`. */
static inline void ft_wait_for(uint32_t address, uint32_t mask, uint32_t value) {
    while ((FT_REGISTER(address) & mask) != value) {
    }
}

/* The device's part: clocks, wait states, caches. The core then runs at FT_PORT_CLOCK_HZ. */
void ft_device_init(void);

#endif
