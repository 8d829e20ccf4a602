/* One core and a memory, for programs that compute and count.
 *
 *     xpulp_iss [--profile FILE] PROGRAM < input > output
 *
 * PROGRAM is a static ELF32 file with its addresses in MEMORY_START to MEMORY_START + MEMORY_BYTES. The stack
 * pointer starts at the end. System calls (ecall, number in a7) are those of RISC-V Linux: read (63), write
 * (64), exit (93). FILE gets a line "COUNT NAME" for each function in which instructions were executed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"
#include "program.h"

#define MEMORY_START 0x80000000u
#define MEMORY_BYTES 0x01000000u

static uint8_t memory[MEMORY_BYTES];
static const char *profile;

uint8_t *machine_memory(uint32_t address, uint32_t size) {
    if (address < MEMORY_START || address - MEMORY_START > MEMORY_BYTES - size)
        return NULL;
    return memory + (address - MEMORY_START);
}

uint32_t machine_read(core_t *core, uint32_t address, uint32_t size) {
    (void)core;
    (void)size;
    core_fail("address 0x%08x lies outside memory", address);
}

void machine_write(core_t *core, uint32_t address, uint32_t size, uint32_t value) {
    (void)value;
    machine_read(core, address, size);
}

uint32_t *machine_register(core_t *core, uint32_t number) {
    (void)core;
    core_fail("control register 0x%03x", number);
}

static void *operand(uint32_t address, uint32_t count) {
    if (machine_memory(address, 1) == NULL || (count > 0 && machine_memory(address + count - 1, 1) == NULL))
        core_fail("address 0x%08x lies outside memory", address);
    return machine_memory(address, 1);
}

void machine_call(core_t *core) {
    const uint32_t descriptor = core->x[10], count = core->x[12];
    switch (core->x[17]) {
    case 63:
        core->x[10] = (uint32_t)fread(operand(core->x[11], count), 1, count, stdin);
        break;
    case 64:
        core->x[10] =
            (uint32_t)fwrite(operand(core->x[11], count), 1, count, descriptor == 2 ? stderr : stdout);
        break;
    case 93:
        if (profile != NULL)
            program_profile(profile);
        exit((int)core->x[10]);
    default:
        core_fail("system call %u", core->x[17]);
    }
}

int main(int count, char **arguments) {
    if (count == 4 && strcmp(arguments[1], "--profile") == 0) {
        profile = arguments[2];
        arguments += 2;
        count -= 2;
    }
    if (count != 2) {
        fprintf(stderr, "usage: xpulp_iss [--profile FILE] PROGRAM\n");
        return 2;
    }
    static core_t core;
    core.pc = program_load(arguments[1]);
    core.x[2] = MEMORY_START + MEMORY_BYTES;
    for (;;)
        core_step(&core);
}
