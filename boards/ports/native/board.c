/* The firmware as a process of the host: its UART is a pseudo-terminal, whose path is the first line it
 * prints.
 *
 * The process keeps the terminal's device open itself, so that the host may close and open it at will, and a
 * restart hands both descriptors on, so that the path stays the same.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include "port.h"
#include "port_config.h"

#define HANDED_ON "FT_NATIVE_TERMINAL"

static int terminal = -1;
static const uint32_t *stack_low, *stack_high;

static void __attribute__((noreturn)) die(const char *what) {
    perror(what);
    exit(1);
}

static void open_terminal(void) {
    struct termios raw;
    terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) {
        die("pseudo-terminal");
    }
    const char *path = ptsname(terminal);
    const int device = open(path, O_RDWR | O_NOCTTY);
    if (device < 0 || tcgetattr(device, &raw) != 0) {
        die(path);
    }
    cfmakeraw(&raw);
    if (tcsetattr(device, TCSANOW, &raw) != 0 || fcntl(terminal, F_SETFL, O_NONBLOCK) != 0) {
        die(path);
    }
    char handed_on[16];
    snprintf(handed_on, sizeof handed_on, "%d", terminal);
    setenv(HANDED_ON, handed_on, 1);
    puts(path);
    fflush(stdout);
}

/* Leaves paint on the stack below the caller's frame. */
static void __attribute__((noinline, no_sanitize_address)) paint_stack(void) {
    volatile uint32_t area[FT_PORT_STACK_BYTES / sizeof(uint32_t)];
    for (size_t i = 0; i < FT_PORT_STACK_BYTES / sizeof(uint32_t); i++) {
        area[i] = FT_STACK_PAINT;
    }
    uintptr_t low = (uintptr_t)area;
    __asm volatile(
        ""
        : "+r"(low)); /* the address outlives the array on purpose: keep the compiler from warning */
    stack_low = (const uint32_t *)low;
    stack_high = stack_low + FT_PORT_STACK_BYTES / sizeof(uint32_t);
}

void ft_port_init(void) {
    const char *handed_on = getenv(HANDED_ON);
    if (handed_on != NULL) {
        terminal = atoi(handed_on);
    } else {
        open_terminal();
    }
    paint_stack();
}

size_t ft_port_read(uint8_t *data, size_t max) {
    const ssize_t count = read(terminal, data, max);
    if (count < 0 && errno != EAGAIN && errno != EINTR) {
        die("read");
    }
    return count > 0 ? (size_t)count : 0;
}

static void wait_for(short events) {
    struct pollfd ready = {.fd = terminal, .events = events};
    poll(&ready, 1, -1);
}

void ft_port_write(const uint8_t *data, size_t count) {
    while (count > 0) {
        const ssize_t written = write(terminal, data, count);
        if (written > 0) {
            data += written;
            count -= (size_t)written;
        } else if (written == 0 || errno == EAGAIN || errno == EINTR) {
            wait_for(POLLOUT);
        } else {
            die("write");
        }
    }
}

void ft_port_idle(void) {
    wait_for(POLLIN);
}

uint64_t ft_port_ticks(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t ft_port_ticks_hz(void) {
    return 1000000000u;
}

uint32_t ft_port_overruns(void) {
    return 0;
} /* the kernel makes the writer wait */

void ft_port_stack(const uint32_t **low, const uint32_t **high) {
    *low = stack_low;
    *high = stack_high;
}

void ft_port_reset(void) {
    execl("/proc/self/exe", "firmware", (char *)NULL);
    die("restart");
}
