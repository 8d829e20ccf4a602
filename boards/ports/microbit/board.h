/* BBC micro:bit 1 with an nRF51822 (Nordic nRF51 Series Reference Manual 3.0, chapters 18 and 29; QEMU
 * hw/arm/nrf51_soc.c: the interrupt's number is that of the peripheral's 4 KB page). */
#ifndef FT_BOARD_H
#define FT_BOARD_H

#define FT_UART_BASE   0x40002000u
#define FT_UART_IRQ    2
#define FT_UART_TX_PIN 24u
#define FT_UART_RX_PIN 25u
#define FT_TIMER_BASE  0x40008000u
#define FT_TIMER_IRQ   8

#endif
