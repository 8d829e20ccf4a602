/* Reset, services of the simulator, time, and the end. */
#include "pmsis.h"
#include "pulp_open.h"
#include "start.h"

#define CALL_EXIT   0x18u
#define EXIT_GOOD   0x20026u
#define EXIT_BAD    0x20023u
#define POLL_CYCLES 500u

void ft_entry(void);

void __attribute__((naked, section(".vectors"))) ft_entry(void) {
    __asm volatile("la sp, ft_stack_high\n"
                   "j ft_start\n");
}

/* The three instructions are the call: the simulator looks for the first one before an ebreak. */
uint32_t __attribute__((noinline)) pulp_open_call(uint32_t number, const void *argument) {
    register uint32_t a0 __asm("a0") = number;
    register const void *a1 __asm("a1") = argument;
    __asm volatile(".option push\n"
                   ".option norvc\n"
                   ".balign 16\n" /* in one line of the instruction cache */
                   "slli zero, zero, 0x1f\n"
                   "ebreak\n"
                   "srai zero, zero, 7\n"
                   ".option pop\n"
                   : "+r"(a0)
                   : "r"(a1)
                   : "memory");
    return a0;
}

void pmsis_exit(int status) {
    /* The reason is the argument itself. */
    (void)pulp_open_call(CALL_EXIT, (const void *)(status == 0 ? EXIT_GOOD : EXIT_BAD));
    for (;;) {
    }
}

/* The core's counter of cycles (CSR 0x780), which counts once it has been told to. */
static uint32_t counted(void) {
    static int counts;
    uint32_t cycles;
    if (!counts) {
        counts = 1;
        __asm volatile(".option push\n.option arch, +zicsr\n"
                       "csrw 0xcc0, %0\n" /* which events: cycles */
                       "csrw 0xcc1, %1\n" /* on */
                       ".option pop" ::"r"(1),
                       "r"(3));
    }
    __asm volatile(".option push\n.option arch, +zicsr\n"
                   "csrr %0, 0x780\n"
                   ".option pop"
                   : "=r"(cycles));
    return cycles;
}

uint64_t pulp_open_cycles(void) {
    static uint64_t all;
    all += counted() - (uint32_t)all; /* modulo 2^32; nobody computes for so long without asking */
    return all;
}

unsigned int pi_time_get_us(void) {
    return (unsigned int)(pulp_open_cycles() / (FT_PORT_CLOCK_HZ / 1000000u));
}

/* Waits for a byte of the host at the same time: who waits here waits for that, and simulated time is dear.
 */
void pi_time_wait_us(int us) {
    const uint64_t cycles = (uint64_t)(us > 0 ? us : 0) * (FT_PORT_CLOCK_HZ / 1000000u);
    const uint64_t start = pulp_open_cycles();
    uint64_t asked = start, now = start;
    while (pulp_open_receive() == 0 && now - start < cycles) {
        while (now - asked < POLL_CYCLES) {
            now = pulp_open_cycles();
        }
        asked = now;
    }
}

void pi_open_from_conf(struct pi_device *device, void *conf) {
    device->config = conf;
}
