/* Between the parts of the shim. */
#ifndef FT_SHIM_H
#define FT_SHIM_H

#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdint.h>
#include "port_config.h"

#if defined __SANITIZE_ADDRESS__
#define SHIM_ADDRESS 1
#else
#define SHIM_ADDRESS 0
#endif
#if defined __SANITIZE_THREAD__
#define SHIM_THREAD 1
#else
#define SHIM_THREAD 0
#endif

/* The core that hands out the work: on GAP8 one of the team, on GAP9 one more. */
#ifdef FT_PORT_MASTER_WORKS
#define SHIM_MASTER_WORKS 1
#define SHIM_MASTER       0
#define SHIM_CORES        8 /* threads */
#else
#define SHIM_MASTER_WORKS 0
#define SHIM_MASTER       8
#define SHIM_CORES        9
#endif
#define SHIM_FC      (-1) /* the fabric controller, as a core */
#define SHIM_L1_BASE 0x10000000u
#define SHIM_L2_BASE 0x1c000000u
#define SHIM_L3_BASE 0x60000000u /* of addresses in L3, which mean nothing to a core; above any heap */
#define SHIM_PATTERN 0xA5u       /* what is found where nothing has been written, and where nothing may be */

/* --- fault.c */

/* Ends the program with one line on stderr, which begins with who does it, and exit code 70. */
void shim_fault(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* Ends it where the system refuses something. */
void shim_die(const char *what) __attribute__((noreturn));
/* "the fabric controller", "the master core" or "core 3". */
const char *shim_who(int core);

/* --- cluster.c */

/* The core that this thread plays. */
int shim_core(void);
int shim_cluster_is_open(void);

/* --- memory.c */

/* Sets aside bytes of L1 for stacks, in place of those set aside before. */
void shim_reserve_l1(uint32_t bytes);
int shim_is_l1(uint32_t address);
/* Whether all of [address, address + bytes) may be used: one allocation, or static data of that memory, which
 * where it is `written` is no constant. */
int shim_is_usable_l1(uint32_t address, uint32_t bytes);
int shim_is_usable_l2(uint32_t address, uint32_t bytes, int written);
/* Faults if something was written just outside an allocation. */
void shim_check_memory(void);
/* For the address sanitizer; nothing without it. */
void shim_poison(uint32_t address, uint32_t bytes);
void shim_unpoison(uint32_t address, uint32_t bytes);

static inline uint8_t *shim_pointer(uint32_t address) {
    return (uint8_t *)(uintptr_t)address;
}

/* --- late.c */

/* A copy of `lines` lines of `length` bytes. `what` names it. */
typedef struct {
    char what[48];
    uint8_t *to;
    const uint8_t *from;
    uint32_t to_stride, from_stride, length, lines;
    uint8_t *before; /* the source as it was, lines in a row */
#if SHIM_THREAD
    pthread_t thread;
    sem_t begin, end;
#endif
} late_t;

void shim_late_begin(late_t *copy);
/* Returns when it is done; faults if its target was written meanwhile, or its source changed. */
void shim_late_end(late_t *copy);

/* --- dma.c */

/* Whether a command that has not been waited for has to do with bytes of L2. */
int shim_dma_moves(uint32_t address, uint32_t bytes);
/* Faults if a command has not been waited for. */
void shim_check_dma(void);

/* --- l3.c */

/* Whether a read from L3 that has not been waited for has bytes of L2 for its target. */
int shim_comes_from_l3(uint32_t address, uint32_t bytes);
/* Faults if a read has not been waited for. */
void shim_check_l3(void);

/* --- stacks.c */

#define SHIM_STACK_BYTES ((SHIM_ADDRESS || SHIM_THREAD ? 1024u : 256u) * 1024u)

/* Returns the painted stack of a core's thread: SHIM_STACK_BYTES, below which there is nothing. */
void *shim_stack(int core);
/* Says where the stack begins that counts: below `frame`. */
void shim_count_stack_from(int core, const void *frame);
/* Faults if a core has used more than it has; `slave` and `master` in bytes. */
void shim_check_stacks(uint32_t slave, uint32_t master);

/* --- events.c */

/* Says that the transfer of `task` is over. */
void shim_notify(pi_task_t *task);

#endif
