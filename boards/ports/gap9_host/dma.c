/* The cluster's DMA, as late as it may be (late.c). */
#define _GNU_SOURCE
#include "pmsis.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "shim.h"

#define MOST       16     /* commands at once: PULP's DMA has so many identifiers */
#define MOST_BYTES 65535u /* in some of the kit's versions the size has 16 bits */

typedef struct {
    pi_cl_dma_cmd_t *cmd; /* NULL: free */
    uint32_t ext, loc, size, stride, length;
    int to_l1;
    late_t copy;
} transfer_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static transfer_t *transfers; /* MOST */

static const char *name(const transfer_t *transfer) {
    return transfer->to_l1 ? "L2 -> L1" : "L1 -> L2";
}

static uint32_t lines(const transfer_t *transfer) {
    return transfer->size / transfer->length;
}

static uint32_t reach_in_l2(const transfer_t *transfer) {
    return (lines(transfer) - 1) * transfer->stride + transfer->length;
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
    const uint32_t reach = reach_in_l2(new);
    if (!shim_is_usable_l2(new->ext, reach, !new->to_l1)) {
        shim_fault("a DMA command (%s) has %#x for its address in L2, and %u bytes there are no static data "
                   "that it may use, and are not allocated",
                   name(new), new->ext, reach);
    }
    if (shim_comes_from_l3(new->ext, reach)) {
        shim_fault("a DMA command (%s, %u bytes) has bytes of L2 to which a read from L3 was not waited for",
                   name(new), new->size);
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

static void begin(transfer_t *transfer) {
    late_t *const copy = &transfer->copy;
    uint8_t *const l1 = shim_pointer(transfer->loc), *const l2 = shim_pointer(transfer->ext);
    snprintf(copy->what, sizeof copy->what, "a DMA command (%s, %u bytes)", name(transfer), transfer->size);
    copy->to = transfer->to_l1 ? l1 : l2;
    copy->from = transfer->to_l1 ? l2 : l1;
    copy->to_stride = transfer->to_l1 ? transfer->length : transfer->stride;
    copy->from_stride = transfer->to_l1 ? transfer->stride : transfer->length;
    copy->length = transfer->length;
    copy->lines = lines(transfer);
    shim_late_begin(copy);
}

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
    shim_late_end(&transfer->copy);
    pthread_mutex_lock(&lock);
    transfer->cmd = NULL;
    cmd->id = -1;
    pthread_mutex_unlock(&lock);
}

int shim_dma_moves(uint32_t address, uint32_t bytes) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; transfers != NULL && i < MOST; i++) {
        const transfer_t *const open = &transfers[i];
        if (open->cmd != NULL) {
            found |= address < open->ext + reach_in_l2(open) && open->ext < address + bytes;
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

void shim_check_dma(void) {
    for (int i = 0; transfers != NULL && i < MOST; i++) {
        if (transfers[i].cmd != NULL) {
            shim_fault("a DMA command (%s, %u bytes) was not waited for when the cluster's task ended",
                       name(&transfers[i]), transfers[i].size);
        }
    }
}
