/* What the STM32F746's flash needs beside stm32_flash. It has no error-correcting code: every read returns.
 */
#include "flash_part.h"
#include "caches.h"
#include "stm32.h"
#include "stm32_flash.h"

int ft_flash_prepare(void) {
    return 1;
}

void ft_flash_refresh(uint32_t address, uint32_t bytes) {
    ft_caches_drop(address, bytes); /* the accelerator (ART) sees only reads at 0x00200000 */
}

int ft_flash_read(uint32_t address, uint32_t *words, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        words[i] = FT_REGISTER(address + 4u * i);
    }
    return 1;
}
