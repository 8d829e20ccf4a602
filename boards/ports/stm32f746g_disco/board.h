/* STM32F746G-DISCO (ST UM1907): the ST-LINK's serial port is USART1 on PA9 and PB7 (Zephyr
 * boards/st/stm32f746g_disco; RM0385, table "Vector table": interrupt 37). */
#ifndef FT_BOARD_H
#define FT_BOARD_H

#include "stm32.h"

#define FT_UART_BASE       0x40011000u
#define FT_UART_IRQ        37
#define FT_UART_CLOCK_HZ   FT_APB2_CLOCK_HZ
#define FT_UART_ENABLE     0x40023844u /* RCC_APB2ENR */
#define FT_UART_ENABLE_BIT 4
#define FT_UART_TX         FT_PIN('A', 9, 7)
#define FT_UART_RX         FT_PIN('B', 7, 7)

#endif
