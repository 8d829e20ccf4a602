/* Flash that behaves like NOR flash: between its rules, which all emulated boards share, and what keeps its
 * bytes. */
#ifndef FT_EMULATED_FLASH_H
#define FT_EMULATED_FLASH_H

#include <stdint.h>
#include "port_config.h"

/* When the power goes: an erase or a program is an operation. */
typedef struct {
    uint32_t countdown; /* at the operation that takes it from 1 to 0; 0: never */
    uint32_t done;      /* how much of that operation: FT_CUT_NOTHING, FT_CUT_ALL, or else a part of its bits,
                         * drawn with this number as the seed */
} ft_flash_cut_t;

#define FT_CUT_NOTHING 0u
#define FT_CUT_ALL     0xFFFFFFFFu

typedef struct {
    uint8_t data[FT_PORT_STORE_BYTES];
    ft_flash_cut_t cut;
} ft_flash_memory_t;

/* --- the keeper's part ------------------------------------------------------------------------------- */

/* What keeps the bytes while the board has no power. */
ft_flash_memory_t *ft_flash_memory(void);

/* The memory's bytes [offset, offset + count) have changed; returns 0 when they cannot be kept. */
int ft_flash_keep(uint32_t offset, uint32_t count);

#endif
