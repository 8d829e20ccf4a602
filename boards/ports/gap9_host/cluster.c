/* The cluster: a thread for every core, which lives as long as the cluster is open.
 *
 * Between two barriers nothing orders the cores but what the program does: where the chip's cores would race,
 * so do the threads, and the thread sanitizer sees it. That is why all cores of a team have started before
 * the first one works: one that is late would else learn, by the shim's own lock, of what the fast ones have
 * written.
 */
#define _GNU_SOURCE
#include "pmsis.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include "shim.h"

#define CC_STACK_BYTES 0x800u /* as published, for who sets nothing else */

typedef enum { IDLE, AT_WORK, AT_BARRIER, OVER } state_t;

typedef struct {
    pthread_t thread;
    pthread_cond_t begin;
    sem_t passed; /* a barrier */
    state_t state;
    void (*entry)(void *); /* NULL: nothing to do */
    void *arg;
} core_t;

static _Thread_local int self = SHIM_FC;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t over = PTHREAD_COND_INITIALIZER; /* the team's entries, or the master's */
static core_t cores[SHIM_CORES];
static int team; /* cores of the last fork */
static int is_open, closing;
static int forked; /* the master's: its team is at work */
static uint32_t master_stack, slave_stack;

int shim_core(void) {
    return self;
}

int shim_cluster_is_open(void) {
    return is_open;
}

static int count(state_t state) {
    int found = 0;
    for (int core = 0; core < team; core++) {
        found += cores[core].state == state;
    }
    return found;
}

/* Writes "core 0, core 2": those of the team in that state. */
static void list(state_t state, char *text, size_t room) {
    size_t length = 0;
    text[0] = '\0';
    for (int core = 0; core < team && length < room; core++) {
        if (cores[core].state == state) {
            length +=
                (size_t)snprintf(text + length, room - length, "%s%s", length ? ", " : "", shim_who(core));
        }
    }
}

static void check_deadlock(void) {
    char waiting[128], gone[128];
    const int at_barrier = count(AT_BARRIER), done = count(OVER);
    if (at_barrier > 0 && done > 0 && at_barrier + done == team) {
        list(AT_BARRIER, waiting, sizeof waiting);
        list(OVER, gone, sizeof gone);
        shim_fault("the team is stuck: at a barrier %s, which %s will never reach", waiting, gone);
    }
}

/* What lets a core go on is its own semaphore: the lock would tell it of what the others have done since. */
static void pass_barrier(void) {
    pthread_mutex_lock(&lock);
    cores[self].state = AT_BARRIER;
    if (count(AT_BARRIER) == team) {
        for (int core = 0; core < team; core++) {
            cores[core].state = AT_WORK;
            sem_post(&cores[core].passed);
        }
    }
    check_deadlock();
    pthread_mutex_unlock(&lock);
    while (sem_wait(&cores[self].passed) != 0) {
    }
}

static void __attribute__((noinline)) work(const core_t *core) {
    shim_count_stack_from(self, __builtin_frame_address(0));
    core->entry(core->arg);
    __asm volatile(""); /* no jump in the place of the call: this frame stays */
}

static void *run(void *number) {
    core_t *const core = &cores[(uintptr_t)number];
    self = (int)(uintptr_t)number;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (core->entry == NULL && !closing) {
            pthread_cond_wait(&core->begin, &lock);
        }
        if (core->entry == NULL) {
            break;
        }
        pthread_mutex_unlock(&lock);
        if (self != SHIM_MASTER) {
            pass_barrier();
        }
        work(core);
        pthread_mutex_lock(&lock);
        core->entry = NULL;
        core->state = OVER;
        check_deadlock();
        if (self == SHIM_MASTER || count(OVER) == team) {
            pthread_cond_broadcast(&over);
        }
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void start(int number) {
    pthread_attr_t attributes;
    core_t *const core = &cores[number];
    pthread_cond_init(&core->begin, NULL);
    sem_init(&core->passed, 0, 0);
    if (pthread_attr_init(&attributes) != 0 ||
        pthread_attr_setstack(&attributes, shim_stack(number), SHIM_STACK_BYTES) != 0 ||
        pthread_create(&core->thread, &attributes, run, (void *)(uintptr_t)number) != 0) {
        shim_die("core");
    }
    pthread_attr_destroy(&attributes);
}

/* With the lock held. */
static void give(int number, void (*entry)(void *), void *arg) {
    cores[number].state = IDLE;
    cores[number].entry = entry;
    cores[number].arg = arg;
    pthread_cond_signal(&cores[number].begin);
}

/* With the lock held. */
static void wait_for(int number) {
    while (cores[number].entry != NULL) {
        pthread_cond_wait(&over, &lock);
    }
}

#ifdef FT_PORT_MASTER_WORKS

static void choose_stacks_at_opening(const struct pi_cluster_conf *conf) {
    (void)conf;
}

/* Stacks that the program has allocated are paid for. */
static void choose_stacks(const struct pi_cluster_task *task) {
    master_stack = task->stack_size != 0 ? task->stack_size : FT_PORT_MASTER_STACK_BYTES;
    slave_stack = task->slave_stack_size != 0 ? task->slave_stack_size : FT_PORT_SLAVE_STACK_BYTES;
    const uint32_t bytes = master_stack + (FT_PORT_CLUSTER_CORES - 1) * slave_stack;
    if (task->stacks != NULL && (task->stack_size == 0 || task->slave_stack_size == 0)) {
        shim_fault("a task has stacks of its own, and does not say how large they are");
    }
    if (task->stacks != NULL && !shim_is_usable_l1((uint32_t)(uintptr_t)task->stacks, bytes)) {
        shim_fault("the stacks of a task take %u bytes at %p, which are not all allocated in L1", bytes,
                   task->stacks);
    }
    shim_reserve_l1(task->stacks == NULL ? bytes : 0);
}

#else

static void choose_stacks_at_opening(const struct pi_cluster_conf *conf) {
    master_stack = conf->cc_stack_size;
    shim_reserve_l1(master_stack);
}

static void choose_stacks(const struct pi_cluster_task *task) {
    slave_stack = task->slave_stack_size != 0 ? task->slave_stack_size : FT_PORT_SLAVE_STACK_BYTES;
    shim_reserve_l1(master_stack + FT_PORT_CLUSTER_CORES * slave_stack);
}

#endif

static void only_on(int core, const char *call) {
    if (self != core) {
        shim_fault("%s is for %s alone", call, shim_who(core));
    }
}

void pi_cluster_conf_init(struct pi_cluster_conf *conf) {
    *conf = (struct pi_cluster_conf){.id = 0};
#ifndef FT_PORT_MASTER_WORKS
    conf->cc_stack_size = CC_STACK_BYTES;
#endif
}

int pi_cluster_open(struct pi_device *device) {
    const struct pi_cluster_conf *conf = device->config;
    only_on(SHIM_FC, "pi_cluster_open");
    if (conf->id != 0 || is_open) {
        return -1;
    }
    choose_stacks_at_opening(conf);
    closing = 0;
    for (int number = 0; number < SHIM_CORES; number++) {
        start(number);
    }
    is_open = 1;
    return 0;
}

int pi_cluster_close(struct pi_device *device) {
    (void)device;
    only_on(SHIM_FC, "pi_cluster_close");
    if (!is_open) {
        return -1;
    }
    pthread_mutex_lock(&lock);
    closing = 1;
    for (int number = 0; number < SHIM_CORES; number++) {
        pthread_cond_signal(&cores[number].begin);
    }
    pthread_mutex_unlock(&lock);
    for (int number = 0; number < SHIM_CORES; number++) {
        pthread_join(cores[number].thread, NULL);
    }
    is_open = 0;
    return 0;
}

struct pi_cluster_task *pi_cluster_task(struct pi_cluster_task *task, void (*entry)(void *), void *arg) {
    *task = (struct pi_cluster_task){.entry = entry, .arg = arg};
    return task;
}

int pi_cluster_send_task_to_cl(struct pi_device *device, struct pi_cluster_task *task) {
    (void)device;
    only_on(SHIM_FC, "pi_cluster_send_task_to_cl");
    if (!is_open) {
        return -1;
    }
    choose_stacks(task);
    pthread_mutex_lock(&lock);
    give(SHIM_MASTER, task->entry, task->arg);
    wait_for(SHIM_MASTER);
    pthread_mutex_unlock(&lock);
    shim_check_dma();
    shim_check_l3();
    shim_check_memory();
    shim_check_stacks(slave_stack, master_stack);
    return 0;
}

/* What the master does as one of the team. */
static void work_as_master(void (*entry)(void *), void *arg) {
    pass_barrier();
    entry(arg);
    pthread_mutex_lock(&lock);
    cores[SHIM_MASTER].state = OVER;
    check_deadlock();
    pthread_mutex_unlock(&lock);
}

void pi_cl_team_fork(int count_of_cores, void (*entry)(void *), void *arg) {
    only_on(SHIM_MASTER, "pi_cl_team_fork");
    if (forked) {
        shim_fault("pi_cl_team_fork is called in a team");
    }
    if (count_of_cores < 1 || count_of_cores > (int)FT_PORT_CLUSTER_CORES) {
        shim_fault("a team of %d cores is asked for, and there are %u", count_of_cores,
                   FT_PORT_CLUSTER_CORES);
    }
    pthread_mutex_lock(&lock);
    team = count_of_cores;
    forked = 1;
    for (int number = SHIM_MASTER_WORKS; number < team; number++) {
        give(number, entry, arg);
    }
    if (SHIM_MASTER_WORKS) {
        cores[SHIM_MASTER].state = IDLE;
        pthread_mutex_unlock(&lock);
        work_as_master(entry, arg);
        pthread_mutex_lock(&lock);
    }
    for (int number = SHIM_MASTER_WORKS; number < team; number++) {
        wait_for(number);
    }
    forked = 0;
    pthread_mutex_unlock(&lock);
}

void pi_cl_team_barrier(void) {
    if (self == SHIM_FC || (self == SHIM_MASTER && !(SHIM_MASTER_WORKS && forked))) {
        shim_fault("pi_cl_team_barrier is for the cores of a team");
    }
    pass_barrier();
}

uint32_t pi_core_id(void) {
    if (self == SHIM_FC) {
        shim_fault("pi_core_id is for the cluster's cores");
    }
    return (uint32_t)self;
}

int pi_cl_cluster_nb_cores(void) {
    return (int)FT_PORT_CLUSTER_CORES;
}
