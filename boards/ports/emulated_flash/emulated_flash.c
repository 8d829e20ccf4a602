/* The rules of NOR flash. Programming takes bits from 1 to 0, erasing a sector sets them to 1. A unit is
 * programmed once between two erases, as parts with an error-correcting code demand it. Power may be cut in
 * the middle of either.
 */
#include "emulated_flash.h"
#include <stddef.h>
#include <string.h>
#include "port.h"

static uint32_t next_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Bits that change before the power goes: few, half or most of all, or all up to a place and none after. */
static uint8_t changing_bits(uint32_t seed, uint32_t *state, uint32_t place, uint32_t count) {
    const uint32_t drawn = next_random(state);
    switch (seed % 4) {
    case 0:
        return (uint8_t)(drawn & drawn >> 8 & drawn >> 16);
    case 1:
        return (uint8_t)drawn;
    case 2:
        return (uint8_t)(drawn | drawn >> 8 | drawn >> 16);
    default:
        return place < (seed / 4 * 7) % count ? 0xFF : 0;
    }
}

/* Brings `count` bytes to `target` (NULL: 0xFF), all bits or some, and keeps what came of it. */
static int change(uint32_t offset, const uint8_t *target, uint32_t count, uint32_t done) {
    ft_flash_memory_t *memory = ft_flash_memory();
    uint8_t *data = memory->data + offset;
    uint32_t state = done * 2654435761u | 1u;
    for (uint32_t i = 0; i < count && done != FT_CUT_NOTHING; i++) {
        const uint8_t bits = done == FT_CUT_ALL ? 0xFF : changing_bits(done, &state, i, count);
        const uint8_t goal = target != NULL ? target[i] : 0xFF;
        data[i] = (uint8_t)((data[i] & ~bits) | (goal & bits));
    }
    return ft_flash_keep(offset, count);
}

static int operate(uint32_t offset, const uint8_t *target, uint32_t count) {
    ft_flash_cut_t *cut = &ft_flash_memory()->cut;
    if (cut->countdown == 0) {
        return change(offset, target, count, FT_CUT_ALL);
    }
    cut->countdown--;
    const int dies = cut->countdown == 0;
    const int kept = ft_flash_keep((uint32_t)offsetof(ft_flash_memory_t, cut), sizeof *cut) &&
                     change(offset, target, count, dies ? cut->done : FT_CUT_ALL);
    if (dies) {
        ft_port_reset();
    }
    return kept;
}

static int erase(uint32_t offset) {
    if (offset >= FT_PORT_STORE_BYTES || offset % FT_PORT_STORE_SECTOR != 0) {
        return 0;
    }
    return operate(offset, NULL, FT_PORT_STORE_SECTOR);
}

static int program(uint32_t offset, const uint8_t *unit) {
    if (offset >= FT_PORT_STORE_BYTES || offset % FT_PORT_STORE_UNIT != 0) {
        return 0;
    }
    const uint8_t *there = ft_flash_memory()->data + offset;
    for (uint32_t i = 0; i < FT_PORT_STORE_UNIT; i++) {
        if (there[i] != 0xFF) {
            return 0;
        }
    }
    return operate(offset, unit, FT_PORT_STORE_UNIT);
}

static int read(uint32_t offset, uint8_t *unit) {
    memcpy(unit, ft_flash_memory()->data + offset, FT_PORT_STORE_UNIT);
    return 1;
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
