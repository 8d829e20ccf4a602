/* The vendor's pmsis calls that our C for GAP9 and GAP8 uses, and no others, with the vendor's names, types
 * and meaning, so that the same C is compiled for the vendor's kit and for this computer, where the rest of
 * this folder plays the chip. What only one of the chips has is not to be had for the other.
 * Written from public descriptions of the interface; see docs/gap9.md.
 *
 * Addresses are 32 bits wide in it. The program is linked where its static data lies below 4 GB, and L1 and
 * the heap of L2 are mapped at the chip's own addresses.
 */
#ifndef FT_PMSIS_H
#define FT_PMSIS_H

#include <stddef.h>
#include <stdint.h>
#include "port_config.h"

/* Static data lies in L2 unless it says otherwise. */
#define PI_L2
#define PI_CL_L1 __attribute__((section("ft_cl_l1")))

/* --- devices ------------------------------------------------------------------------------------------ */

typedef struct pi_device {
    void *config;
} pi_device_t;

void pi_open_from_conf(struct pi_device *device, void *conf);

/* --- events: what tells that something asynchronous is over ----------------------------------------------
 */

typedef void (*pi_callback_func_t)(void *arg);

typedef struct pi_task {
    pi_callback_func_t callback; /* NULL: somebody waits */
    void *arg;
    int done;
    /* of the transfer that it stands for */
    struct pi_task *next;
    uint8_t *buffer;
    uint32_t size;
} pi_task_t;

/* `task` is to be waited for with pi_task_wait_on, once. */
pi_task_t *pi_task_block(pi_task_t *task);
/* `task` is to call `function`, in a task of the system. */
pi_task_t *pi_task_callback(pi_task_t *task, pi_callback_func_t function, void *arg);
void pi_task_wait_on(pi_task_t *task);

/* --- the fabric controller's system ------------------------------------------------------------------- */

typedef enum { PI_FREQ_DOMAIN_FC, PI_FREQ_DOMAIN_CL, PI_FREQ_DOMAIN_PERIPH } pi_freq_domain_e;

int32_t pi_freq_set(pi_freq_domain_e domain, uint32_t hz);
uint32_t pi_freq_get(pi_freq_domain_e domain);

#ifdef FT_PORT_MASTER_WORKS /* GAP8 */
typedef enum { PI_PMU_DOMAIN_FC, PI_PMU_DOMAIN_CL } pi_pmu_domain_e;
typedef enum { PI_PAD_38_B6_UART_RX = 30, PI_PAD_39_A7_UART_TX = 31 } pi_pad_e;
#else
typedef enum { PI_PMU_VOLTAGE_DOMAIN_CHIP } pi_pmu_domain_e;
typedef enum { PI_PAD_060 = 60, PI_PAD_061 = 61 } pi_pad_e;
#endif

int pi_pmu_voltage_set(pi_pmu_domain_e domain, uint32_t millivolt);

typedef enum { PI_PAD_FUNC0 } pi_pad_func_e;

void pi_pad_set_function(pi_pad_e pad, pi_pad_func_e function);

/* Microseconds, modulo 2^32. */
unsigned int pi_time_get_us(void);
void pi_time_wait_us(int us);
/* Starts the system, whose main task is `task`; returns when it could not. */
int pmsis_kickoff(void *task);
void pmsis_exit(int status);

enum { PI_PERF_ACTIVE_CYCLES = 0, PI_PERF_INSTR = 1, PI_PERF_CYCLES = 16 };

/* This computer counts nanoseconds in the place of cycles, and 0 of everything else: measure time elsewhere.
 */
void pi_perf_conf(uint32_t events);
void pi_perf_reset(void);
void pi_perf_start(void);
void pi_perf_stop(void);
uint32_t pi_perf_read(int event);

/* --- UART ----------------------------------------------------------------------------------------------- */

enum pi_uart_word_size { PI_UART_WORD_SIZE_8_BITS = 3 };

struct pi_uart_conf {
    uint32_t baudrate_bps;
    uint8_t stop_bit_count;
    uint8_t parity_mode;
    uint8_t word_size;
    uint8_t enable_rx;
    uint8_t enable_tx;
    uint8_t uart_id;
    uint8_t use_ctrl_flow;
    uint8_t is_usart;
};

void pi_uart_conf_init(struct pi_uart_conf *conf);
int pi_uart_open(struct pi_device *device);
int pi_uart_write(struct pi_device *device, void *buffer, uint32_t size);
int pi_uart_read(struct pi_device *device, void *buffer, uint32_t size);
int pi_uart_write_async(struct pi_device *device, void *buffer, uint32_t size, pi_task_t *task);
int pi_uart_read_async(struct pi_device *device, void *buffer, uint32_t size, pi_task_t *task);

/* --- memory: free wants the size again -------------------------------------------------------------------
 */

void *pi_l2_malloc(int size);
void pi_l2_free(void *chunk, int size);
/* Of an open cluster. NULL when there is no room; aligned to 4 bytes. */
void *pi_cl_l1_malloc(struct pi_device *cluster, uint32_t size);
void pi_cl_l1_free(struct pi_device *cluster, void *chunk, int size);
#define pi_l1_malloc(cluster, size)      pi_cl_l1_malloc(cluster, size)
#define pi_l1_free(cluster, chunk, size) pi_cl_l1_free(cluster, chunk, size)

/* --- the cluster, from the fabric controller ---------------------------------------------------------------
 */

struct pi_cluster_conf {
    int id;
#ifndef FT_PORT_MASTER_WORKS
    uint32_t cc_stack_size; /* the master core's stack, in L1 */
#endif
};

typedef struct pi_cluster_task {
    void (*entry)(void *);
    void *arg;
#ifdef FT_PORT_MASTER_WORKS
    void *stacks;        /* all of them in L1, the master's first; NULL: taken from L1 for the task */
    uint32_t stack_size; /* of the master core; 0: as the kit likes, those of the others too */
#endif
    uint32_t slave_stack_size; /* of each other core of the team, in L1; 0: as the kit is configured */
} pi_cluster_task_t;

void pi_cluster_conf_init(struct pi_cluster_conf *conf);
int pi_cluster_open(struct pi_device *device);
int pi_cluster_close(struct pi_device *device);
struct pi_cluster_task *pi_cluster_task(struct pi_cluster_task *task, void (*entry)(void *), void *arg);
/* Runs the task on the master core; returns when it is over. */
int pi_cluster_send_task_to_cl(struct pi_device *device, struct pi_cluster_task *task);

/* --- in the cluster ------------------------------------------------------------------------------------- */

/* Runs `entry` on cores 0 to cores - 1; returns when all are over. For the master core, outside a team. */
void pi_cl_team_fork(int cores, void (*entry)(void *), void *arg);
/* Returns when all cores of the team have called it. */
void pi_cl_team_barrier(void);
/* 0 to 7; on the master core 8, or 0 where it is one of the team. */
uint32_t pi_core_id(void);
int pi_cl_cluster_nb_cores(void);

typedef enum { PI_CL_DMA_DIR_LOC2EXT = 0, PI_CL_DMA_DIR_EXT2LOC = 1 } pi_cl_dma_dir_e;

typedef struct pi_cl_dma_cmd_s {
    int id;
} pi_cl_dma_cmd_t;

/* Copies between L2 (`ext`) and L1 (`loc`), at most 65,535 bytes. It is over when pi_cl_dma_cmd_wait returns:
 * until then the target must not be touched, and the source not be changed. */
void pi_cl_dma_cmd(uint32_t ext, uint32_t loc, uint32_t size, pi_cl_dma_dir_e dir, pi_cl_dma_cmd_t *cmd);
/* The same for lines of `length` bytes that begin every `stride` bytes in L2 and follow each other in L1. */
void pi_cl_dma_cmd_2d(uint32_t ext, uint32_t loc, uint32_t size, uint32_t stride, uint32_t length,
                      pi_cl_dma_dir_e dir, pi_cl_dma_cmd_t *cmd);
void pi_cl_dma_cmd_wait(pi_cl_dma_cmd_t *cmd);

#endif
