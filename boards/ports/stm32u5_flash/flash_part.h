/* Flash of the STM32U575 and U585 with 2 MB, TrustZone off (ST RM0456): bank 2, so that the core goes on
 * reading bank 1 meanwhile.
 *
 * Registers and bits: OpenOCD src/flash/nor/stm32l4x.c and stm32l4x.h (non-secure registers); Zephyr
 * drivers/flash/flash_stm32l5x.c (pages of 8 KB, quad words). */
#ifndef FT_FLASH_PART_H
#define FT_FLASH_PART_H

#include <stdint.h>

#define BANK_2          0x08100000u
#define FT_FLASH_SECTOR 8192u
#define FT_FLASH_UNIT   16u
#define FT_FLASH_HAS(start, bytes, sector)                                                                   \
    ((sector) == FT_FLASH_SECTOR && (start) >= BANK_2 && (start) + (bytes) <= BANK_2 + 0x100000u)

#define FT_FLASH_KEYR  0x40022008u
#define FT_FLASH_SR    0x40022020u
#define FT_FLASH_CLEAR FT_FLASH_SR
#define FT_FLASH_CR    0x40022028u
#define FT_FLASH_ECCR  0x40022030u

#define FT_CR_LOCK    (1u << 31)
#define FT_CR_ALWAYS  0u
#define FT_CR_PROGRAM (1u << 0)
#define FT_CR_START   (1u << 16)
#define CR_PAGE       (1u << 1)
#define CR_BANK_2     (1u << 11)
#define FT_SR_BUSY    (3u << 16)             /* BSY, WDW */
#define FT_SR_ERRORS  (0x1Fu << 3 | 1u << 1) /* PROGERR, WRPERR, PGAERR, SIZERR, PGSERR; OPERR */

static inline uint32_t ft_cr_erase(uint32_t address) {
    return CR_PAGE | CR_BANK_2 | (address - BANK_2) / FT_FLASH_SECTOR << 3;
}

#endif
