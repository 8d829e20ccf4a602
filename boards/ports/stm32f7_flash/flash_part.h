/* Flash of the STM32F745, F746 and F756 with 1 MB (ST RM0385): its three sectors of 256 KB, the last
 * ones, or the four of 32 KB, the first. One bank: the core stands still while a sector is erased.
 *
 * Registers, bits and sectors: OpenOCD src/flash/nor/stm32f2x.c; Zephyr drivers/flash/flash_stm32f7x.c. */
#ifndef FT_FLASH_PART_H
#define FT_FLASH_PART_H

#include <stdint.h>

#define FT_FLASH_UNIT 4u
#define FLASH_FIRST   0x08000000u
#define SMALL_SECTOR  0x8000u
#define SMALL_END     0x08020000u
#define LARGE_SECTOR  0x40000u
#define LARGE_FIRST   0x08040000u
#define FLASH_END     0x08100000u
#define FT_FLASH_HAS(start, bytes, sector)                                                                   \
    (((sector) == SMALL_SECTOR && (start) >= FLASH_FIRST && (start) + (bytes) <= SMALL_END) ||               \
     ((sector) == LARGE_SECTOR && (start) >= LARGE_FIRST && (start) + (bytes) <= FLASH_END))

#define FT_FLASH_KEYR  0x40023C04u
#define FT_FLASH_SR    0x40023C0Cu
#define FT_FLASH_CLEAR FT_FLASH_SR
#define FT_FLASH_CR    0x40023C10u

#define FT_CR_LOCK    (1u << 31)
#define FT_CR_ALWAYS  (2u << 8) /* PSIZE: words, which 2.7 V and more allow */
#define FT_CR_PROGRAM (1u << 0)
#define FT_CR_START   (1u << 16)
#define CR_SECTOR     (1u << 1)
#define FT_SR_BUSY    (1u << 16)
#define FT_SR_ERRORS  (15u << 4 | 1u << 1) /* WRPERR, PGAERR, PGPERR, PGSERR or ERSERR; OPERR */

static inline uint32_t ft_cr_erase(uint32_t address) {
    const uint32_t number = address < SMALL_END ? (address - FLASH_FIRST) / SMALL_SECTOR
                                                : 5u + (address - LARGE_FIRST) / LARGE_SECTOR;
    return CR_SECTOR | number << 3;
}

#endif
