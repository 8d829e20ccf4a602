/* The program: a static ELF32 file, and how often its instructions are executed. */
#ifndef XPULP_ISS_PROGRAM_H
#define XPULP_ISS_PROGRAM_H

#include <stdint.h>

extern uint64_t *program_executed; /* by halfword, from the lowest address that the file fills */
extern uint32_t program_start, program_bytes;

static inline void program_count(uint32_t pc) {
    if (pc - program_start < program_bytes)
        program_executed[(pc - program_start) / 2]++;
}

/* Loads the file into the machine's memory and returns its entry. */
uint32_t program_load(const char *path);

/* Writes a line "COUNT NAME" for each function in which instructions were executed. */
void program_profile(const char *path);

#endif
