/* NUCLEO-L4R5ZI (ST UM2179): the ST-LINK's serial port is LPUART1 on PG7 and PG8 (Zephyr
 * boards/st/nucleo_l4r5zi, dts/arm/st/l4/stm32l4.dtsi: interrupt 70). */
#ifndef FT_BOARD_H
#define FT_BOARD_H

#include "stm32.h"

#define FT_UART_BASE       0x40008000u
#define FT_UART_IRQ        70
#define FT_UART_CLOCK_HZ   FT_APB_CLOCK_HZ
#define FT_UART_PARTS      256u
#define FT_UART_ENABLE     0x4002105Cu /* RCC_APB1ENR2 */
#define FT_UART_ENABLE_BIT 0
#define FT_UART_TX         FT_PIN('G', 7, 8)
#define FT_UART_RX         FT_PIN('G', 8, 8)

#endif
