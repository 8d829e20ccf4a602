/* L1 and the heap of L2, at the chip's addresses. What an allocation leaves to the next one is a gap of
 * SHIM_PATTERN, which the address sanitizer guards, and which is looked at when the allocation is freed or a
 * task of the cluster ends. Gaps cost nothing: the mapping is larger than the memory, and what counts is what
 * was asked for.
 */
#define _GNU_SOURCE
#include "pmsis.h"
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include "shim.h"
#if SHIM_ADDRESS
#include <sanitizer/asan_interface.h>
#endif

#define GAP       32u /* bytes before and after an allocation */
#define ALIGNMENT 8u  /* the sanitizer's; the kit promises 4 */
#define MOST      1024u
#define GUARD     65536u

typedef struct {
    uint32_t start, bytes;
} block_t;

typedef struct {
    const char *name;
    uint32_t base, bytes; /* of the memory; as much again is mapped, for the gaps */
    uint32_t reserved, used;
    uint32_t count;
    block_t *blocks; /* by address */
} arena_t;

static arena_t l1 = {.name = "L1", .base = SHIM_L1_BASE, .bytes = FT_PORT_L1_BYTES};
static arena_t l2 = {.name = "L2", .base = SHIM_L2_BASE, .bytes = FT_PORT_L2_BYTES};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Static data of L1; code and constants, data, and the end of the program: the linker's. */
extern uint8_t __start_ft_cl_l1[] __attribute__((weak));
extern uint8_t __stop_ft_cl_l1[] __attribute__((weak));
extern uint8_t __executable_start[], __data_start[], _end[];

void shim_poison(uint32_t address, uint32_t bytes) {
#if SHIM_ADDRESS
    ASAN_POISON_MEMORY_REGION(shim_pointer(address), bytes);
#else
    (void)address;
    (void)bytes;
#endif
}

void shim_unpoison(uint32_t address, uint32_t bytes) {
#if SHIM_ADDRESS
    ASAN_UNPOISON_MEMORY_REGION(shim_pointer(address), bytes);
#else
    (void)address;
    (void)bytes;
#endif
}

static uint32_t address_of(const void *pointer) {
    return (uint32_t)(uintptr_t)pointer;
}

static uint32_t static_l1_bytes(void) {
    return address_of(__stop_ft_cl_l1) - address_of(__start_ft_cl_l1);
}

/* Maps it when it is first used; pages on both sides have no access. */
static void map(arena_t *arena) {
    const size_t bytes = 2 * (size_t)arena->bytes;
    uint8_t *const base = shim_pointer(arena->base);
    if (arena->blocks != NULL) {
        return;
    }
    arena->blocks =
        mmap(NULL, MOST * sizeof(block_t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const void *const mapped = mmap(base - GUARD, bytes + 2 * GUARD, PROT_NONE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (arena->blocks == MAP_FAILED || mapped != base - GUARD ||
        mprotect(base, bytes, PROT_READ | PROT_WRITE) != 0) {
        shim_die(arena->name);
    }
    memset(base, SHIM_PATTERN, bytes);
    shim_poison(arena->base, (uint32_t)bytes);
    if (arena == &l1) {
        arena->reserved += static_l1_bytes();
    }
}

/* Returns the place of the first hole for `bytes`, and as *index before which block it lies. */
static uint32_t hole(const arena_t *arena, uint32_t bytes, uint32_t *index) {
    uint32_t start = arena->base + GAP;
    for (*index = 0; *index < arena->count; (*index)++) {
        const block_t *block = &arena->blocks[*index];
        if (start + bytes + GAP <= block->start) {
            break;
        }
        start = (block->start + block->bytes + GAP + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    return start;
}

static void *allocate(arena_t *arena, uint32_t bytes) {
    uint32_t index;
    map(arena);
    if (bytes == 0 || bytes > arena->bytes - arena->reserved - arena->used || arena->count == MOST) {
        return NULL;
    }
    const uint32_t start = hole(arena, bytes, &index);
    if (start + bytes + GAP > arena->base + 2 * arena->bytes) {
        return NULL;
    }
    memmove(&arena->blocks[index + 1], &arena->blocks[index], (arena->count - index) * sizeof(block_t));
    arena->blocks[index] = (block_t){start, bytes};
    arena->count++;
    arena->used += bytes;
    shim_unpoison(start, bytes);
    memset(shim_pointer(start), SHIM_PATTERN, bytes);
    return shim_pointer(start);
}

/* The sanitizer must not see that the shim looks at what it guards. */
static int __attribute__((no_sanitize_address)) is_pattern(uint32_t address, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i++) {
        if (*(const volatile uint8_t *)shim_pointer(address + i) != SHIM_PATTERN) {
            return 0;
        }
    }
    return 1;
}

static void check(const arena_t *arena, const block_t *block) {
    const int below = !is_pattern(block->start - GAP, GAP);
    if (below || !is_pattern(block->start + block->bytes, GAP)) {
        shim_fault("something was written %s an allocation of %u bytes of %s", below ? "before" : "behind",
                   block->bytes, arena->name);
    }
}

static void release(arena_t *arena, const void *chunk, uint32_t bytes) {
    uint32_t index = 0;
    while (index < arena->count && arena->blocks[index].start != address_of(chunk)) {
        index++;
    }
    if (index == arena->count) {
        shim_fault("%p is freed, which is no allocation of %s", chunk, arena->name);
    }
    const block_t block = arena->blocks[index];
    if (block.bytes != bytes) {
        shim_fault("%u bytes of %s are freed as %u", block.bytes, arena->name, bytes);
    }
    check(arena, &block);
    memset(shim_pointer(block.start), SHIM_PATTERN, block.bytes);
    shim_poison(block.start, block.bytes);
    arena->count--;
    arena->used -= bytes;
    memmove(&arena->blocks[index], &arena->blocks[index + 1], (arena->count - index) * sizeof(block_t));
}

static int holds(const arena_t *arena, uint32_t address, uint32_t bytes) {
    for (uint32_t i = 0; i < arena->count; i++) {
        const block_t *block = &arena->blocks[i];
        if (address >= block->start && (uint64_t)address + bytes <= (uint64_t)block->start + block->bytes) {
            return 1;
        }
    }
    return 0;
}

static int holds_locked(const arena_t *arena, uint32_t address, uint32_t bytes) {
    pthread_mutex_lock(&lock);
    const int found = holds(arena, address, bytes);
    pthread_mutex_unlock(&lock);
    return found;
}

static int within(uint32_t address, uint64_t bytes, const uint8_t *start, const uint8_t *end) {
    return address >= address_of(start) && address + bytes <= address_of(end);
}

int shim_is_l1(uint32_t address) {
    return (address >= l1.base && address - l1.base < 2 * l1.bytes) ||
           within(address, 1, __start_ft_cl_l1, __stop_ft_cl_l1);
}

int shim_is_usable_l1(uint32_t address, uint32_t bytes) {
    return within(address, bytes, __start_ft_cl_l1, __stop_ft_cl_l1) || holds_locked(&l1, address, bytes);
}

int shim_is_usable_l2(uint32_t address, uint32_t bytes, int written) {
    return within(address, bytes, written ? __data_start : __executable_start, _end) ||
           holds_locked(&l2, address, bytes);
}

void shim_reserve_l1(uint32_t bytes) {
    pthread_mutex_lock(&lock);
    map(&l1);
    l1.reserved = bytes + static_l1_bytes();
    if (l1.reserved + l1.used > l1.bytes) {
        shim_fault(
            "the stacks do not fit into L1: %u bytes for them, %u allocated, %u of static data, and there "
            "are %u",
            bytes, l1.used, static_l1_bytes(), l1.bytes);
    }
    pthread_mutex_unlock(&lock);
}

void shim_check_memory(void) {
    const arena_t *const arenas[] = {&l1, &l2};
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < 2; i++) {
        for (uint32_t k = 0; k < arenas[i]->count; k++) {
            check(arenas[i], &arenas[i]->blocks[k]);
        }
    }
    pthread_mutex_unlock(&lock);
}

static void need_cluster(void) {
    if (!shim_cluster_is_open()) {
        shim_fault("L1 is used although the cluster is not open");
    }
}

void *pi_cl_l1_malloc(struct pi_device *cluster, uint32_t size) {
    (void)cluster;
    need_cluster();
    pthread_mutex_lock(&lock);
    void *const chunk = allocate(&l1, size);
    pthread_mutex_unlock(&lock);
    return chunk;
}

void pi_cl_l1_free(struct pi_device *cluster, void *chunk, int size) {
    (void)cluster;
    need_cluster();
    pthread_mutex_lock(&lock);
    release(&l1, chunk, (uint32_t)size);
    pthread_mutex_unlock(&lock);
}

void *pi_l2_malloc(int size) {
    pthread_mutex_lock(&lock);
    void *const chunk = allocate(&l2, (uint32_t)size);
    pthread_mutex_unlock(&lock);
    return chunk;
}

void pi_l2_free(void *chunk, int size) {
    pthread_mutex_lock(&lock);
    release(&l2, chunk, (uint32_t)size);
    pthread_mutex_unlock(&lock);
}
