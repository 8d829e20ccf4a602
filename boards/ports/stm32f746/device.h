/* STM32F746 (ST RM0385): where the GPIO ports are, and the peripherals' clocks. */
#ifndef FT_DEVICE_H
#define FT_DEVICE_H

#define FT_GPIO_BASE   0x40020000u
#define FT_GPIO_ENABLE 0x40023830u /* RCC_AHB1ENR */

#define FT_APB1_CLOCK_HZ (FT_PORT_CLOCK_HZ / 4u)
#define FT_APB2_CLOCK_HZ (FT_PORT_CLOCK_HZ / 2u)

#endif
