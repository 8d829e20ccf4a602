/* Flash of the STM32H742, H743, H753 (ST RM0433) and of the H7A3, H7B3 (RM0455) with 2 MB: bank 2, so that
 * the core goes on reading bank 1 meanwhile. The two have other units and sectors, and three fields of CR in
 * other places: "device.h" has them.
 *
 * Registers and bits: OpenOCD src/flash/nor/stm32h7x.c; Zephyr dts/arm/st/h7/stm32h743Xi.dtsi and
 * stm32h7a3Xi.dtsi (sectors, units). */
#ifndef FT_FLASH_PART_H
#define FT_FLASH_PART_H

#include "device.h"
#include "stm32_flash.h"

#define BANK_2 0x08100000u
#define FT_FLASH_HAS(start, bytes, sector)                                                                   \
    ((sector) == FT_FLASH_SECTOR && (start) >= BANK_2 && (start) + (bytes) <= BANK_2 + 0x100000u)

#define FT_FLASH_KEYR  0x52002104u
#define FT_FLASH_CR    0x5200210Cu
#define FT_FLASH_SR    0x52002110u
#define FT_FLASH_CLEAR 0x52002114u

#define FT_CR_LOCK    (1u << 0)
#define FT_CR_PROGRAM (1u << 1)
#define CR_SECTOR     (1u << 2)
#define FT_SR_BUSY    (7u << 0)                        /* BSY, WBNE, QW */
#define FT_SR_ERRORS  (7u << 17 | 1u << 21 | 1u << 22) /* WRPERR, PGSERR, STRBERR; INCERR, OPERR */

static inline uint32_t ft_cr_erase(uint32_t address) {
    return CR_SECTOR | (address - BANK_2) / FT_FLASH_SECTOR << FT_CR_SECTOR_SHIFT;
}

#endif
