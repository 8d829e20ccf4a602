/* Invalidation and enabling of the caches (Armv7-M Architecture Reference Manual, B2.2 and B3.2; Cortex-M7
 * Technical Reference Manual, 3.3): their content after reset is unknown. */
#include "caches.h"
#include "cortex_m.h"

#define SCB_CCR     FT_REGISTER(0xE000ED14u)
#define SCB_CCSIDR  FT_REGISTER(0xE000ED80u)
#define SCB_CSSELR  FT_REGISTER(0xE000ED84u)
#define SCB_ICIALLU FT_REGISTER(0xE000EF50u)
#define SCB_DCIMVAC FT_REGISTER(0xE000EF5Cu)
#define SCB_DCISW   FT_REGISTER(0xE000EF60u)
#define CCR_DC      (1u << 16)
#define CCR_IC      (1u << 17)
#define LINE_SHIFT  5 /* lines of 32 bytes */
#define LINE_BYTES  (1u << LINE_SHIFT)
#define WAY_SHIFT   30 /* four ways */

static void barrier(void) {
    __asm volatile("dsb\n isb" ::: "memory");
}

static void invalidate_data(void) {
    SCB_CSSELR = 0; /* the data cache of level 1 */
    barrier();
    const uint32_t sets = (SCB_CCSIDR >> 13 & 0x7FFFu) + 1u, ways = (SCB_CCSIDR >> 3 & 0x3FFu) + 1u;
    for (uint32_t set = 0; set < sets; set++) {
        for (uint32_t way = 0; way < ways; way++) {
            SCB_DCISW = set << LINE_SHIFT | way << WAY_SHIFT;
        }
    }
}

void ft_caches_on(void) {
    barrier();
    SCB_ICIALLU = 0;
    barrier();
    if (!(SCB_CCR &
          CCR_DC)) { /* a boot loader may have left it on: its lines are then newer than the memory */
        invalidate_data();
    }
    barrier();
    SCB_CCR |= CCR_IC | CCR_DC;
    barrier();
}

void ft_caches_drop(uint32_t address, uint32_t bytes) {
    barrier();
    for (uint32_t line = address / LINE_BYTES * LINE_BYTES; line < address + bytes; line += LINE_BYTES) {
        SCB_DCIMVAC = line;
    }
    barrier();
}
