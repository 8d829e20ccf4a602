/* Events of the fabric controller. Callbacks run in the thread that completes the transfer. */
#include "pmsis.h"
#include <pthread.h>
#include "shim.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

pi_task_t *pi_task_block(pi_task_t *task) {
    return pi_task_callback(task, NULL, NULL);
}

pi_task_t *pi_task_callback(pi_task_t *task, pi_callback_func_t function, void *arg) {
    *task = (pi_task_t){.callback = function, .arg = arg};
    return task;
}

void pi_task_wait_on(pi_task_t *task) {
    if (task->callback != NULL) {
        shim_fault("pi_task_wait_on waits for an event with a callback");
    }
    pthread_mutex_lock(&lock);
    while (!task->done) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

void shim_notify(pi_task_t *task) {
    if (task->callback != NULL) {
        task->callback(task->arg); /* which may use `task` for the next transfer */
        return;
    }
    pthread_mutex_lock(&lock);
    task->done = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}
