/* The caches of a Cortex-M7. */
#ifndef FT_CACHES_H
#define FT_CACHES_H

#include <stdint.h>

/* Switches both caches on. No port moves data by DMA, so that the core alone sees the memory and needs no
 * cache maintenance; whoever writes memory behind the core's back (DMA, a flash controller) must drop it.
 */
void ft_caches_on(void);

/* Whole lines of 32 bytes are read from memory anew, which something else than the core has changed. Nothing
 * may be waiting in them to be written: for memory that is written through, as flash is. */
void ft_caches_drop(uint32_t address, uint32_t bytes);

#endif
