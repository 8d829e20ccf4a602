/* What the STM32U575's flash needs beside stm32_flash: its cache, through which all of flash is read, is off
 * meanwhile and comes back empty (ST RM0456: ICACHE; Zephyr drivers/flash/flash_stm32l5x.c does the same). */
#include "flash_part.h"
#include "stm32.h"
#include "stm32_flash.h"

#define FLASH_OPTR   0x40022040u
#define OPTR_SWAPPED (1u << 20)

#define ICACHE_CR   0x40030400u
#define ICACHE_SR   0x40030404u
#define ICACHE_ON   1u
#define ICACHE_BUSY 1u

int ft_flash_prepare(void) {
    if (FT_REGISTER(FLASH_OPTR) & OPTR_SWAPPED) { /* bank 2 is where bank 1 was */
        return 0;
    }
    ft_set_bits(ICACHE_CR, ICACHE_ON, 0); /* which empties it */
    ft_wait_for(ICACHE_CR, ICACHE_ON, 0);
    ft_wait_for(ICACHE_SR, ICACHE_BUSY, 0);
    return 1;
}

void ft_flash_refresh(uint32_t address, uint32_t bytes) {
    (void)address;
    (void)bytes;
    ft_set_bits(ICACHE_CR, 0, ICACHE_ON);
}
