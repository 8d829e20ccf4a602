/* STM32L4R5 and its sisters (ST RM0432): where the GPIO ports are, and the peripherals' clocks. */
#ifndef FT_DEVICE_H
#define FT_DEVICE_H

#define FT_GPIO_BASE   0x48000000u
#define FT_GPIO_ENABLE 0x4002104Cu /* RCC_AHB2ENR */

#define FT_APB_CLOCK_HZ FT_PORT_CLOCK_HZ /* both peripheral buses */

#endif
