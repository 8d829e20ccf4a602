/* NUCLEO-U575ZI-Q (ST UM2861): the ST-LINK's serial port is USART1 on PA9 and PA10 (Zephyr
 * boards/st/nucleo_u575zi_q, dts/arm/st/u5/stm32u5.dtsi: interrupt 61). */
#ifndef FT_BOARD_H
#define FT_BOARD_H

#include "stm32.h"

#define FT_UART_BASE       0x40013800u
#define FT_UART_IRQ        61
#define FT_UART_CLOCK_HZ   FT_APB_CLOCK_HZ
#define FT_UART_ENABLE     0x46020CA4u /* RCC_APB2ENR */
#define FT_UART_ENABLE_BIT 14
#define FT_UART_TX         FT_PIN('A', 9, 7)
#define FT_UART_RX         FT_PIN('A', 10, 7)

#endif
