/* The caches of a Cortex-M7. */
#ifndef FT_CACHES_H
#define FT_CACHES_H

/* Switches both caches on. No port moves data by DMA, so that the core alone sees the memory and needs no
 * cache maintenance; whoever writes memory behind the core's back (DMA, a flash controller) must invalidate.
 */
void ft_caches_on(void);

#endif
