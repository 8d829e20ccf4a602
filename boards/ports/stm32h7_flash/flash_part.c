/* What the STM32H743's and H7A3's flash needs beside stm32_flash (ST RM0433, RM0455: FLASH; Zephyr
 * drivers/flash/flash_stm32h7x.c: the same caches and the same reads of torn words).
 *
 * A word that a power cut has left half programmed has more wrong bits than its code corrects: DBECCERR is
 * set, and the read ends with a bus fault (Zephyr issue 33140). So reads are made with such faults ignored.
 */
#include "flash_part.h"
#include "bus_faults.h"
#include "caches.h"
#include "stm32.h"
#include "stm32_flash.h"

#define FLASH_OPTCR    0x52002018u
#define OPTCR_SWAPPED  (1u << 31)
#define SR_UNCORRECTED (1u << 26) /* DBECCERR */

int ft_flash_prepare(void) {
    return !(FT_REGISTER(FLASH_OPTCR) & OPTCR_SWAPPED); /* else bank 2 is where bank 1 was */
}

void ft_flash_refresh(uint32_t address, uint32_t bytes) {
    ft_caches_drop(address, bytes);
}

int ft_flash_read(uint32_t address, uint32_t *words, uint32_t count) {
    FT_REGISTER(FT_FLASH_CLEAR) = SR_UNCORRECTED;
    ft_bus_faults_off();
    for (uint32_t i = 0; i < count; i++) {
        words[i] = FT_REGISTER(address + 4u * i);
    }
    ft_bus_faults_on();
    return !(FT_REGISTER(FT_FLASH_SR) & SR_UNCORRECTED);
}
