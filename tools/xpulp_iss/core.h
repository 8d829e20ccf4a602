/* A core that executes Xpulp programs exactly, and counts instructions; it knows no cycles. The machine
 * around it brings memory, devices and system calls.
 */
#ifndef XPULP_ISS_CORE_H
#define XPULP_ISS_CORE_H

#include <stdint.h>

typedef struct {
    uint32_t start, last, rounds; /* first and last instruction, rounds that are left */
} loop_t;

typedef struct {
    uint32_t x[32], pc, next_pc, fcsr;
    uint32_t hart;
    loop_t loops[2];
    uint64_t instructions;
} core_t;

/* Executes one instruction. */
void core_step(core_t *core);

/* Ends the simulator, and says which core did what it cannot. */
void core_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* --- what a machine defines ------------------------------------------------------------------------- */

/* Returns where `size` bytes from `address` on lie, which is a multiple of it; NULL where no memory is. */
uint8_t *machine_memory(uint32_t address, uint32_t size);

/* Devices. */
uint32_t machine_read(core_t *core, uint32_t address, uint32_t size);
void machine_write(core_t *core, uint32_t address, uint32_t size, uint32_t value);

/* Returns a control and status register that the core itself does not have. */
uint32_t *machine_register(core_t *core, uint32_t number);

/* Serves an ecall, or an ebreak in the form of semihosting. */
void machine_call(core_t *core);

#endif
