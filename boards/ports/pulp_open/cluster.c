/* The cluster: its cores wait in loops for words in L1 to change. No core writes a word that another one
 * writes, so that nothing needs to be atomic. */
#include "pmsis.h"
#include "pulp_open.h"

#define CORE_ON        REGISTER(0x10200008u) /* a bit for each core */
#define CLOCK_ON       REGISTER(0x10200020u)
#define BOOT_ADDRESSES ((volatile uint32_t *)0x10200040u)
#define CACHE_ON       REGISTER(0x10201400u)

#define POLL_CYCLES 20000u

typedef struct {
    /* The fabric controller's. */
    uint32_t sent; /* tasks, modulo 2^32 */
    void (*task)(void *arg);
    void *task_arg;
    /* The master's. */
    uint32_t finished; /* tasks */
    uint32_t forks;
    void (*work)(void *arg);
    void *work_arg;
    uint32_t cores;
    /* The workers', each its own. */
    uint32_t ended[WORKERS];   /* forks */
    uint32_t reached[WORKERS]; /* barriers of this fork; the master sets them to 0 before it */
} team_t;

_Static_assert(sizeof(team_t) <= TEAM_BYTES, "the words lie at the end of L1");

static volatile team_t *const team = (volatile team_t *)(L1_END - TEAM_BYTES);

static uint32_t l1_used;

/* What was written before is there for all. */
static void publish(void) {
    __asm volatile("fence" ::: "memory");
}

/* --- on the cores ----------------------------------------------------------------------------------- */

uint32_t pi_core_id(void) {
    uint32_t hart;
    __asm volatile(".option push\n.option arch, +zicsr\n"
                   "csrr %0, 0xf14\n"
                   ".option pop"
                   : "=r"(hart));
    return hart & 31u;
}

static void __attribute__((noreturn)) work_on(uint32_t core) {
    for (uint32_t seen = 0;;) {
        while (team->forks == seen) {
        }
        seen = team->forks;
        publish();
        if (core < team->cores) {
            team->work(team->work_arg);
        }
        publish();
        team->ended[core] = seen;
    }
}

static void __attribute__((noreturn)) hand_out(void) {
    for (uint32_t seen = 0;;) {
        while (team->sent == seen) {
        }
        seen = team->sent;
        publish();
        team->task(team->task_arg);
        publish();
        team->finished = seen;
    }
}

static void __attribute__((used, noreturn)) core_main(uint32_t core) {
    if (core == MASTER) {
        hand_out();
    }
    work_on(core);
}

/* The master's stack ends below the words above, the first worker's below the master's, and so on. */
void __attribute__((naked)) pulp_open_core_entry(void) {
    __asm volatile(".option push\n.option arch, +zicsr\n"
                   "csrr a0, 0xf14\n"
                   ".option pop\n"
                   "andi a0, a0, 31\n"
                   "li sp, %0\n"
                   "li t0, %1\n"
                   "beq a0, t0, 1f\n"
                   "li sp, %2\n"
                   "li t0, %3\n"
                   "mul t0, t0, a0\n"
                   "sub sp, sp, t0\n"
                   "1: j core_main\n" ::"i"(L1_END - TEAM_BYTES),
                   "i"(MASTER), "i"(L1_END - FT_PORT_MASTER_STACK_BYTES), "i"(FT_PORT_SLAVE_STACK_BYTES));
}

/* Waits for cores that are not of the team, too: none may still look at what the next fork changes. */
void pi_cl_team_fork(int cores, void (*entry)(void *), void *arg) {
    team->work = entry;
    team->work_arg = arg;
    team->cores = cores > 0 ? (uint32_t)cores : WORKERS;
    for (uint32_t k = 0; k < WORKERS; k++) {
        team->reached[k] = 0;
    }
    publish();
    const uint32_t fork = team->forks + 1;
    team->forks = fork;
    for (uint32_t k = 0; k < WORKERS; k++) {
        while (team->ended[k] != fork) {
        }
    }
    publish();
}

void pi_cl_team_barrier(void) {
    const uint32_t core = pi_core_id(), count = team->reached[core] + 1;
    publish();
    team->reached[core] = count;
    for (uint32_t k = 0; k < team->cores; k++) {
        while (team->reached[k] < count) {
        }
    }
    publish();
}

/* --- on the fabric controller ----------------------------------------------------------------------- */

void pi_cluster_conf_init(struct pi_cluster_conf *conf) {
    *conf = (struct pi_cluster_conf){0};
}

int pi_cluster_open(struct pi_device *device) {
    (void)device;
    for (uint32_t k = 0; k < TEAM_BYTES / sizeof(uint32_t); k++) {
        ((volatile uint32_t *)team)[k] = 0;
    }
    CLOCK_ON = 1;
    CACHE_ON = 0xFFFFFFFFu;
    for (uint32_t k = 0; k <= MASTER; k++) {
        BOOT_ADDRESSES[k] = (uint32_t)pulp_open_core_entry;
    }
    CORE_ON = 1u << MASTER | ((1u << WORKERS) - 1u);
    return 0;
}

/* Stacks are where core_entry puts them; freeing is not asked for. */
void *pi_cl_l1_malloc(struct pi_device *cluster, uint32_t size) {
    (void)cluster;
    const uint32_t stacks = FT_PORT_MASTER_STACK_BYTES + WORKERS * FT_PORT_SLAVE_STACK_BYTES;
    const uint32_t taken = (size + 3u) & ~3u;
    if (taken > FT_PORT_L1_BYTES - stacks - l1_used) {
        return NULL;
    }
    l1_used += taken;
    return (void *)(L1_START + l1_used - taken);
}

struct pi_cluster_task *pi_cluster_task(struct pi_cluster_task *task, void (*entry)(void *), void *arg) {
    *task = (struct pi_cluster_task){.entry = entry, .arg = arg};
    return task;
}

int pi_cluster_send_task_to_cl(struct pi_device *device, struct pi_cluster_task *task) {
    (void)device;
    team->task = task->entry;
    team->task_arg = task->arg;
    publish();
    const uint32_t sent = team->sent + 1;
    team->sent = sent;
    for (uint64_t asked = pulp_open_cycles(); team->finished != sent;) {
        const uint64_t now = pulp_open_cycles();
        if (now - asked >= POLL_CYCLES) {
            asked = now;
            (void)pulp_open_receive();
        }
    }
    publish();
    return 0;
}
