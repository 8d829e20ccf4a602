/* The cluster's DMA, as late as it may be: what a command copies is there when it has been waited for, and
 * not before.
 *
 * Until then the target holds SHIM_PATTERN, and the address sanitizer guards it; the source is compared, when
 * the command is waited for, with what it was. For the thread sanitizer a thread of its own copies at some
 * time, which nothing orders but the command and its wait: whoever touches the target meanwhile, or changes
 * the source, races.
 */
#define _GNU_SOURCE
#include "pmsis.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include "shim.h"

#define MOST       16     /* commands at once: PULP's DMA has so many identifiers */
#define MOST_BYTES 65535u /* in some of the kit's versions the size has 16 bits */
#define LATE_US    50

typedef struct {
    pi_cl_dma_cmd_t *cmd; /* NULL: free */
    uint32_t ext, loc, size, stride, length;
    int to_l1;
    uint8_t *before; /* the source as it was, lines in a row */
#if SHIM_THREAD
    pthread_t thread;
    sem_t begin, end;
#endif
} transfer_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static transfer_t *transfers; /* MOST */

static const char *name(const transfer_t *transfer) {
    return transfer->to_l1 ? "L2 -> L1" : "L1 -> L2";
}

/* Lines of a transfer, as offsets in L2 and in L1. */
static uint32_t in_l2(const transfer_t *transfer, uint32_t line) {
    return transfer->ext + line * transfer->stride;
}

static uint32_t in_l1(const transfer_t *transfer, uint32_t line) {
    return transfer->loc + line * transfer->length;
}

static uint32_t source(const transfer_t *transfer, uint32_t line) {
    return transfer->to_l1 ? in_l2(transfer, line) : in_l1(transfer, line);
}

static uint32_t target(const transfer_t *transfer, uint32_t line) {
    return transfer->to_l1 ? in_l1(transfer, line) : in_l2(transfer, line);
}

static uint32_t lines(const transfer_t *transfer) {
    return transfer->size / transfer->length;
}

static void check_command(const transfer_t *new) {
    if (new->size == 0 || new->size > MOST_BYTES) {
        shim_fault("a DMA command copies %u bytes; 1 to %u are possible", new->size, MOST_BYTES);
    }
    if (new->length == 0 || new->size % new->length != 0 || new->stride < new->length ||
        new->stride > MOST_BYTES) {
        shim_fault("a DMA command of %u bytes has lines of %u bytes every %u", new->size, new->length,
                   new->stride);
    }
    if (shim_is_l1(new->ext)) {
        shim_fault("a DMA command has %#x for its address in L2, which is L1", new->ext);
    }
    if (!shim_is_l1(new->loc)) {
        shim_fault("a DMA command has %#x for its address in L1, which is not L1", new->loc);
    }
    if (!shim_is_usable_l1(new->loc, new->size)) {
        shim_fault("a DMA command of %u bytes at %#x leaves what is allocated of L1", new->size, new->loc);
    }
    const uint32_t reach = (lines(new) - 1) * new->stride + new->length;
    if (!shim_is_usable_l2(new->ext, reach, !new->to_l1)) {
        shim_fault("a DMA command (%s) has %#x for its address in L2, and %u bytes there are no static data "
                   "that it may use, and are not allocated",
                   name(new), new->ext, reach);
    }
}

/* Both lie in a row in L1; in L2, the lines of two may lie between each other. */
static void check_apart(const transfer_t *new, const transfer_t *open) {
    const int reads = !new->to_l1 && !open->to_l1;
    if (!reads && new->loc < open->loc + open->size && open->loc < new->loc + new->size) {
        shim_fault(
            "a DMA command (%s, %u bytes) and one that was not waited for (%s, %u bytes) share bytes of L1",
            name(new), new->size, name(open), open->size);
    }
}

#if SHIM_THREAD

static void *copy(void *given) {
    transfer_t *const transfer = given;
    for (;;) {
        sem_wait(&transfer->begin);
        pi_time_wait_us(LATE_US);
        for (uint32_t line = 0; line < lines(transfer); line++) {
            memcpy(shim_pointer(target(transfer, line)), shim_pointer(source(transfer, line)),
                   transfer->length);
        }
        sem_post(&transfer->end);
    }
    return NULL;
}

static void begin(transfer_t *transfer) {
    if (transfer->thread == 0) {
        sem_init(&transfer->begin, 0, 0);
        sem_init(&transfer->end, 0, 0);
        if (pthread_create(&transfer->thread, NULL, copy, transfer) != 0) {
            shim_die("DMA");
        }
    }
    sem_post(&transfer->begin);
}

static void end(transfer_t *transfer) {
    while (sem_wait(&transfer->end) != 0) {
    }
}

#else

static void begin(transfer_t *transfer) {
    transfer->before = malloc(transfer->size);
    if (transfer->before == NULL) {
        shim_die("DMA");
    }
    for (uint32_t line = 0; line < lines(transfer); line++) {
        memcpy(transfer->before + line * transfer->length, shim_pointer(source(transfer, line)),
               transfer->length);
    }
    for (uint32_t line = 0; line < lines(transfer); line++) {
        memset(shim_pointer(target(transfer, line)), SHIM_PATTERN, transfer->length);
        shim_poison(target(transfer, line), transfer->length);
    }
}

static int is_pattern(const uint8_t *bytes, uint32_t size) {
    while (size > 0 && *bytes == SHIM_PATTERN) {
        bytes++;
        size--;
    }
    return size == 0;
}

static void end(transfer_t *transfer) {
    for (uint32_t line = 0; line < lines(transfer); line++) {
        const uint8_t *const before = transfer->before + line * transfer->length;
        uint8_t *const to = shim_pointer(target(transfer, line));
        shim_unpoison(target(transfer, line), transfer->length);
        if (memcmp(before, shim_pointer(source(transfer, line)), transfer->length) != 0) {
            shim_fault("the source of a DMA command (%s, %u bytes) was changed before it was waited for",
                       name(transfer), transfer->size);
        }
        if (!is_pattern(to, transfer->length)) {
            shim_fault("the target of a DMA command (%s, %u bytes) was written before it was waited for",
                       name(transfer), transfer->size);
        }
        memcpy(to, before, transfer->length);
    }
    free(transfer->before);
}

#endif

/* With the lock held: a free one, of which the command knows. */
static transfer_t *take_transfer(const transfer_t *new) {
    transfer_t *found = NULL;
    if (transfers == NULL && (transfers = calloc(MOST, sizeof *transfers)) == NULL) {
        shim_die("DMA");
    }
    for (int i = MOST - 1; i >= 0; i--) {
        if (transfers[i].cmd == NULL) {
            found = &transfers[i];
            continue;
        }
        if (transfers[i].cmd == new->cmd) {
            shim_fault("a DMA command is given again that was not waited for");
        }
        check_apart(new, &transfers[i]);
    }
    if (found == NULL) {
        shim_fault("%d DMA commands are not waited for, and there cannot be more", MOST);
    }
    found->cmd = new->cmd;
    found->ext = new->ext;
    found->loc = new->loc;
    found->size = new->size;
    found->stride = new->stride;
    found->length = new->length;
    found->to_l1 = new->to_l1;
    found->cmd->id = (int)(found - transfers);
    return found;
}

void pi_cl_dma_cmd_2d(uint32_t ext, uint32_t loc, uint32_t size, uint32_t stride, uint32_t length,
                      pi_cl_dma_dir_e dir, pi_cl_dma_cmd_t *cmd) {
    const transfer_t new = {.cmd = cmd,
                            .ext = ext,
                            .loc = loc,
                            .size = size,
                            .stride = stride,
                            .length = length,
                            .to_l1 = dir == PI_CL_DMA_DIR_EXT2LOC};
    if (shim_core() == SHIM_FC) {
        shim_fault("the DMA is for the cluster's cores");
    }
    check_command(&new);
    pthread_mutex_lock(&lock);
    transfer_t *const transfer = take_transfer(&new);
    pthread_mutex_unlock(&lock);
    begin(transfer);
}

void pi_cl_dma_cmd(uint32_t ext, uint32_t loc, uint32_t size, pi_cl_dma_dir_e dir, pi_cl_dma_cmd_t *cmd) {
    pi_cl_dma_cmd_2d(ext, loc, size, size, size, dir, cmd);
}

void pi_cl_dma_cmd_wait(pi_cl_dma_cmd_t *cmd) {
    pthread_mutex_lock(&lock);
    transfer_t *const transfer =
        transfers != NULL && cmd->id >= 0 && cmd->id < MOST ? &transfers[cmd->id] : NULL;
    if (transfer == NULL || transfer->cmd != cmd) {
        shim_fault("a DMA command is waited for that is not open: waited for twice, or never given");
    }
    pthread_mutex_unlock(&lock);
    end(transfer);
    pthread_mutex_lock(&lock);
    transfer->cmd = NULL;
    cmd->id = -1;
    pthread_mutex_unlock(&lock);
}

void shim_check_dma(void) {
    for (int i = 0; transfers != NULL && i < MOST; i++) {
        if (transfers[i].cmd != NULL) {
            shim_fault("a DMA command (%s, %u bytes) was not waited for when the cluster's task ended",
                       name(&transfers[i]), transfers[i].size);
        }
    }
}
