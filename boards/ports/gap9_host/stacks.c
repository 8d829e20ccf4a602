/* The cores' stacks: painted, so that the deepest use shows. They lie outside L1, which only pays for them:
 * frames of a 64-bit computer need more than those of the chip, so what passes here has some room there. The
 * sanitizers' frames, and those of code that is not optimized, are no measure.
 */
#define _GNU_SOURCE
#include "pmsis.h"
#include <string.h>
#include <sys/mman.h>
#include "shim.h"

#define PAINT   0xC0u
#define PAINTED 0xC0C0C0C0C0C0C0C0u
#define GUARD   65536u

static uint8_t *stacks[SHIM_CORES];
static const uint8_t *tops[SHIM_CORES];

static uint8_t *map(void) {
    uint8_t *const mapped = mmap(NULL, SHIM_STACK_BYTES + GUARD, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (mapped == MAP_FAILED || mprotect(mapped, GUARD, PROT_NONE) != 0) {
        shim_die("stack");
    }
    return mapped + GUARD;
}

void *shim_stack(int core) {
    if (stacks[core] == NULL) {
        stacks[core] = map();
    }
    memset(stacks[core], PAINT, SHIM_STACK_BYTES);
    tops[core] = NULL;
    return stacks[core];
}

void shim_count_stack_from(int core, const void *frame) {
    tops[core] = frame;
}

#if SHIM_ADDRESS || SHIM_THREAD || !defined __OPTIMIZE__

void shim_check_stacks(uint32_t slave, uint32_t master) {
    (void)slave;
    (void)master;
}

#else

/* Word by word: it is done after every task. */
static uint32_t used(int core) {
    const uint64_t *deepest = (const uint64_t *)(const void *)stacks[core];
    while ((const uint8_t *)deepest < tops[core] && *deepest == PAINTED) {
        deepest++;
    }
    return (uint32_t)(tops[core] - (const uint8_t *)deepest);
}

void shim_check_stacks(uint32_t slave, uint32_t master) {
    for (int core = 0; core < SHIM_CORES; core++) {
        const uint32_t allowed = core == SHIM_MASTER ? master : slave;
        if (tops[core] != NULL && used(core) > allowed) {
            shim_fault("%s has used %u bytes of stack, and has %u", shim_who(core), used(core), allowed);
        }
    }
}

#endif
