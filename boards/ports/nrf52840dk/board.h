/* nRF52840-DK: the serial port of its interface MCU is P0.06 and P0.08, and it has the coil for the converter
 * (Zephyr boards/nordic/nrf52840dk; the interrupt's number is that of the peripheral's 4 KB page). */
#ifndef FT_BOARD_H
#define FT_BOARD_H

#define FT_UART_BASE   0x40002000u
#define FT_UART_IRQ    2
#define FT_UART_TX_PIN 6u
#define FT_UART_RX_PIN 8u
#define FT_TIMER_BASE  0x40008000u
#define FT_TIMER_IRQ   8
#define FT_DCDC        1u

#endif
