/* Clocks of the STM32U575 and U585 (ST RM0456: FLASH, PWR, RCC): 160 MHz, the most they may run at,
 * from the internal oscillator, so that no board needs a crystal.
 *
 * Addresses, bits and sequence: OpenOCD tcl/target/stm32u5x.cfg (which takes another source), Zephyr
 * dts/arm/st/u5/stm32u5.dtsi and include/zephyr/dt-bindings/clock/stm32u5_clock.h.
 */
#include "stm32.h"

#define RCC_CR        0x46020C00u
#define RCC_CFGR1     0x46020C1Cu
#define RCC_PLL1CFGR  0x46020C28u
#define RCC_PLL1DIVR  0x46020C34u
#define RCC_AHB3ENR   0x46020C94u
#define CR_HSI_ON     (1u << 8)
#define CR_HSI_READY  (1u << 10)
#define CR_PLL1_ON    (1u << 24)
#define CR_PLL1_READY (1u << 25)
#define AHB3_PWR      (1u << 2)
#define PLL1_HSI      (2u | 3u << 2 | 1u << 18)             /* 16 MHz whole, also for the booster; output R */
#define PLL1_160_MHZ  (19u | 1u << 9 | 1u << 16 | 1u << 24) /* 16 MHz * 20 / 2 */
#define CFGR1_SW_PLL1 3u
#define CFGR1_SWS     (3u << 2)

#define PWR_VOSR     0x4602080Cu
#define VOSR_RANGE_1 (3u << 16)
#define VOSR_READY   (1u << 15)
#define VOSR_BOOST   (1u << 18) /* which more than 55 MHz needs */
#define VOSR_BOOSTED (1u << 14)

#define FLASH_ACR    0x40022000u
#define ACR_LATENCY  15u
#define ACR_PREFETCH (1u << 8)
#define WAITS        4u /* 128 to 160 MHz in range 1 */

#define ICACHE_CR 0x40030400u
#define ICACHE_ON 1u

void ft_device_init(void) {
    ft_set_bits(RCC_AHB3ENR, 0, AHB3_PWR);
    (void)FT_REGISTER(RCC_AHB3ENR);
    ft_set_bits(PWR_VOSR, 0, VOSR_RANGE_1);
    ft_wait_for(PWR_VOSR, VOSR_READY, VOSR_READY);
    ft_set_bits(FLASH_ACR, ACR_LATENCY, WAITS | ACR_PREFETCH);
    ft_wait_for(FLASH_ACR, ACR_LATENCY, WAITS);
    ft_set_bits(RCC_CR, 0, CR_HSI_ON);
    ft_wait_for(RCC_CR, CR_HSI_READY, CR_HSI_READY);
    FT_REGISTER(RCC_PLL1CFGR) = PLL1_HSI;
    ft_set_bits(PWR_VOSR, 0, VOSR_BOOST);
    ft_wait_for(PWR_VOSR, VOSR_BOOSTED, VOSR_BOOSTED);
    FT_REGISTER(RCC_PLL1DIVR) = PLL1_160_MHZ;
    ft_set_bits(RCC_CR, 0, CR_PLL1_ON);
    ft_wait_for(RCC_CR, CR_PLL1_READY, CR_PLL1_READY);
    ft_set_bits(RCC_CFGR1, 3u, CFGR1_SW_PLL1);
    ft_wait_for(RCC_CFGR1, CFGR1_SWS, CFGR1_SW_PLL1 << 2);
    ft_set_bits(ICACHE_CR, 0, ICACHE_ON); /* of all that is read from flash: see stm32u5_flash */
}
