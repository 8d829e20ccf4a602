/* The serial line: file 0 of the simulator's process, a terminal that the host has opened
 * (boards/running.py).
 *
 * The terminal never blocks, and GVSOC forgets how many bytes have passed when not all have. One byte at a
 * time is all or nothing.
 */
#include "pmsis.h"
#include "pulp_open.h"

#define CALL_WRITE 0x05u
#define CALL_READ  0x06u
#define TERMINAL   0u

typedef struct {
    uint32_t file;
    const void *data;
    uint32_t count;
} request_t;

static pi_task_t *first, *last; /* reads that wait, in order */

void pi_uart_conf_init(struct pi_uart_conf *conf) {
    *conf = (struct pi_uart_conf){.baudrate_bps = 115200, .word_size = PI_UART_WORD_SIZE_8_BITS};
}

/* Whether one byte has passed. */
static int passed(uint32_t call, const uint8_t *byte) {
    const request_t request = {TERMINAL, byte, 1};
    return pulp_open_call(call, &request) == 0;
}

int pi_uart_write(struct pi_device *device, void *buffer, uint32_t size) {
    (void)device;
    const uint8_t *const bytes = buffer;
    for (uint32_t k = 0; k < size; k++) {
        while (!passed(CALL_WRITE, &bytes[k])) {
        }
    }
    return 0;
}

/* Says that the program runs: a zero byte delimits frames, and between two it means nothing. */
int pi_uart_open(struct pi_device *device) {
    uint8_t delimiter = 0;
    return pi_uart_write(device, &delimiter, sizeof delimiter);
}

int pi_uart_read_async(struct pi_device *device, void *buffer, uint32_t size, pi_task_t *task) {
    (void)device;
    task->next = NULL;
    task->buffer = buffer;
    task->size = size;
    if (first == NULL) {
        first = task;
    } else {
        last->next = task;
    }
    last = task;
    return 0;
}

pi_task_t *pi_task_callback(pi_task_t *task, pi_callback_func_t function, void *arg) {
    task->callback = function;
    task->arg = arg;
    return task;
}

uint32_t pulp_open_receive(void) {
    uint32_t count = 0;
    while (first != NULL && passed(CALL_READ, first->buffer)) {
        pi_task_t *const task = first;
        count++;
        task->buffer++;
        if (--task->size == 0) {
            first = task->next;
            task->callback(task->arg); /* which may ask for more */
        }
    }
    return count;
}
