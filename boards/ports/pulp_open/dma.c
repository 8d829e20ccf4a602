/* The cluster's DMA (mchan, version 7) by the registers that each core has of it. */
#include "pmsis.h"
#include "pulp_open.h"

/* Read: a free counter, or wait for one; written: the words of a command. */
#define COMMAND REGISTER(0x10204400u)
/* Read: counters with bytes to go; written: counters that are free. */
#define STATUS REGISTER(0x10204404u)

#define TO_L1  (1u << 17)
#define MOVING (1u << 18) /* addresses go on, as those of memory do */
#define LINES  (1u << 19) /* in L2 */

static void begin(uint32_t ext, uint32_t loc, uint32_t size, uint32_t flags, pi_cl_dma_dir_e dir,
                  pi_cl_dma_cmd_t *cmd) {
    cmd->id = (int)COMMAND;
    COMMAND = size | flags | MOVING | (dir == PI_CL_DMA_DIR_EXT2LOC ? TO_L1 : 0);
    COMMAND = loc;
    COMMAND = ext;
}

void pi_cl_dma_cmd(uint32_t ext, uint32_t loc, uint32_t size, pi_cl_dma_dir_e dir, pi_cl_dma_cmd_t *cmd) {
    begin(ext, loc, size, 0, dir, cmd);
}

void pi_cl_dma_cmd_2d(uint32_t ext, uint32_t loc, uint32_t size, uint32_t stride, uint32_t length,
                      pi_cl_dma_dir_e dir, pi_cl_dma_cmd_t *cmd) {
    begin(ext, loc, size, LINES, dir, cmd);
    COMMAND = length;
    COMMAND = stride;
}

void pi_cl_dma_cmd_wait(pi_cl_dma_cmd_t *cmd) {
    const uint32_t counter = 1u << cmd->id;
    while (STATUS & counter) {
    }
    STATUS = counter;
    __asm volatile("" ::: "memory"); /* what it has brought is read after this */
}
