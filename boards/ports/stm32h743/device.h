/* STM32H743 (ST RM0433): 400 MHz, the most at voltage scale 1, which needs no more than the regulator inside;
 * the buses at 200 MHz, the peripherals at 100 MHz. */
#ifndef FT_DEVICE_H
#define FT_DEVICE_H

#define FT_GPIO_BASE   0x58020000u
#define FT_GPIO_ENABLE 0x580244E0u /* RCC_AHB4ENR */

#define FT_SUPPLY          6u          /* PWR_CR3: LDOEN and SCUEN, as after power-on */
#define FT_RAM_ENABLE      0x580244DCu /* RCC_AHB2ENR */
#define FT_RAM_ENABLE_BITS (7u << 29)  /* SRAM1, SRAM2, SRAM3 */
#define FT_AXI_SRAM_ERRATUM
#define FT_VOLTAGE_SCALE   3u /* scale 1 */
#define FT_FLASH_WAITS     4u
#define FT_FLASH_HIGH_FREQ 2u
#define FT_PLL_M           4u /* 64 MHz / 4 * 50 / 2 = 400 MHz */
#define FT_PLL_N           50u
#define FT_PLL_P           2u
#define FT_BUS_PRESCALER   8u /* D1CFGR, HPRE: the core's clock divided by two */

#define FT_FLASH_SECTOR    0x20000u
#define FT_FLASH_UNIT      32u
#define FT_CR_ALWAYS       (3u << 4) /* PSIZE, as after reset: 64 bits in parallel */
#define FT_CR_START        (1u << 7)
#define FT_CR_SECTOR_SHIFT 8u

#define FT_APB_CLOCK_HZ (FT_PORT_CLOCK_HZ / 4u) /* all four peripheral buses */

#endif
