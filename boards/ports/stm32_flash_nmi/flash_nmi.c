/* Reads flash whose error-correcting code reports what it cannot correct with an NMI: STM32 L4, L5, U5 and
 * others (ST RM0432, RM0456: FLASH, ECCR). A unit that a power cut has left half programmed does so: here the
 * read is noted, the flag cleared, which ends the NMI, and the read returns. At any other place an NMI is
 * what it always was, a fault: code or constants are wrong, or a clock has failed. */
#include "cortex_m.h"
#include "flash_part.h"
#include "hardware.h"
#include "stm32_flash.h"

#define ECCR_UNCORRECTED (1u << 31) /* ECCD; a 1 clears it */

static volatile enum { NOT_READING, READING, TORN } state;

void ft_nmi_handler(void) {
    if (state == NOT_READING || !(FT_REGISTER(FT_FLASH_ECCR) & ECCR_UNCORRECTED)) {
        ft_fault("NMI, flash error register", FT_REGISTER(FT_FLASH_ECCR));
    }
    state = TORN;
    FT_REGISTER(FT_FLASH_ECCR) = ECCR_UNCORRECTED;
    (void)FT_REGISTER(FT_FLASH_ECCR); /* cleared before the handler returns */
}

int ft_flash_read(uint32_t address, uint32_t *words, uint32_t count) {
    state = READING;
    for (uint32_t i = 0; i < count; i++) {
        words[i] = FT_REGISTER(address + 4u * i);
    }
    ft_barrier(); /* the NMI comes before it is no longer expected */
    const int whole = state == READING;
    state = NOT_READING;
    return whole;
}
