/* Clocks of the STM32F745, F746 and F756 (ST RM0385, chapters 3 to 5): 216 MHz, the most they may run at,
 * from the internal oscillator, so that no board needs a crystal.
 *
 * Addresses and bits: libopencm3 include/libopencm3/stm32/f7/pwr.h, lib/stm32/f7/rcc.c (216 MHz with APB1 at
 * a quarter, APB2 at half, 7 wait states); Zephyr boards/st/stm32f746g_disco (the same division).
 */
#include "stm32.h"
#include "caches.h"

#define RCC_CR       0x40023800u
#define RCC_PLLCFGR  0x40023804u
#define RCC_CFGR     0x40023808u
#define RCC_APB1ENR  0x40023840u
#define CR_PLL_ON    (1u << 24)
#define CR_PLL_READY (1u << 25)
#define PLL_CLEAR    0x0F437FFFu
#define PLL_HSI      (8u | 216u << 6 | 0u << 16 | 9u << 24) /* 16 MHz / 8 * 216 / 2; / 9 for USB: 48 MHz */
#define CFGR_BUSES   (15u << 4 | 7u << 10 | 7u << 13)
#define CFGR_APB1_4  (5u << 10)
#define CFGR_APB2_2  (4u << 13)
#define CFGR_SW_PLL  2u
#define CFGR_SWS     (3u << 2)
#define APB1_PWR     (1u << 28)

#define PWR_CR1     0x40007000u
#define PWR_CSR1    0x40007004u
#define CR1_VOS     (3u << 14) /* all set: scale 1 */
#define OVER_DRIVE  (1u << 16) /* on in CR1, ready in CSR1 */
#define OVER_DRIVEN (1u << 17) /* the switch to it, the same way */

#define FLASH_ACR   0x40023C00u
#define ACR_LATENCY 15u
#define WAITS       7u /* 210 to 216 MHz at 2.7 V and more */

void ft_device_init(void) {
    ft_set_bits(RCC_APB1ENR, 0, APB1_PWR);
    (void)FT_REGISTER(RCC_APB1ENR);
    ft_set_bits(PWR_CR1, 0, CR1_VOS);
    ft_set_bits(RCC_PLLCFGR, PLL_CLEAR, PLL_HSI);
    ft_set_bits(RCC_CR, 0, CR_PLL_ON);
    ft_set_bits(PWR_CR1, 0, OVER_DRIVE);
    ft_wait_for(PWR_CSR1, OVER_DRIVE, OVER_DRIVE);
    ft_set_bits(PWR_CR1, 0, OVER_DRIVEN);
    ft_wait_for(PWR_CSR1, OVER_DRIVEN, OVER_DRIVEN);
    ft_wait_for(RCC_CR, CR_PLL_READY, CR_PLL_READY);
    ft_set_bits(FLASH_ACR, ACR_LATENCY, WAITS);
    ft_wait_for(FLASH_ACR, ACR_LATENCY, WAITS);
    ft_set_bits(RCC_CFGR, CFGR_BUSES, CFGR_APB1_4 | CFGR_APB2_2);
    ft_set_bits(RCC_CFGR, 3u, CFGR_SW_PLL);
    ft_wait_for(RCC_CFGR, CFGR_SWS, CFGR_SW_PLL << 2);
    ft_caches_on();
}
