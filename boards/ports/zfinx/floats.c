/* Floats for cores that hold them in integer registers (Zfinx, as PULP's), from a compiler that knows no such
 * cores: what it calls for each operation is the core's instruction, given by its fields. Comparisons answer
 * as libgcc's do; doubles stay libgcc's.
 *
 * A float is passed as its bits, which is how both calling conventions without float registers pass it.
 */
#include <stdint.h>

/* Rounding: to nearest, ties to even, and for conversions to integers to zero. */
#define OPERATION(name, funct7)                                                                              \
    uint32_t name(uint32_t a, uint32_t b);                                                                   \
    uint32_t name(uint32_t a, uint32_t b) {                                                                  \
        __asm__(".insn r 0x53, 0, " #funct7 ", %0, %0, %1" : "+r"(a) : "r"(b));                              \
        return a;                                                                                            \
    }
#define CONVERSION(name, rounding, funct7, kind)                                                             \
    uint32_t name(uint32_t a);                                                                               \
    uint32_t name(uint32_t a) {                                                                              \
        __asm__(".insn r 0x53, " #rounding ", " #funct7 ", %0, %0, " #kind : "+r"(a));                       \
        return a;                                                                                            \
    }
#define COMPARISON(name, result)                                                                             \
    int32_t name(uint32_t a, uint32_t b);                                                                    \
    int32_t name(uint32_t a, uint32_t b) {                                                                   \
        return result;                                                                                       \
    }

OPERATION(__addsf3, 0x00)
OPERATION(__subsf3, 0x04)
OPERATION(__mulsf3, 0x08)
OPERATION(__divsf3, 0x0c)

CONVERSION(__fixsfsi, 1, 0x60, x0)
CONVERSION(__fixunssfsi, 1, 0x60, x1)
CONVERSION(__floatsisf, 0, 0x68, x0)
CONVERSION(__floatunsisf, 0, 0x68, x1)

static inline int32_t is_equal(uint32_t a, uint32_t b) {
    __asm__(".insn r 0x53, 2, 0x50, %0, %0, %1" : "+r"(a) : "r"(b));
    return (int32_t)a;
}

static inline int32_t is_less(uint32_t a, uint32_t b) {
    __asm__(".insn r 0x53, 1, 0x50, %0, %0, %1" : "+r"(a) : "r"(b));
    return (int32_t)a;
}

static inline int32_t is_at_most(uint32_t a, uint32_t b) {
    __asm__(".insn r 0x53, 0, 0x50, %0, %0, %1" : "+r"(a) : "r"(b));
    return (int32_t)a;
}

COMPARISON(__eqsf2, !is_equal(a, b))
COMPARISON(__nesf2, !is_equal(a, b))
COMPARISON(__ltsf2, -is_less(a, b))
COMPARISON(__lesf2, !is_at_most(a, b))
COMPARISON(__gtsf2, is_less(b, a))
COMPARISON(__gesf2, is_at_most(b, a) - 1)
COMPARISON(__unordsf2, !(is_equal(a, a) & is_equal(b, b)))

float sqrtf(float a);

float sqrtf(float a) {
    __asm__(".insn r 0x53, 0, 0x2c, %0, %0, x0" : "+r"(a));
    return a;
}

float fmaf(float a, float b, float c);

float fmaf(float a, float b, float c) {
    __asm__(".insn r4 0x43, 0, 0, %0, %0, %1, %2" : "+r"(a) : "r"(b), "r"(c));
    return a;
}
