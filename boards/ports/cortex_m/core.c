/* Reset, faults, interrupts and restart of a Cortex-M core: Armv6-M (M0, M0+), Armv7-M (M3, M4, M7) or
 * Armv8-M mainline (M33, M55). */
#include "cortex_m.h"
#include "hardware.h"
#include "port.h"

#define AIRCR_KEY         0x05FA0000u
#define AIRCR_SYSRESETREQ (1u << 2)
#define CPACR_FPU         (0xFu << 20) /* full access to coprocessors 10 and 11 */
#define SHCSR_FAULTS      (7u << 16)   /* memory, bus and usage faults enabled */
#define STACKED_PC        6            /* index in the frame that an exception pushes */

/* The area below the stack that nothing may touch. Large, so that no frame steps over it. */
#define GUARD_BYTES     0x10000u
#define GUARD_ATTRIBUTE (1u << 28 | 15u << 1 | 1u) /* never execute, no access, 2^(15 + 1) bytes, enabled */
#define GUARD_READ_ONLY (2u << 1 | 1u) /* Armv8-M: never execute, read-only; it has no "no access" */
#define GUARD_ENABLED   1u
#define MPU_ON          (1u << 2 | 1u) /* everything else stays as without a protection unit */

extern uint32_t ft_stack_low[], ft_stack_high[];

static void __attribute__((noreturn, used)) report_fault(const uint32_t *frame, uint32_t exception) {
    static const char *const names[] = {"hard fault", "memory fault", "bus fault", "usage fault"};
    if (frame < ft_stack_low) {
        ft_fault("stack overflow", (uint32_t)frame);
    }
    ft_fault(exception - 3u < 4u ? names[exception - 3u] : "unexpected interrupt", frame[STACKED_PC]);
}

static void __attribute__((naked)) fault_handler(void) {
    /* When the stack is what overflowed, go on with a fresh one. */
    __asm volatile("mrs r0, msp\n"
                   "mrs r1, ipsr\n"
                   "ldr r2, =ft_stack_low\n"
                   "cmp r0, r2\n"
                   "bhs 1f\n"
                   "ldr r2, =ft_stack_high\n"
                   "msr msp, r2\n"
                   "1: ldr r2, =report_fault\n"
                   "bx r2\n"
                   ".ltorg\n");
}

void __attribute__((weak, alias("fault_handler"))) ft_systick_handler(void);
void __attribute__((weak, alias("fault_handler"))) ft_nmi_handler(void);

__attribute__((used, section(".vectors"))) static const struct {
    const uint32_t *stack;
    ft_handler_t handlers[15];
} vectors = {
    ft_stack_high,
    {ft_entry, ft_nmi_handler, fault_handler, fault_handler, fault_handler, fault_handler, 0, 0, 0, 0,
     fault_handler, fault_handler, 0, fault_handler, ft_systick_handler},
};

#if __ARM_ARCH >= 7
/* Not every board faults on its own where the stack runs out of the RAM. */
static void guard_stack(void) {
    MPU_NUMBER = 0;
#if __ARM_ARCH >= 8
    MPU_BASE = ((uint32_t)ft_stack_low - GUARD_BYTES) | GUARD_READ_ONLY;
    MPU_LIMIT = ((uint32_t)ft_stack_low - 1u) / 32u * 32u | GUARD_ENABLED;
#else
    MPU_BASE = (uint32_t)ft_stack_low - GUARD_BYTES;
    MPU_ATTRIBUTE = GUARD_ATTRIBUTE;
#endif
    MPU_CTRL = MPU_ON;
}

static void set_core_up(void) {
    SCB_VTOR = (uint32_t)&vectors; /* a boot loader, or an alias of the flash, may have started us */
    SCB_CPACR |= CPACR_FPU;        /* without effect where there is none */
    /* Left off, every fault is a hard fault, and a hard fault that finds no stack to push to locks the core
     * up. */
    SCB_SHCSR |= SHCSR_FAULTS;
    guard_stack();
    __asm volatile("dsb\n isb" ::: "memory");
}
#else
/* Armv6-M has no more to set up: every fault is a hard fault, and what lies below the RAM must fault. QEMU
 * enters the handler even where the stack has run out; a real core may lock up there. */
static void set_core_up(void) {}
#endif

void ft_entry(void) {
    set_core_up();
    ft_start();
}

/* libgcc's division refers to it for stack unwinding, which nothing here does. */
void __aeabi_unwind_cpp_pr0(void) {}

void ft_cpu_interrupts_off(void) {
    __asm volatile("cpsid i" ::: "memory");
}

void ft_cpu_interrupts_on(void) {
    __asm volatile("cpsie i" ::: "memory");
}

void ft_cpu_wait(void) {
    __asm volatile("dsb\n wfi" ::: "memory");
}

void ft_port_reset(void) {
    __asm volatile("dsb" ::: "memory");
    SCB_AIRCR = AIRCR_KEY | AIRCR_SYSRESETREQ;
    for (;;) {
    }
}
