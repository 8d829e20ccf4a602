/* Clocks of the STM32L4R and L4S series (ST RM0432, chapters 3, 5 and 6): 120 MHz, the most they may run at,
 * from the internal oscillator, so that no board needs a crystal.
 *
 * Addresses and bits: libopencm3 include/libopencm3/stm32/l4/rcc.h and pwr.h (which end at the L4: R1MODE is
 * that of ST's stm32l4r5xx.h), Zephyr dts/arm/st/l4/stm32l4.dtsi.
 */
#include "stm32.h"

#define RCC_CR       0x40021000u
#define RCC_CFGR     0x40021008u
#define RCC_PLLCFGR  0x4002100Cu
#define RCC_APB1ENR1 0x40021058u
#define CR_HSI_ON    (1u << 8)
#define CR_HSI_READY (1u << 10)
#define CR_PLL_ON    (1u << 24)
#define CR_PLL_READY (1u << 25)
#define PLL_HSI      (2u | 3u << 4 | 60u << 8 | 1u << 24) /* 16 MHz / 4 * 60 / 2, output R on */
#define CFGR_SW_PLL  3u
#define CFGR_SWS     (3u << 2)
#define CFGR_AHB     (15u << 4)
#define CFGR_AHB_2   (8u << 4)
#define APB1_PWR     (1u << 28)

#define PWR_CR2    0x40007004u
#define PWR_SR2    0x40007014u
#define PWR_CR5    0x40007080u
#define CR2_IOSV   (1u << 9) /* the supply of PG2 to PG15 is there */
#define SR2_VOSF   (1u << 10)
#define CR5_R1MODE (1u << 8) /* cleared: boost, which more than 80 MHz needs */

#define FLASH_ACR    0x40022000u
#define ACR_LATENCY  15u
#define ACR_BUFFERS  (7u << 8) /* prefetch, instruction and data cache */
#define WAITS        5u        /* 100 to 120 MHz at boost */
#define SETTLE_TURNS 120u /* of a loop of at least one clock of 60 MHz each: more than the 1 us asked for */

void ft_device_init(void) {
    ft_set_bits(RCC_APB1ENR1, 0, APB1_PWR);
    (void)FT_REGISTER(RCC_APB1ENR1);
    ft_set_bits(PWR_CR2, 0, CR2_IOSV);
    ft_set_bits(PWR_CR5, CR5_R1MODE, 0);
    ft_wait_for(PWR_SR2, SR2_VOSF, 0);
    ft_set_bits(FLASH_ACR, ACR_LATENCY, WAITS | ACR_BUFFERS);
    ft_wait_for(FLASH_ACR, ACR_LATENCY, WAITS);
    ft_set_bits(RCC_CR, 0, CR_HSI_ON);
    ft_wait_for(RCC_CR, CR_HSI_READY, CR_HSI_READY);
    FT_REGISTER(RCC_PLLCFGR) = PLL_HSI;
    ft_set_bits(RCC_CR, 0, CR_PLL_ON);
    ft_wait_for(RCC_CR, CR_PLL_READY, CR_PLL_READY);
    /* Past 80 MHz in two steps: half the clock first, for at least a microsecond. */
    ft_set_bits(RCC_CFGR, CFGR_AHB, CFGR_AHB_2);
    ft_set_bits(RCC_CFGR, 3u, CFGR_SW_PLL);
    ft_wait_for(RCC_CFGR, CFGR_SWS, CFGR_SW_PLL << 2);
    for (volatile uint32_t turn = 0; turn < SETTLE_TURNS; turn++) {
    }
    ft_set_bits(RCC_CFGR, CFGR_AHB, 0);
}
