/* What a program for xpulp_iss may ask for. Compiled for this computer, it gets the same from it, and counts
 * no instructions. */
#ifndef XPULP_ISS_SYSTEM_H
#define XPULP_ISS_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __riscv

static inline size_t system_call(uint32_t number, uint32_t a, uint32_t b, uint32_t c) {
    register uint32_t a0 __asm__("a0") = a;
    register uint32_t a1 __asm__("a1") = b;
    register uint32_t a2 __asm__("a2") = c;
    register uint32_t a7 __asm__("a7") = number;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
    return a0;
}

/* Returns how many of `count` bytes of the input were left. */
static inline size_t read_input(void *to, size_t count) {
    return system_call(63, 0, (uint32_t)to, count);
}

static inline void write_output(const void *from, size_t count) {
    (void)system_call(64, 1, (uint32_t)from, count);
}

/* Instructions so far, modulo 2^32 (csrr from instret, by its fields: no assembler needs to know it). */
static inline uint32_t instructions(void) {
    uint32_t count;
    __asm__ volatile(".insn i 0x73, 2, %0, x0, -1022" : "=r"(count));
    return count;
}

#else

#include <stdio.h>

static inline size_t read_input(void *to, size_t count) {
    return fread(to, 1, count, stdin);
}

static inline void write_output(const void *from, size_t count) {
    (void)fwrite(from, 1, count, stdout);
}

static inline uint32_t instructions(void) {
    return 0;
}

#endif

#endif
