/* One right use of the cluster, and many wrong ones, by name: CASE [CORES]. A right one prints what it found.
 */
#include "l3_devices.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "port_config.h"

#define COLUMNS 48u
#define ROWS    64u
#define TILE    8u /* rows */
#define TILES   (ROWS / TILE)
#define BYTES   (TILE * COLUMNS)
#ifdef FT_PORT_MASTER_WORKS /* GAP8 */
#define MASTER 0
#else
#define MASTER 8
#endif

static struct pi_device cluster, ram;
static uint32_t l3; /* where maps[0] lies outside the chip */
static int cores = 8;

static uint8_t maps[2][ROWS * COLUMNS]; /* in L2 */
static PI_CL_L1 uint8_t table[256];
static uint32_t l1_word;

static uint32_t address(const void *pointer) {
    return (uint32_t)(uintptr_t)pointer;
}

static uint8_t *from_l1(uint32_t bytes) {
    uint8_t *const chunk = pi_cl_l1_malloc(&cluster, bytes);
    if (chunk == NULL) {
        puts("no L1");
        exit(1);
    }
    return chunk;
}

/* --- right: every row is looked up in a table that the cores make together ------------------------------ */

typedef struct {
    const uint8_t *in;
    uint8_t *out;
} tile_t;

static void make_and_look_up(void *given) {
    const tile_t *const tile = given;
    const uint32_t core = pi_core_id();
    for (uint32_t i = core; i < sizeof table; i += (uint32_t)cores) {
        table[i] = (uint8_t)(i * 7 + 1);
    }
    pi_cl_team_barrier();
    for (uint32_t row = core; row < TILE; row += (uint32_t)cores) {
        for (uint32_t column = 0; column < COLUMNS; column++) {
            tile->out[row * COLUMNS + column] = table[tile->in[row * COLUMNS + column]];
        }
    }
}

/* Two buffers for what comes, two for what goes; the last columns go in a command of lines of their own. */
static void right(void *unused) {
    (void)unused;
    uint8_t *const in = from_l1(2 * BYTES);
    uint8_t *const out = from_l1(2 * BYTES);
    uint8_t *const edge = from_l1(TILE * 3);
    pi_cl_dma_cmd_t coming[2], going[2], lines;
    if (pi_core_id() != MASTER) {
        abort();
    }
    pi_cl_dma_cmd(address(maps[0]), address(in), BYTES, PI_CL_DMA_DIR_EXT2LOC, &coming[0]);
    for (uint32_t t = 0; t < TILES; t++) {
        const uint32_t half = t % 2;
        tile_t tile = {in + half * BYTES, out + half * BYTES};
        pi_cl_dma_cmd_wait(&coming[half]);
        if (t + 1 < TILES) {
            pi_cl_dma_cmd(address(maps[0] + (t + 1) * BYTES), address(in + (1 - half) * BYTES), BYTES,
                          PI_CL_DMA_DIR_EXT2LOC, &coming[1 - half]);
        }
        if (t >= 2) {
            pi_cl_dma_cmd_wait(&going[half]);
        }
        pi_cl_team_fork(cores, make_and_look_up, &tile);
        pi_cl_dma_cmd(address(maps[1] + t * BYTES), address(tile.out), BYTES, PI_CL_DMA_DIR_LOC2EXT,
                      &going[half]);
    }
    pi_cl_dma_cmd_wait(&going[0]);
    pi_cl_dma_cmd_wait(&going[1]);
    pi_cl_dma_cmd_2d(address(maps[1] + COLUMNS - 3), address(edge), TILE * 3, COLUMNS, 3,
                     PI_CL_DMA_DIR_EXT2LOC, &lines);
    pi_cl_dma_cmd_wait(&lines);
    for (uint32_t i = 0; i < TILE * 3; i++) {
        edge[i] ^= 0xff;
    }
    pi_cl_dma_cmd_2d(address(maps[1] + COLUMNS - 3), address(edge), TILE * 3, COLUMNS, 3,
                     PI_CL_DMA_DIR_LOC2EXT, &lines);
    pi_cl_dma_cmd_wait(&lines);
    pi_cl_l1_free(&cluster, in, 2 * BYTES);
    pi_cl_l1_free(&cluster, out, 2 * BYTES);
    pi_cl_l1_free(&cluster, edge, TILE * 3);
}

#ifdef FT_PORT_L3_BYTES
/* Brings maps[0] back from L3: while one tile is waited for, the next one is on its way. */
static void bring(void *unused) {
    (void)unused;
    pi_cl_ram_req_t requests[2];
    for (uint32_t t = 0; t <= TILES; t++) {
        if (t < TILES) {
            pi_cl_ram_read(&ram, l3 + t * BYTES, maps[0] + t * BYTES, BYTES, &requests[t % 2]);
        }
        if (t > 0) {
            pi_cl_ram_read_wait(&requests[(t - 1) % 2]);
        }
    }
}
#endif

static uint32_t checksum(void) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < sizeof maps[1]; i++) {
        sum = sum * 31 + maps[1][i];
    }
    return sum;
}

/* Prints how many chunks of 1,000 bytes L1 gives. */
static void fill_l1(void *unused) {
    (void)unused;
    void *chunks[128];
    int count = 0;
    while (count < 128 && (chunks[count] = pi_cl_l1_malloc(&cluster, 1000)) != NULL) {
        count++;
    }
    printf("%d\n", count);
    while (count > 0) {
        pi_cl_l1_free(&cluster, chunks[--count], 1000);
    }
}

/* --- wrong -----------------------------------------------------------------------------------------------
 */

static void phases(void *given) {
    uint8_t *const row = given;
    const uint32_t core = pi_core_id();
    row[core] = (uint8_t)core;
    row[8 + core] = row[(core + 1) % (uint32_t)cores]; /* no barrier between them */
}

static void missing_barrier(void *unused) {
    (void)unused;
    pi_cl_team_fork(cores, phases, from_l1(16));
}

static void come(uint8_t *to, uint32_t bytes, pi_cl_dma_cmd_t *cmd) {
    pi_cl_dma_cmd(address(maps[0]), address(to), bytes, PI_CL_DMA_DIR_EXT2LOC, cmd);
}

static void early_read(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    uint8_t *const to = from_l1(64);
    come(to, 64, &cmd);
    l1_word = *(volatile uint8_t *)(to + 8);
    pi_cl_dma_cmd_wait(&cmd);
}

static void read_it(void *given) {
    if (pi_core_id() == 0) {
        l1_word = *(volatile uint8_t *)given;
    }
}

/* The core that reads is not the one that gave the command. */
static void early_read_by_a_core(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    uint8_t *const to = from_l1(64);
    come(to, 64, &cmd);
    pi_cl_team_fork(cores, read_it, to + 8);
    pi_cl_dma_cmd_wait(&cmd);
}

static void early_write(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    uint8_t *const to = from_l1(64);
    come(to, 64, &cmd);
    *(volatile uint8_t *)(to + 9) = 1;
    pi_cl_dma_cmd_wait(&cmd);
}

static void changed_source(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    uint8_t *const from = from_l1(64);
    pi_cl_dma_cmd(address(maps[1]), address(from), 64, PI_CL_DMA_DIR_LOC2EXT, &cmd);
    *(volatile uint8_t *)(from + 9) = 1;
    pi_cl_dma_cmd_wait(&cmd);
}

static void too_long(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    come(from_l1(70000), 70000, &cmd);
}

static void empty(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    come(from_l1(8), 0, &cmd);
}

static void odd_lines(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    pi_cl_dma_cmd_2d(address(maps[0]), address(from_l1(64)), 64, 48, 24, PI_CL_DMA_DIR_EXT2LOC, &cmd);
}

static void forgotten_wait(void *unused) {
    (void)unused;
    static pi_cl_dma_cmd_t cmd;
    come(from_l1(64), 64, &cmd);
}

static void second_wait(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    come(from_l1(64), 64, &cmd);
    pi_cl_dma_cmd_wait(&cmd);
    pi_cl_dma_cmd_wait(&cmd);
}

static void given_again(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    come(from_l1(64), 64, &cmd);
    come(from_l1(64), 64, &cmd);
}

static void shared_bytes(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t coming, going;
    uint8_t *const buffer = from_l1(64);
    pi_cl_dma_cmd(address(maps[1]), address(buffer), 64, PI_CL_DMA_DIR_LOC2EXT, &going);
    come(buffer + 60, 4, &coming);
}

static void loc_in_l2(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    come(maps[1], 64, &cmd);
}

static void ext_in_l1(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    uint8_t *const chunk = from_l1(128);
    pi_cl_dma_cmd(address(chunk), address(chunk + 64), 64, PI_CL_DMA_DIR_EXT2LOC, &cmd);
}

static void beyond_l1(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    come(from_l1(64), 65, &cmd);
}

static void beyond_l2(void *unused) {
    (void)unused;
    pi_cl_dma_cmd_t cmd;
    uint8_t *const chunk = pi_l2_malloc(100);
    pi_cl_dma_cmd(address(chunk) + 60, address(from_l1(64)), 64, PI_CL_DMA_DIR_EXT2LOC, &cmd);
}

static void to_constants(void *unused) {
    (void)unused;
    static const uint8_t constants[64] = {1};
    pi_cl_dma_cmd_t cmd;
    pi_cl_dma_cmd(address(constants), address(from_l1(64)), 64, PI_CL_DMA_DIR_LOC2EXT, &cmd);
}

static void overrun(void *unused) {
    (void)unused;
    uint8_t *volatile const chunk = from_l1(61);
    chunk[61] = 1;
}

static void wrong_free(void *unused) {
    (void)unused;
    pi_cl_l1_free(&cluster, from_l1(64), 60);
}

static void odd_cores_wait(void *unused) {
    (void)unused;
    if (pi_core_id() % 2 == 1) {
        pi_cl_team_barrier();
    }
}

static void stuck(void *unused) {
    (void)unused;
    pi_cl_team_fork(cores, odd_cores_wait, NULL);
}

static void fork_again(void *unused) {
    (void)unused;
    pi_cl_team_fork(1, read_it, NULL);
}

static void fork_on_a_core(void *unused) {
    (void)unused;
    pi_cl_team_fork(cores, fork_again, NULL);
}

static void nine_cores(void *unused) {
    (void)unused;
    pi_cl_team_fork(9, read_it, NULL);
}

static void barrier_of_the_master(void *unused) {
    (void)unused;
    pi_cl_team_barrier();
}

static pi_cl_ram_req_t request;

static void from_l3(uint8_t *to, uint32_t bytes) {
    pi_cl_ram_read(&ram, l3, to, bytes, &request);
}

/* Hidden, or the compiler knows that the access is inside the array and the sanitizer does not look. */
static uint8_t *volatile hidden = maps[1];

static void l3_early_read(void *unused) {
    (void)unused;
    from_l3(maps[1], 64);
    l1_word = *(volatile uint8_t *)(hidden + 8);
    pi_cl_ram_read_wait(&request);
}

static void l3_early_write(void *unused) {
    (void)unused;
    from_l3(maps[1], 64);
    *(volatile uint8_t *)(hidden + 9) = 1;
    pi_cl_ram_read_wait(&request);
}

static void l3_forgotten_wait(void *unused) {
    (void)unused;
    from_l3(maps[1], 64);
}

static void l3_second_wait(void *unused) {
    l3_forgotten_wait(unused);
    pi_cl_ram_read_wait(&request);
    pi_cl_ram_read_wait(&request);
}

static void l3_given_again(void *unused) {
    l3_forgotten_wait(unused);
    from_l3(maps[0], 64);
}

static void l3_shared_bytes(void *unused) {
    static pi_cl_ram_req_t other;
    l3_forgotten_wait(unused);
    pi_cl_ram_read(&ram, l3, maps[1] + 60, 64, &other);
}

static void l3_then_dma(void *unused) {
    pi_cl_dma_cmd_t cmd;
    l3_forgotten_wait(unused);
    pi_cl_dma_cmd(address(maps[1] + 60), address(from_l1(64)), 64, PI_CL_DMA_DIR_EXT2LOC, &cmd);
}

static void dma_then_l3(void *unused) {
    pi_cl_dma_cmd_t cmd;
    pi_cl_dma_cmd(address(maps[1] + 60), address(from_l1(64)), 64, PI_CL_DMA_DIR_EXT2LOC, &cmd);
    l3_forgotten_wait(unused);
}

static void l3_to_l1(void *unused) {
    (void)unused;
    from_l3(from_l1(64), 64);
}

static void l3_to_constants(void *unused) {
    (void)unused;
    static const uint8_t constants[64] = {1};
    pi_cl_ram_read(&ram, l3, (void *)(uintptr_t)constants, 64, &request);
}

static void l3_beyond(void *unused) {
    (void)unused;
    pi_cl_ram_read(&ram, l3 + sizeof maps[0] - 60, maps[1], 64, &request);
}

static void l3_odd(void *unused) {
    (void)unused;
    from_l3(maps[1], 62);
}

static void l3_page(void *unused) {
    (void)unused;
    pi_cl_ram_read(&ram, l3 + 2048 - l3 % 2048 - 4, maps[1], 64, &request);
}

static void l3_other_device(void *unused) {
    (void)unused;
    pi_cl_ram_read(&cluster, l3, maps[1], 64, &request);
}

static void l3_written_by_the_master(void *unused) {
    (void)unused;
    pi_ram_write(&ram, l3, maps[0], 64);
}

/* An address in L3 is none of the cores'. */
static void l3_as_a_pointer(void *unused) {
    (void)unused;
    l1_word = *(volatile uint8_t *)(uintptr_t)l3;
}

static void __attribute__((noinline)) use_stack(void *unused) {
    (void)unused;
    volatile uint8_t frame[FT_PORT_MASTER_STACK_BYTES + 256];
    for (uint32_t i = 0; i < sizeof frame; i++) {
        frame[i] = (uint8_t)i;
    }
}

static void deep_stack(void *unused) {
    (void)unused;
    pi_cl_team_fork(1, use_stack, NULL);
}

static void deep_master(void *unused) {
    use_stack(unused);
}

typedef struct {
    const char *name;
    void (*entry)(void *);
} case_t;

#define CASE(name)                                                                                           \
    { #name, name }

static const case_t cases[] = {
    CASE(right),
    CASE(fill_l1),
    CASE(missing_barrier),
    CASE(early_read),
    CASE(early_read_by_a_core),
    CASE(early_write),
    CASE(changed_source),
    CASE(too_long),
    CASE(empty),
    CASE(odd_lines),
    CASE(forgotten_wait),
    CASE(second_wait),
    CASE(given_again),
    CASE(shared_bytes),
    CASE(loc_in_l2),
    CASE(ext_in_l1),
    CASE(beyond_l1),
    CASE(beyond_l2),
    CASE(overrun),
    CASE(to_constants),
    CASE(wrong_free),
    CASE(stuck),
    CASE(fork_on_a_core),
    CASE(nine_cores),
    CASE(barrier_of_the_master),
    CASE(l3_early_read),
    CASE(l3_early_write),
    CASE(l3_forgotten_wait),
    CASE(l3_second_wait),
    CASE(l3_given_again),
    CASE(l3_shared_bytes),
    CASE(l3_then_dma),
    CASE(dma_then_l3),
    CASE(l3_to_l1),
    CASE(l3_to_constants),
    CASE(l3_beyond),
    CASE(l3_odd),
    CASE(l3_page),
    CASE(l3_other_device),
    CASE(l3_written_by_the_master),
    CASE(l3_as_a_pointer),
    CASE(deep_stack),
    CASE(deep_master),
};

static uint32_t master_stack;
static void *stacks; /* GAP8's, where the program allocates them */

static void send(void (*entry)(void *)) {
    struct pi_cluster_task task;
    pi_cluster_task(&task, entry, NULL);
#ifdef FT_PORT_MASTER_WORKS
    task.stacks = stacks;
    task.stack_size = master_stack;
#endif
    task.slave_stack_size = FT_PORT_SLAVE_STACK_BYTES;
    if (pi_cluster_send_task_to_cl(&cluster, &task) != 0) {
        abort();
    }
}

static void open_cluster(uint32_t bytes) {
    struct pi_cluster_conf conf;
    pi_cluster_conf_init(&conf);
    master_stack = bytes;
#ifndef FT_PORT_MASTER_WORKS
    conf.cc_stack_size = master_stack;
#endif
    pi_open_from_conf(&cluster, &conf);
    if (pi_cluster_open(&cluster) != 0) {
        abort();
    }
}

#ifdef FT_PORT_L3_BYTES
/* Moves maps[0] to L3. */
static void open_l3(void) {
    struct pi_default_ram_conf conf;
    pi_default_ram_conf_init(&conf);
    pi_open_from_conf(&ram, &conf);
    if (pi_ram_open(&ram) != 0 || pi_ram_alloc(&ram, &l3, sizeof maps[0]) != 0) {
        abort();
    }
    pi_ram_write(&ram, l3, maps[0], sizeof maps[0]);
    memset(maps[0], 0, sizeof maps[0]);
}

static void prepare_l3(const char *name) {
    open_l3();
    if (strcmp(name, "l3_read_by_the_fabric_controller") == 0) {
        from_l3(maps[1], 64);
    }
    if (strcmp(name, "all_of_l3") == 0) {
        uint32_t more;
        const uint32_t left = FT_PORT_L3_BYTES - 4 - sizeof maps[0];
        printf("%d %d\n", pi_ram_alloc(&ram, &more, left + 4), pi_ram_alloc(&ram, &more, left));
    }
}
#else
static void prepare_l3(const char *name) {
    (void)name;
}
#endif

int main(int argc, char **argv) {
    cores = argc > 2 ? atoi(argv[2]) : cores;
    for (uint32_t i = 0; i < sizeof maps[0]; i++) {
        maps[0][i] = (uint8_t)(i * i + i / 7);
    }
    if (strcmp(argv[1], "closed") == 0) {
        pi_cl_l1_malloc(&cluster, 8);
    }
    if (strcmp(argv[1], "least_char") == 0) {
        printf("%d\n", CHAR_MIN);
    }
    if (strcmp(argv[1], "core_id_of_the_fabric_controller") == 0) {
        pi_core_id();
    }
    prepare_l3(argv[1]);
    open_cluster(strcmp(argv[1], "large_stacks") == 0 ? 100 * 1024 : FT_PORT_MASTER_STACK_BYTES);
    if (strcmp(argv[1], "fork_on_the_fabric_controller") == 0) {
        pi_cl_team_fork(1, read_it, NULL);
    }
#ifdef FT_PORT_L3_BYTES
    send(bring);
#endif
    if (strcmp(argv[1], "own_stacks") == 0) {
        stacks = from_l1(FT_PORT_MASTER_STACK_BYTES + 7 * FT_PORT_SLAVE_STACK_BYTES);
    }
    if (strcmp(argv[1], "short_stacks") == 0) {
        stacks = from_l1(FT_PORT_MASTER_STACK_BYTES + 6 * FT_PORT_SLAVE_STACK_BYTES);
    }
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (strcmp(argv[1], cases[i].name) == 0) {
            send(cases[i].entry);
        }
    }
    send(right); /* again, and after the mistake that nothing has found */
    if (stacks != NULL) {
        pi_cl_l1_free(&cluster, stacks, FT_PORT_MASTER_STACK_BYTES + 7 * FT_PORT_SLAVE_STACK_BYTES);
        stacks = NULL;
    }
    pi_cluster_close(&cluster);
    open_cluster(FT_PORT_MASTER_STACK_BYTES); /* it can be opened again */
    send(right);
    pi_cluster_close(&cluster);
    printf("%08x\n", checksum());
    pmsis_exit(0);
    return 1;
}
