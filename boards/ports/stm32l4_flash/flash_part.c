/* What the STM32L4R5's flash needs beside stm32_flash: its data cache is off meanwhile, for it may take wrong
 * bytes while one bank is read and the other written (ST's errata sheets, as Zephyr
 * drivers/flash/flash_stm32l4x.c has it), and comes back empty. */
#include "flash_part.h"
#include "stm32.h"
#include "stm32_flash.h"

#define FLASH_ACR      0x40022000u
#define ACR_DATA       (1u << 10)
#define ACR_DATA_RESET (1u << 12) /* only while it is off */
#define FLASH_OPTR     0x40022020u
#define OPTR_BOOT_2    (1u << 20) /* BFB2: bank 2 may be where bank 1 was */
#define OPTR_TWO_BANKS (1u << 22) /* DBANK: else one bank of larger pages */

int ft_flash_prepare(void) {
    if ((FT_REGISTER(FLASH_OPTR) & (OPTR_BOOT_2 | OPTR_TWO_BANKS)) != OPTR_TWO_BANKS) {
        return 0;
    }
    ft_set_bits(FLASH_ACR, ACR_DATA, 0);
    return 1;
}

void ft_flash_refresh(uint32_t address, uint32_t bytes) {
    (void)address;
    (void)bytes;
    ft_set_bits(FLASH_ACR, ACR_DATA, 0);
    ft_set_bits(FLASH_ACR, 0, ACR_DATA_RESET);
    ft_set_bits(FLASH_ACR, ACR_DATA_RESET, 0);
    ft_set_bits(FLASH_ACR, 0, ACR_DATA);
}
