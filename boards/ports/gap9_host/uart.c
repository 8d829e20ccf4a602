/* The UART is a pseudo-terminal, whose path is the first line that the process prints. The process keeps the
 * terminal's device open itself, so that the host may close and open it at will, and a restart hands both
 * descriptors on, so that the path stays the same.
 *
 * A thread for each direction completes one transfer after the other. Bytes for which there is no transfer
 * wait in the terminal, and in the end make the host wait: where the chip would lose them, this UART does
 * not.
 */
#define _GNU_SOURCE
#include "pmsis.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>
#include "shim.h"

#define HANDED_ON "FT_NATIVE_TERMINAL"

typedef struct {
    ssize_t (*move)(uint8_t *data, size_t count);
    short ready; /* what poll waits for before */
    pi_task_t *first, *last;
    pthread_cond_t given;
} channel_t;

static int terminal = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static ssize_t receive(uint8_t *data, size_t count) {
    return read(terminal, data, count);
}

static ssize_t send(uint8_t *data, size_t count) {
    return write(terminal, data, count);
}

static channel_t input = {.move = receive, .ready = POLLIN, .given = PTHREAD_COND_INITIALIZER};
static channel_t output = {.move = send, .ready = POLLOUT, .given = PTHREAD_COND_INITIALIZER};

static void open_terminal(void) {
    struct termios raw;
    terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) {
        shim_die("pseudo-terminal");
    }
    const char *path = ptsname(terminal);
    const int device = open(path, O_RDWR | O_NOCTTY);
    if (device < 0 || tcgetattr(device, &raw) != 0) {
        shim_die(path);
    }
    cfmakeraw(&raw);
    if (tcsetattr(device, TCSANOW, &raw) != 0 || fcntl(terminal, F_SETFL, O_NONBLOCK) != 0) {
        shim_die(path);
    }
    char handed_on[16];
    snprintf(handed_on, sizeof handed_on, "%d", terminal);
    setenv(HANDED_ON, handed_on, 1);
    puts(path);
    fflush(stdout);
}

static void complete(const channel_t *channel, const pi_task_t *task) {
    uint32_t done = 0;
    while (done < task->size) {
        struct pollfd ready = {.fd = terminal, .events = channel->ready};
        const ssize_t count = channel->move(task->buffer + done, task->size - done);
        if (count > 0) {
            done += (uint32_t)count;
        } else if (count == 0 || errno == EAGAIN || errno == EINTR) {
            poll(&ready, 1, -1);
        } else {
            shim_die("terminal");
        }
    }
}

static void *serve(void *given) {
    channel_t *const channel = given;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (channel->first == NULL) {
            pthread_cond_wait(&channel->given, &lock);
        }
        pi_task_t *const task = channel->first;
        pthread_mutex_unlock(&lock);
        complete(channel, task);
        pthread_mutex_lock(&lock);
        channel->first = task->next;
        pthread_mutex_unlock(&lock);
        shim_notify(task);
    }
    return NULL;
}

static int append(channel_t *channel, void *buffer, uint32_t size, pi_task_t *task) {
    if (terminal < 0) {
        shim_fault("the UART is used although it is not open");
    }
    task->buffer = buffer;
    task->size = size;
    task->next = NULL;
    pthread_mutex_lock(&lock);
    if (channel->first == NULL) {
        channel->first = task;
    } else {
        channel->last->next = task;
    }
    channel->last = task;
    pthread_cond_signal(&channel->given);
    pthread_mutex_unlock(&lock);
    return 0;
}

void pi_uart_conf_init(struct pi_uart_conf *conf) {
    *conf = (struct pi_uart_conf){.baudrate_bps = 115200};
}

int pi_uart_open(struct pi_device *device) {
    const struct pi_uart_conf *conf = device->config;
    const char *const handed_on = getenv(HANDED_ON);
    channel_t *const channels[] = {&input, &output};
    if (terminal >= 0 || !conf->enable_rx || !conf->enable_tx ||
        conf->word_size != PI_UART_WORD_SIZE_8_BITS) {
        return -1;
    }
    if (handed_on != NULL) {
        terminal = atoi(handed_on);
    } else {
        open_terminal();
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, channels[i]) != 0) {
            shim_die("UART");
        }
    }
    return 0;
}

int pi_uart_read_async(struct pi_device *device, void *buffer, uint32_t size, pi_task_t *task) {
    (void)device;
    return append(&input, buffer, size, task);
}

int pi_uart_write_async(struct pi_device *device, void *buffer, uint32_t size, pi_task_t *task) {
    (void)device;
    return append(&output, buffer, size, task);
}

int pi_uart_read(struct pi_device *device, void *buffer, uint32_t size) {
    pi_task_t task;
    pi_uart_read_async(device, buffer, size, pi_task_block(&task));
    pi_task_wait_on(&task);
    return 0;
}

int pi_uart_write(struct pi_device *device, void *buffer, uint32_t size) {
    pi_task_t task;
    pi_uart_write_async(device, buffer, size, pi_task_block(&task));
    pi_task_wait_on(&task);
    return 0;
}
