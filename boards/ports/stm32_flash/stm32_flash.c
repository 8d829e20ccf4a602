/* Erases and programs the flash of an STM32 for the weights store, in the order that is the same in all their
 * manuals (ST RM0433, RM0455, RM0385, RM0432, RM0456: FLASH): wait, clear old errors, unlock with two keys,
 * say what is to be done, do it, wait, look for errors, lock. "flash_part.h" has what differs.
 */
#include "flash_part.h"
#include "port.h"
#include "stm32.h"
#include "stm32_flash.h"

#define KEY_1 0x45670123u
#define KEY_2 0xCDEF89ABu
#define WORDS (FT_PORT_STORE_UNIT / 4u)

_Static_assert(FT_PORT_STORE_UNIT == FT_FLASH_UNIT, "the unit of [store] is not this part's");
_Static_assert(FT_FLASH_HAS(FT_PORT_STORE_START, FT_PORT_STORE_BYTES, FT_PORT_STORE_SECTOR),
               "[store] does not consist of sectors that the driver knows");

static void wait(void) {
    ft_wait_for(FT_FLASH_SR, FT_SR_BUSY, 0);
}

/* Opens the flash for a task; returns 0 when it stays locked. */
static int begin(uint32_t task) {
    wait();
    FT_REGISTER(FT_FLASH_CLEAR) = FT_SR_ERRORS;
    if (FT_REGISTER(FT_FLASH_CR) & FT_CR_LOCK) { /* keys that come when it is open lock it until a reset */
        FT_REGISTER(FT_FLASH_KEYR) = KEY_1;
        FT_REGISTER(FT_FLASH_KEYR) = KEY_2;
    }
    FT_REGISTER(FT_FLASH_CR) = FT_CR_ALWAYS | task;
    ft_barrier();
    return (FT_REGISTER(FT_FLASH_CR) & (FT_CR_LOCK | task)) == task;
}

/* Returns whether all went well; what has changed is read fresh from now on. */
static int end(int begun, uint32_t address, uint32_t bytes) {
    ft_barrier();
    wait();
    const int done = begun && (FT_REGISTER(FT_FLASH_SR) & FT_SR_ERRORS) == 0;
    FT_REGISTER(FT_FLASH_CR) = FT_CR_ALWAYS;
    FT_REGISTER(FT_FLASH_CR) = FT_CR_ALWAYS | FT_CR_LOCK;
    ft_barrier();
    ft_flash_refresh(address, bytes);
    return done;
}

static int erase(uint32_t offset) {
    const uint32_t address = FT_PORT_STORE_START + offset;
    if (offset >= FT_PORT_STORE_BYTES || offset % FT_PORT_STORE_SECTOR != 0 || !ft_flash_prepare()) {
        return 0;
    }
    const uint32_t task = ft_cr_erase(address);
    const int begun = begin(task);
    if (begun) {
        FT_REGISTER(FT_FLASH_CR) = FT_CR_ALWAYS | task | FT_CR_START;
    }
    return end(begun, address, FT_PORT_STORE_SECTOR);
}

static int program(uint32_t offset, const uint8_t *unit) {
    const uint32_t address = FT_PORT_STORE_START + offset;
    const uint32_t *words = (const uint32_t *)(const void *)unit;
    if (offset >= FT_PORT_STORE_BYTES || offset % FT_PORT_STORE_UNIT != 0 || !ft_flash_prepare()) {
        return 0;
    }
    const int begun = begin(FT_CR_PROGRAM);
    for (uint32_t i = 0; begun && i < WORDS; i++) {
        FT_REGISTER(address + 4u * i) = words[i];
        ft_barrier(); /* each word by itself and in this order, whatever a write buffer would make of them */
    }
    return end(begun, address, FT_PORT_STORE_UNIT);
}

static int read(uint32_t offset, uint8_t *unit) {
    return ft_flash_read(FT_PORT_STORE_START + offset, (uint32_t *)(void *)unit, WORDS);
}

const ft_flash_t *ft_port_flash(void) {
    static const ft_flash_t flash = {
        .bytes = FT_PORT_STORE_BYTES,
        .sector_bytes = FT_PORT_STORE_SECTOR,
        .unit_bytes = FT_PORT_STORE_UNIT,
        .erase = erase,
        .program = program,
        .read = read,
    };
    return &flash;
}
