/* Flash of the STM32L4R5 and its sisters with 2 MB in two banks, as they come (ST RM0432): bank 2, so that
 * the core goes on reading bank 1 meanwhile.
 *
 * Registers and bits: OpenOCD src/flash/nor/stm32l4x.c and stm32l4x.h; Zephyr drivers/flash/flash_stm32l4x.c
 * (pages of 4 KB, double words). */
#ifndef FT_FLASH_PART_H
#define FT_FLASH_PART_H

#include <stdint.h>

#define BANK_2          0x08100000u
#define FT_FLASH_SECTOR 4096u
#define FT_FLASH_UNIT   8u
#define FT_FLASH_HAS(start, bytes, sector)                                                                   \
    ((sector) == FT_FLASH_SECTOR && (start) >= BANK_2 && (start) + (bytes) <= BANK_2 + 0x100000u)

#define FT_FLASH_KEYR  0x40022008u
#define FT_FLASH_SR    0x40022010u
#define FT_FLASH_CLEAR FT_FLASH_SR
#define FT_FLASH_CR    0x40022014u
#define FT_FLASH_ECCR  0x40022018u

#define FT_CR_LOCK    (1u << 31)
#define FT_CR_ALWAYS  0u
#define FT_CR_PROGRAM (1u << 0)
#define FT_CR_START   (1u << 16)
#define CR_PAGE       (1u << 1)
#define CR_BANK_2     (1u << 11)
#define FT_SR_BUSY    (1u << 16)
#define FT_SR_ERRORS                                                                                         \
    (0x7Fu << 3 | 1u << 1) /* PROGERR, WRPERR, PGAERR, SIZERR, PGSERR, MISERR, FASTERR; OPERR */

static inline uint32_t ft_cr_erase(uint32_t address) {
    return CR_PAGE | CR_BANK_2 | (address - BANK_2) / FT_FLASH_SECTOR << 3;
}

#endif
