/* STM32U575 and U585 (ST RM0456) as they come, with TrustZone off: the addresses are the non-secure ones. */
#ifndef FT_DEVICE_H
#define FT_DEVICE_H

#define FT_GPIO_BASE   0x42020000u
#define FT_GPIO_ENABLE 0x46020C8Cu /* RCC_AHB2ENR1 */

#define FT_APB_CLOCK_HZ FT_PORT_CLOCK_HZ /* all three peripheral buses */

#endif
