#include "cluster/team.h"
#include "cluster/team_config.h"

#define MOST_BYTES 32767u /* of a DMA command: GAP8's kit moves more by software; the field has 16 bits */

#define COMMANDS 8 /* on their way at once, of one transfer: the DMA has 16 counters */

/* The commands that bring a tile or take it away. */
typedef struct {
    pi_cl_dma_cmd_t commands[COMMANDS];
    int count;
} transfer_t;

static struct pi_device cluster;
static int is_open;
static uint8_t *l1; /* FT_TEAM_L1_BYTES of it */
#ifdef FT_TEAM_MASTER_WORKS
static uint8_t *stacks; /* core 0's first */
#endif
static transfer_t reading[2], writing[2]; /* of tiles with an even and with an odd number */

static uint8_t *from_l1(uint32_t bytes) {
    uint8_t *const chunk = pi_l1_malloc(&cluster, bytes);
    if (chunk == NULL) {
        pmsis_exit(-2);
    }
    return chunk;
}

/* On GAP8 the stack of the master, core 0, comes with the task as those of the others do. Its kit would take
 * them from L1 for each task, and give them back after it has said that the task is over, when the next one
 * may want them: so they are ours. And its cluster has no clock to keep before it is powered up.
 */
static void open_cluster(void) {
    struct pi_cluster_conf conf;
    pi_cluster_conf_init(&conf);
    conf.id = 0;
#ifndef FT_TEAM_MASTER_WORKS
    conf.cc_stack_size = FT_TEAM_MASTER_STACK;
#endif
    pi_open_from_conf(&cluster, &conf);
    if (pi_cluster_open(&cluster) != 0) {
        pmsis_exit(-1);
    }
#ifdef FT_TEAM_MASTER_WORKS
    pi_freq_set(PI_FREQ_DOMAIN_CL, FT_TEAM_CLOCK_HZ);
    stacks = from_l1(FT_TEAM_STACKS);
#endif
    l1 = from_l1(FT_TEAM_L1_BYTES);
    is_open = 1;
}

void ft_team_run(void (*work)(void *argument), void *argument) {
    struct pi_cluster_task task;
    if (!is_open) {
        open_cluster();
    }
    pi_cluster_task(&task, work, argument);
#ifdef FT_TEAM_MASTER_WORKS
    task.stacks = stacks;
    task.stack_size = FT_TEAM_MASTER_STACK;
#endif
    task.slave_stack_size = FT_TEAM_SLAVE_STACK;
    pi_cluster_send_task_to_cl(&cluster, &task);
}

static void finish(transfer_t *transfer) {
    for (int k = 0; k < transfer->count; k++) {
        pi_cl_dma_cmd_wait(&transfer->commands[k]);
    }
    transfer->count = 0;
}

static pi_cl_dma_cmd_t *next_command(transfer_t *transfer) {
    if (transfer->count == COMMANDS) {
        finish(transfer);
    }
    return &transfer->commands[transfer->count++];
}

/* Starts `lines` lines of `length` bytes on their way, which lie `stride` apart in L2 and densely in L1. */
static void start(transfer_t *transfer, const uint8_t *l2, const uint8_t *local, uint32_t length,
                  uint32_t stride, uint32_t lines, pi_cl_dma_dir_e direction) {
    if (length == stride) {
        length *= lines;
        lines = 1;
    }
    while (lines > 1) {
        const uint32_t most = MOST_BYTES / length, some = lines < most ? lines : most;
        pi_cl_dma_cmd_2d((uintptr_t)l2, (uintptr_t)local, some * length, stride, length, direction,
                         next_command(transfer));
        l2 += some * stride;
        local += some * length;
        lines -= some;
    }
    while (lines > 0 && length > 0) {
        const uint32_t some = length < MOST_BYTES ? length : MOST_BYTES;
        pi_cl_dma_cmd((uintptr_t)l2, (uintptr_t)local, some, direction, next_command(transfer));
        l2 += some;
        local += some;
        length -= some;
    }
}

static uint8_t *buffer_of(const ft_buffer_t *buffer, int tile) {
    return l1 + buffer->to + (tile & 1 ? buffer->other : 0);
}

/* Starts maps `from` to before `to` of a tile on their way. */
static void move(const ft_layer_t *layer, int tile, int from, int to, transfer_t *transfer,
                 pi_cl_dma_dir_e direction) {
    const ft_piece_t *const pieces = layer->pieces + tile * (layer->read + layer->made);
    for (int k = from; k < to; k++) {
        const ft_buffer_t *const buffer = &layer->buffers[k];
        start(transfer, pieces[k].at, buffer_of(buffer, tile), buffer->length, buffer->stride,
              (uint32_t)pieces[k].rows * buffer->per_row, direction);
    }
}

static void fetch(const ft_layer_t *layer, int tile) {
    move(layer, tile, 0, layer->read, &reading[tile & 1], PI_CL_DMA_DIR_EXT2LOC);
}

static void fetch_constants(const ft_layer_t *layer) {
    for (int k = 0; k < layer->constant_count; k++) {
        const ft_constant_t *const constant = &layer->constants[k];
        start(&reading[0], constant->from, l1 + constant->to, constant->bytes, constant->bytes, 1,
              PI_CL_DMA_DIR_EXT2LOC);
    }
    finish(&reading[0]);
}

/* Tells the cores of a tile whose maps are in L1. */
static void describe(ft_tile_t *known, const ft_layer_t *layer, int tile) {
    const int maps = layer->read + layer->made;
    for (int k = 0; k < maps; k++) {
        const ft_buffer_t *const buffer = &layer->buffers[k];
        const int32_t row = (int32_t)(buffer->length * buffer->per_row);
        known->at[k] = buffer_of(buffer, tile) - layer->pieces[tile * maps + k].first * row;
    }
    known->y0 = layer->tiles[tile].first;
    known->y1 = layer->tiles[tile].end;
}

void ft_team_layer(const ft_layer_t *layer, int first, int end, const void *band, const ft_hyper_t *hyper,
                   float *losses) {
    ft_tile_t *const known = (ft_tile_t *)(void *)l1;
    if (first == end) {
        return;
    }
    known->band = band;
    known->hyper = hyper;
    known->losses = losses;
    known->scratch = l1 + layer->scratch;
    known->seen = l1 + layer->seen;
    for (int k = 0; k < layer->constant_count; k++) {
        known->at[layer->read + layer->made + k] = l1 + layer->constants[k].to;
    }
    fetch_constants(layer);
    fetch(layer, first);
    for (int tile = first; tile < end; tile++) {
        finish(&reading[tile & 1]);
        if (tile + 1 < end) {
            fetch(layer, tile + 1);
        }
        finish(&writing[tile & 1]); /* the tile before the last, which was in the same buffer */
        describe(known, layer, tile);
        if (layer->before != NULL && tile == first) {
            layer->before(known);
        }
        if (layer->prepare != NULL && tile == first) {
            pi_cl_team_fork(layer->cores, layer->prepare, known);
        }
        pi_cl_team_fork(layer->cores, layer->work, known);
        if (layer->after != NULL) {
            layer->after(known);
        }
        move(layer, tile, layer->read, layer->read + layer->made, &writing[tile & 1], PI_CL_DMA_DIR_LOC2EXT);
    }
    finish(&writing[0]);
    finish(&writing[1]);
}
