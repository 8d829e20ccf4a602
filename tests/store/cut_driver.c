/* Cuts the power of a board with a real flash driver: it is called as ever, for half an operation with what
 * half of the bits make. What is kept lies in RAM that a reset leaves alone and the linker does not know. */
#include <string.h>
#include "port_config.h"
#include "power.h"

#define KEPT_AT 0x20003C00u /* microbit: test_power_cuts.py describes its RAM as ending here */

typedef struct {
    uint32_t countdown, done;
    uint32_t sector[FT_PORT_STORE_SECTOR / 4]; /* as it was */
} cut_t;

static cut_t cut;

static uint32_t next_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Few, half or most of a word's bits. */
static uint32_t some_bits(uint32_t *state) {
    const uint32_t a = next_random(state), b = next_random(state);
    return cut.done % 3 == 0 ? a & b : cut.done % 3 == 1 ? a : a | b;
}

static int dies(void) {
    if (cut.countdown == 0) {
        return 0;
    }
    cut.countdown--;
    return cut.countdown == 0;
}

static int erase(uint32_t offset) {
    const ft_flash_t *flash = ft_port_flash();
    if (!dies()) {
        return flash->erase(offset);
    }
    uint32_t state = cut.done | 1u;
    for (uint32_t at = 0; at < FT_PORT_STORE_SECTOR; at += 4) {
        flash->read(offset + at, (uint8_t *)&cut.sector[at / 4]);
    }
    if (cut.done != CUT_NOTHING) {
        flash->erase(offset);
    }
    for (uint32_t at = 0; at < FT_PORT_STORE_SECTOR && cut.done != CUT_NOTHING && cut.done != CUT_ALL;
         at += 4) {
        const uint32_t word = cut.sector[at / 4] | some_bits(&state);
        if (word != 0xFFFFFFFFu) {
            flash->program(offset + at, (const uint8_t *)&word);
        }
    }
    ft_port_reset();
    return 0;
}

static int program(uint32_t offset, const uint8_t *unit) {
    const ft_flash_t *flash = ft_port_flash();
    if (!dies()) {
        return flash->program(offset, unit);
    }
    uint32_t state = (cut.done + offset) | 1u, word;
    memcpy(&word, unit, 4);
    if (cut.done != CUT_NOTHING) {
        word |= cut.done == CUT_ALL ? 0 : some_bits(&state);
        flash->program(offset, (const uint8_t *)&word);
    }
    ft_port_reset();
    return 0;
}

const ft_flash_t *flash_that_is_cut(void) {
    static ft_flash_t flash;
    flash = *ft_port_flash();
    flash.erase = erase;
    flash.program = program;
    return &flash;
}

void cut_power_at(uint32_t countdown, uint32_t done) {
    cut.countdown = countdown;
    cut.done = done;
}

void *kept(uint32_t bytes) {
    (void)bytes;
    return (void *)KEPT_AT;
}

void kept_has_changed(void) {}
