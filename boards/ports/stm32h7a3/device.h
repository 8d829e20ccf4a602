/* STM32H7A3 whose core is supplied by the converter inside, as on the boards whose names end in -Q (ST
 * RM0455): 280 MHz, the most it may run at, the buses as well, the peripherals at 140 MHz. */
#ifndef FT_DEVICE_H
#define FT_DEVICE_H

#define FT_GPIO_BASE   0x58020000u
#define FT_GPIO_ENABLE 0x580244E0u /* RCC_AHB4ENR */

#define FT_SUPPLY          4u          /* PWR_CR3: SMPSEN without LDOEN */
#define FT_RAM_ENABLE      0x580244DCu /* RCC_AHB2ENR */
#define FT_RAM_ENABLE_BITS (3u << 29)  /* AHB SRAM1 and SRAM2 */
#define FT_VOLTAGE_SCALE   3u          /* scale 0: the numbers are others than an H743's */
#define FT_FLASH_WAITS     7u
#define FT_FLASH_HIGH_FREQ 3u
#define FT_PLL_M           4u /* 64 MHz / 4 * 35 / 2 = 280 MHz */
#define FT_PLL_N           35u
#define FT_PLL_P           2u
#define FT_BUS_PRESCALER   0u

#define FT_FLASH_SECTOR    0x2000u
#define FT_FLASH_UNIT      16u
#define FT_CR_ALWAYS       0u
#define FT_CR_START        (1u << 5)
#define FT_CR_SECTOR_SHIFT 6u

#define FT_APB_CLOCK_HZ (FT_PORT_CLOCK_HZ / 2u) /* all four peripheral buses */

#endif
