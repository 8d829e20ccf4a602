/* The chip that boards/ports/pulp_open is for, with what that port uses of it: a fabric controller, a cluster
 * of eight cores and a ninth, L1, L2, the cluster's control registers, its DMA, semihosting. It stands in for
 * GVSOC where that is not installed, from the same published facts, and counts instructions: in each round
 * every core that is on executes one. It knows no stalls and no contention.
 *
 *     pulp_open [--counts FILE] [--l1 BYTES] PROGRAM
 *
 * File 0 of the program is this process's standard input, both ways. FILE shows, while the program runs, what
 * counts_t has for each core.
 *
 * It is stricter than a chip: memory has an end, the DMA's target is poisoned until the transfer is over, the
 * source is read then, and devices take whole words only, from the core that they belong to.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "core.h"
#include "program.h"

#define CORES   10
#define WORKERS 8
#define MASTER  8
#define FC      9         /* the fabric controller, here */
#define FC_HART (31 << 5) /* as which it knows itself: cluster 31, core 0 */

#define L1_START 0x10000000u
#define L1_MOST  0x00040000u
#define L2_START 0x1c000000u
#define L2_BYTES 0x00190000u

#define CONTROL_CORES 0x10200008u
#define CONTROL_CLOCK 0x10200020u
#define CONTROL_BOOT  0x10200040u
#define CACHE_ENABLE  0x10201400u
#define DMA_COMMAND   0x10204400u
#define DMA_STATUS    0x10204404u

#define CSR_CYCLES 0x780u
#define CSR_EVENTS 0xcc0u
#define CSR_MODE   0xcc1u

#define POISON      0xa5
#define IDLE_US     100 /* a program that asks the line in vain need not ask again at once */
#define DMA_ROUNDS  46  /* of a transfer, and */
#define DMA_A_ROUND 8   /* bytes: fitted in GVSOC, see docs/gap9.md */

/* What FILE holds, a core after the other. */
typedef struct {
    uint64_t instructions;
    uint64_t lowest_stack; /* address */
} counts_t;

#define COUNTERS 16
#define QUEUE    64

/* A transfer of the DMA: lines of `length` bytes, `stride` apart in L2; it is over in a round. */
typedef struct {
    uint32_t ext, loc, size, length, stride, counter;
    int to_l1;
    uint64_t over;
} transfer_t;

static uint8_t l1[L1_MOST], l2[L2_BYTES];
static uint32_t l1_bytes = 0x10000;
static core_t cores[CORES];
static uint32_t boot[MASTER + 1];
static uint32_t is_on, clock_is_on, cache_is_on;
static uint64_t rounds;
static counts_t no_counts[CORES];
static counts_t *counts = no_counts;

/* The DMA: counters that are taken, and transfers in the order in which they were asked for. */
static uint32_t taken, counter_of[CORES];
static uint32_t words[CORES][5];
static int word_count[CORES];
static transfer_t queue[QUEUE];
static int queued;

uint8_t *machine_memory(uint32_t address, uint32_t size) {
    if (address - L1_START <= l1_bytes - size && address >= L1_START)
        return l1 + (address - L1_START);
    if (address - L2_START <= L2_BYTES - size && address >= L2_START)
        return l2 + (address - L2_START);
    return NULL;
}

static int is_l1(uint32_t address) {
    return address - L1_START < l1_bytes;
}

static uint8_t *operand(uint32_t address, uint32_t count) {
    if (machine_memory(address, 1) == NULL || (count > 0 && machine_memory(address + count - 1, 1) == NULL))
        core_fail("address 0x%08x lies outside memory", address);
    return machine_memory(address, 1);
}

/* --- DMA -------------------------------------------------------------------------------------------- */

/* Calls `each` for every line of a transfer. */
static void lines(const transfer_t *transfer,
                  void (*each)(uint8_t *l1_line, uint8_t *l2_line, uint32_t bytes, int to_l1)) {
    for (uint32_t done = 0; done < transfer->size; done += transfer->length) {
        const uint32_t rest = transfer->size - done,
                       bytes = rest < transfer->length ? rest : transfer->length;
        const uint32_t ext = transfer->ext + done / transfer->length * transfer->stride;
        each(operand(transfer->loc + done, bytes), operand(ext, bytes), bytes, transfer->to_l1);
    }
}

static void poison_line(uint8_t *l1_line, uint8_t *l2_line, uint32_t bytes, int to_l1) {
    memset(to_l1 ? l1_line : l2_line, POISON, bytes);
}

static void copy_line(uint8_t *l1_line, uint8_t *l2_line, uint32_t bytes, int to_l1) {
    memcpy(to_l1 ? l1_line : l2_line, to_l1 ? l2_line : l1_line, bytes);
}

static void begin(int core) {
    const uint32_t *const word = words[core];
    const int in_lines = word[0] >> 19 & 1;
    transfer_t transfer = {.loc = word[1], .ext = word[2], .size = word[0] & 0x1ffff};
    transfer.counter = counter_of[core];
    transfer.to_l1 = word[0] >> 17 & 1;
    transfer.length = in_lines ? word[3] : transfer.size;
    transfer.stride = in_lines ? word[4] : transfer.size;
    /* One after the other. */
    transfer.over = (queued > 0 ? queue[queued - 1].over : rounds) + DMA_ROUNDS + transfer.size / DMA_A_ROUND;
    if (!(word[0] >> 18 & 1) || transfer.size == 0 || transfer.length == 0)
        core_fail("a DMA command 0x%08x", word[0]);
    if (!is_l1(transfer.loc) || is_l1(transfer.ext))
        core_fail("a DMA command between 0x%08x and 0x%08x", transfer.loc, transfer.ext);
    if (queued == QUEUE)
        core_fail("more DMA commands than can wait");
    lines(&transfer, poison_line);
    queue[queued++] = transfer;
    word_count[core] = 0;
}

static void take_word(int core, uint32_t value) {
    words[core][word_count[core]++] = value;
    if (word_count[core] == (words[core][0] >> 19 & 1 ? 5 : 3))
        begin(core);
}

static void finish_transfers(void) {
    while (queued > 0 && queue[0].over <= rounds) {
        lines(&queue[0], copy_line);
        memmove(queue, queue + 1, (size_t)--queued * sizeof *queue);
    }
}

static uint32_t free_counter(int core) {
    for (uint32_t k = 0; k < COUNTERS; k++)
        if (!(taken >> k & 1)) {
            taken |= 1u << k;
            counter_of[core] = k;
            return k;
        }
    core_fail("all counters of the DMA are taken: the core waits for ever");
}

static uint32_t dma_status(void) {
    uint32_t busy = 0;
    for (int k = 0; k < queued; k++)
        busy |= 1u << queue[k].counter;
    return taken << 16 | busy;
}

/* --- devices ---------------------------------------------------------------------------------------- */

static int number_of(const core_t *core) {
    return (int)(core - cores);
}

static void check_access(const core_t *core, uint32_t address, uint32_t size) {
    const int is_dma = address == DMA_COMMAND || address == DMA_STATUS;
    const int is_control = address == CONTROL_CORES || address == CONTROL_CLOCK || address == CACHE_ENABLE ||
                           (address >= CONTROL_BOOT && address < CONTROL_BOOT + sizeof boot);
    if (size != 4 || !(is_dma || is_control))
        core_fail("address 0x%08x lies outside memory", address);
    if (is_dma && number_of(core) == FC)
        core_fail("the fabric controller has no port to the cluster's DMA");
}

uint32_t machine_read(core_t *core, uint32_t address, uint32_t size) {
    check_access(core, address, size);
    if (address == DMA_COMMAND)
        return free_counter(number_of(core));
    if (address == DMA_STATUS)
        return dma_status();
    core_fail("register 0x%08x is not to be read", address);
}

static void turn_on(uint32_t mask) {
    if (!clock_is_on || !cache_is_on)
        core_fail("the cluster's cores begin without a clock or without a cache");
    for (int k = 0; k <= MASTER; k++)
        if (mask >> k & ~is_on >> k & 1) {
            cores[k].pc = boot[k];
            counts[k].lowest_stack = UINT64_MAX;
        }
    is_on = (is_on & 1u << FC) | mask;
}

void machine_write(core_t *core, uint32_t address, uint32_t size, uint32_t value) {
    check_access(core, address, size);
    switch (address) {
    case DMA_COMMAND:
        take_word(number_of(core), value);
        break;
    case DMA_STATUS:
        if (dma_status() & value & 0xffffu)
            core_fail("a counter of the DMA is freed while it counts");
        taken &= ~value;
        break;
    case CONTROL_CLOCK:
        clock_is_on = value & 1;
        break;
    case CACHE_ENABLE:
        cache_is_on = value;
        break;
    case CONTROL_CORES:
        turn_on(value);
        break;
    default:
        boot[(address - CONTROL_BOOT) / 4] = value;
    }
}

uint32_t *machine_register(core_t *core, uint32_t number) {
    static uint32_t events[CORES], mode[CORES], cycles;
    const int k = number_of(core);
    switch (number) {
    case CSR_EVENTS:
        return &events[k];
    case CSR_MODE:
        return &mode[k];
    case CSR_CYCLES:
        cycles = events[k] == 1 && mode[k] == 3 ? (uint32_t)rounds : 0;
        return &cycles;
    default:
        core_fail("control register 0x%03x", number);
    }
}

/* --- semihosting: what GVSOC makes of it (models/cpu/iss/src/syscalls.cpp) ---------------------------------
 */

static void wait_for_input(void) {
    struct pollfd line = {0, POLLIN, 0};
    const struct timespec pause = {0, IDLE_US * 1000};
    (void)ppoll(&line, 1, &pause, NULL);
}

static uint32_t write_file(const uint32_t request[3]) {
    const ssize_t count = write((int)request[0], operand(request[1], request[2]), request[2]);
    return count == (ssize_t)request[2] ? 0 : request[2]; /* how many it were is forgotten */
}

static uint32_t read_file(const uint32_t request[3]) {
    for (uint32_t done = 0; done < request[2];) {
        const uint32_t left = request[2] - done;
        const ssize_t count = read((int)request[0], operand(request[1] + done, left), left);
        if (count < 0) {
            wait_for_input();
            return UINT32_MAX; /* even if some have come */
        }
        if (count == 0)
            return left;
        done += (uint32_t)count;
    }
    return 0;
}

void machine_call(core_t *core) {
    uint32_t request[3];
    switch (core->x[10]) {
    case 0x05:
        memcpy(request, operand(core->x[11], sizeof request), sizeof request);
        core->x[10] = write_file(request);
        break;
    case 0x06:
        memcpy(request, operand(core->x[11], sizeof request), sizeof request);
        core->x[10] = read_file(request);
        break;
    case 0x18:
        exit(core->x[11] == 0x20026 ? 0 : 1);
    default:
        core_fail("semihosting %u", core->x[10]);
    }
}

/* --- */

static void show_counts(const char *path) {
    const int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || ftruncate(file, sizeof no_counts) != 0)
        core_fail("cannot write %s: %s", path, strerror(errno));
    counts = mmap(NULL, sizeof no_counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (counts == MAP_FAILED)
        core_fail("cannot map %s: %s", path, strerror(errno));
}

static void step(int k) {
    core_step(&cores[k]);
    counts[k].instructions++;
    if (cores[k].x[2] < counts[k].lowest_stack && cores[k].x[2] != 0)
        counts[k].lowest_stack = cores[k].x[2];
}

int main(int count, char **arguments) {
    for (; count > 3; count -= 2, arguments += 2) {
        if (strcmp(arguments[1], "--counts") == 0)
            show_counts(arguments[2]);
        else if (strcmp(arguments[1], "--l1") == 0 && strtoul(arguments[2], NULL, 0) <= L1_MOST)
            l1_bytes = (uint32_t)strtoul(arguments[2], NULL, 0);
        else
            break;
    }
    if (count != 2) {
        fprintf(stderr, "usage: pulp_open [--counts FILE] [--l1 BYTES] PROGRAM\n");
        return 2;
    }
    memset(l1, POISON, sizeof l1);
    memset(l2, POISON, sizeof l2);
    for (uint32_t k = 0; k < CORES; k++)
        cores[k].hart = k == FC ? FC_HART : k;
    cores[FC].pc = program_load(arguments[1]);
    counts[FC].lowest_stack = UINT64_MAX;
    is_on = 1u << FC;
    for (;; rounds++) {
        finish_transfers();
        for (int k = 0; k < CORES; k++)
            if (is_on >> k & 1)
                step(k);
    }
}
