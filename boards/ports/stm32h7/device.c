/* Supply and clocks of the STM32H742, H743, H750, H753 (ST RM0433) and of the H7A3, H7B0, H7B3 (RM0455),
 * which have the same registers and other values: "device.h" has them. The source is the internal oscillator,
 * so that no board needs a crystal.
 *
 * Addresses and bits: libopencm3 include/libopencm3/stm32/h7/rcc.h and pwr.h; Zephyr
 * dts/arm/st/h7/stm32h7.dtsi; the sequence: ST's RCC_ClockConfig example for NUCLEO-H743ZI (400, 200 and 100
 * MHz, 4 wait states).
 */
#include "stm32.h"
#include "caches.h"
#include "hardware.h"

#define PWR_CSR1     0x58024804u
#define PWR_CR3      0x5802480Cu
#define PWR_D3CR     0x58024818u /* SRDCR on an H7A3 */
#define SUPPLY_READY (1u << 13)
#define CR3_SUPPLY   7u /* BYPASS, LDOEN, SCUEN or SMPSEN */
#define D3CR_VOS     (3u << 14)
#define D3CR_READY   (1u << 13)

#define FLASH_ACR     0x52002000u
#define ACR_LATENCY   15u
#define ACR_HIGH_FREQ (3u << 4)

#define RCC_CR        0x58024400u
#define RCC_CFGR      0x58024410u
#define RCC_D1CFGR    0x58024418u
#define RCC_D2CFGR    0x5802441Cu
#define RCC_D3CFGR    0x58024420u
#define RCC_PLLCKSELR 0x58024428u
#define RCC_PLLCFGR   0x5802442Cu
#define RCC_PLL1DIVR  0x58024430u
#define CR_PLL1_ON    (1u << 24)
#define CR_PLL1_READY (1u << 25)
#define CFGR_SW_PLL1  3u
#define CFGR_SWS      (7u << 3)
#define CKSELR_PLL1   0x3F3u /* DIVM1 and the source, 0 for the internal 64 MHz */
#define PLLCFGR_PLL1  15u
#define PLL1_INPUT    (3u << 2)  /* 8 to 16 MHz; the wide oscillator, whole multiples */
#define PLL1_P_ON     (1u << 16) /* the output for the core */
#define HALVED        4u         /* of a peripheral bus: its input divided by two */

void ft_hw_memories(void) {
    /* Until the supply is named, the device stays in a state in which RAM may not be written. Once named, it
     * cannot be changed before the next power-on: writing the same again does nothing. */
    ft_set_bits(PWR_CR3, CR3_SUPPLY, FT_SUPPLY);
    ft_wait_for(PWR_CSR1, SUPPLY_READY, SUPPLY_READY);
#ifdef FT_RAM_ENABLE
    ft_set_bits(FT_RAM_ENABLE, 0, FT_RAM_ENABLE_BITS);
    (void)FT_REGISTER(FT_RAM_ENABLE);
#endif
}

static void start_pll(void) {
    ft_set_bits(RCC_PLLCKSELR, CKSELR_PLL1, FT_PLL_M << 4);
    FT_REGISTER(RCC_PLL1DIVR) = (FT_PLL_N - 1u) | (FT_PLL_P - 1u) << 9 | 1u << 16 | 1u << 24;
    ft_set_bits(RCC_PLLCFGR, PLLCFGR_PLL1, PLL1_INPUT | PLL1_P_ON);
    ft_set_bits(RCC_CR, 0, CR_PLL1_ON);
    ft_wait_for(RCC_CR, CR_PLL1_READY, CR_PLL1_READY);
}

void ft_device_init(void) {
    ft_set_bits(PWR_D3CR, D3CR_VOS, FT_VOLTAGE_SCALE << 14);
    ft_wait_for(PWR_D3CR, D3CR_READY, D3CR_READY);
    ft_set_bits(FLASH_ACR, ACR_LATENCY | ACR_HIGH_FREQ, FT_FLASH_WAITS | FT_FLASH_HIGH_FREQ << 4);
    ft_wait_for(FLASH_ACR, ACR_LATENCY, FT_FLASH_WAITS);
    start_pll();
    FT_REGISTER(RCC_D1CFGR) = FT_BUS_PRESCALER | HALVED << 4;
    FT_REGISTER(RCC_D2CFGR) = HALVED << 4 | HALVED << 8;
    FT_REGISTER(RCC_D3CFGR) = HALVED << 4;
    ft_set_bits(RCC_CFGR, 7u, CFGR_SW_PLL1);
    ft_wait_for(RCC_CFGR, CFGR_SWS, CFGR_SW_PLL1 << 3);
    ft_caches_on();
}
