/* STM32F405 as the emulated netduinoplus2 has it (ST RM0090, chapter 2.3 and table 62). */
#ifndef FT_BOARD_H
#define FT_BOARD_H

#include "port_config.h"

#define FT_UART_BASE     0x40011000u
#define FT_UART_IRQ      37                      /* USART1 */
#define FT_UART_CLOCK_HZ (FT_PORT_CLOCK_HZ / 2u) /* APB2 runs at half the core's clock at most */

#endif
