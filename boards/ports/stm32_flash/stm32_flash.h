/* Between the flash driver that all STM32s share and what differs between them.
 *
 * The part's "flash_part.h" names the registers FT_FLASH_KEYR, FT_FLASH_CR, FT_FLASH_SR and FT_FLASH_CLEAR
 * (where a 1 clears a flag of SR); of CR the bits FT_CR_LOCK, FT_CR_PROGRAM, FT_CR_START and FT_CR_ALWAYS,
 * and the function ft_cr_erase(address) for the bits that choose a sector's erase; of SR FT_SR_BUSY and
 * FT_SR_ERRORS. FT_FLASH_UNIT is what is programmed at once, and FT_FLASH_HAS(start, bytes, sector) tells
 * whether an area consists of sectors that ft_cr_erase knows.
 */
#ifndef FT_STM32_FLASH_H
#define FT_STM32_FLASH_H

#include <stdint.h>

/* --- the part's ------------------------------------------------------------------------------------- */

/* Before an erase or a program. Returns 0 when option bytes have laid the flash out in another way than the
 * driver knows: nothing is written then. */
int ft_flash_prepare(void);

/* After it, also after one that failed: no cache has old bytes of these. */
void ft_flash_refresh(uint32_t address, uint32_t bytes);

/* Reads words of one unit; returns 0 when the error-correcting code cannot tell what they were. */
int ft_flash_read(uint32_t address, uint32_t *words, uint32_t count);

#endif
