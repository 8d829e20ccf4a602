/* NUCLEO-H743ZI2 (ST UM2407): the ST-LINK's serial port is USART3 on PD8 and PD9 (Zephyr
 * boards/st/nucleo_h743zi, dts/arm/st/h7/stm32h7.dtsi; RM0433, table "NVIC": interrupt 39). */
#ifndef FT_BOARD_H
#define FT_BOARD_H

#include "stm32.h"

#define FT_UART_BASE       0x40004800u
#define FT_UART_IRQ        39
#define FT_UART_CLOCK_HZ   FT_APB_CLOCK_HZ
#define FT_UART_ENABLE     0x580244E8u /* RCC_APB1LENR */
#define FT_UART_ENABLE_BIT 18
#define FT_UART_TX         FT_PIN('D', 8, 7)
#define FT_UART_RX         FT_PIN('D', 9, 7)

#endif
