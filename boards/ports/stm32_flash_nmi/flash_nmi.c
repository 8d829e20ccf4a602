/* Reads flash whose error-correcting code reports what it cannot correct with an NMI: STM32 L4, L5, U5 and
 * others (ST RM0432, RM0456: FLASH, ECCR; its bits: ST's SVD files of L4R5 and U575). A unit that a power cut
 * has left half programmed does so. Bank 2, where the store lies, may have such units at any time: the
 * handler clears the flag, which ends the NMI, and the read returns. A cache may have asked for a unit that
 * nobody reads, so it does not matter when. In bank 1 code or constants are wrong; without the flag a clock
 * has failed: then an NMI is the fault that it is without this driver. */
#include "cortex_m.h"
#include "flash_part.h"
#include "hardware.h"
#include "stm32_flash.h"

#define ECCR_BANK_2      (1u << 21) /* BK_ECC */
#define ECCR_CORRECTED   (1u << 30) /* ECCC; a 1 clears it, and while it is set ECCD is not */
#define ECCR_UNCORRECTED (1u << 31) /* ECCD; a 1 clears it */
#define TORN_IN_BANK_2   (ECCR_UNCORRECTED | ECCR_BANK_2)

static volatile int torn;

void ft_nmi_handler(void) {
    const uint32_t error = FT_REGISTER(FT_FLASH_ECCR);
    if ((error & TORN_IN_BANK_2) != TORN_IN_BANK_2) {
        ft_fault("NMI, flash error register", error);
    }
    torn = 1;
    FT_REGISTER(FT_FLASH_ECCR) = ECCR_UNCORRECTED;
    (void)FT_REGISTER(FT_FLASH_ECCR); /* cleared before the handler returns */
}

int ft_flash_read(uint32_t address, uint32_t *words, uint32_t count) {
    FT_REGISTER(FT_FLASH_ECCR) = ECCR_CORRECTED | ECCR_UNCORRECTED;
    torn = 0;
    for (uint32_t i = 0; i < count; i++) {
        words[i] = FT_REGISTER(address + 4u * i);
    }
    (void)FT_REGISTER(FT_FLASH_ECCR); /* time for the NMI to come */
    ft_barrier();
    return !torn;
}
