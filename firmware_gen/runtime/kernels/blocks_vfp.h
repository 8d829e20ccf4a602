/* Inner loops of blocks.h for Cortex-M's floating-point unit, single precision.
 *
 * One vldmia loads several neighbouring values, which the compiler does not do by itself; that brings a
 * multiply-accumulate down to 1.31 instructions in the blocks of 4 x 4. The sums wait in memory between two
 * calls and in s0-s15 meanwhile. Every sum adds its products in ascending order. What moves is "+&r": a "+r"
 * may share the register of an input that begins with the same number, such as a count that equals a step.
 */
#ifndef FT_BLOCKS_VFP_H
#define FT_BLOCKS_VFP_H

#include "lanes.h"

#define FT_VFP_REGISTERS                                                                                     \
    "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15",    \
        "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24", "s25", "s26", "s27", "s28", "s29",    \
        "s30", "s31"

#define FT_VFP_FMA(acc, a, b) "vfma.f32 s" #acc ", s" #a ", s" #b "\n\t"
/* Sums acc0..acc3 += a * (b0, b1, b2, b3). */
#define FT_VFP_ROW(acc0, acc1, acc2, acc3, a, b0, b1, b2, b3)                                                \
    FT_VFP_FMA(acc0, a, b0) FT_VFP_FMA(acc1, a, b1) FT_VFP_FMA(acc2, a, b2) FT_VFP_FMA(acc3, a, b3)
/* s0-s15 += (a0, a1, a2, a3) x (b0, b1, b2, b3). */
#define FT_VFP_OUTER(a0, a1, a2, a3, b0, b1, b2, b3)                                                         \
    FT_VFP_ROW(0, 1, 2, 3, a0, b0, b1, b2, b3)                                                               \
    FT_VFP_ROW(4, 5, 6, 7, a1, b0, b1, b2, b3)                                                               \
    FT_VFP_ROW(8, 9, 10, 11, a2, b0, b1, b2, b3)                                                             \
    FT_VFP_ROW(12, 13, 14, 15, a3, b0, b1, b2, b3)
/* `twice` for each two of `left` steps, then `once` if one is left over. */
#define FT_VFP_STEPS(twice, once)                                                                            \
    "subs %[left], #2\n\t"                                                                                   \
    "bmi 2f\n"                                                                                               \
    "1:\n\t" twice "subs %[left], #2\n\t"                                                                    \
    "bpl 1b\n"                                                                                               \
    "2:\n\t"                                                                                                 \
    "adds %[left], #1\n\t"                                                                                   \
    "bmi 3f\n\t" once "3:\n\t"
#define FT_VFP_LOAD(pointer, registers) "vldmia %[" #pointer "]!, {" registers "}\n\t"
#define FT_VFP_LOAD_STEP(pointer, registers, step)                                                           \
    "vldmia %[" #pointer "], {" registers "}\n\t"                                                            \
    "add %[" #pointer "], %[" #step "]\n\t"

/* acc[4 * p + v] = bias[v], or 0 if bias is NULL: no call of memset, as the compiler would have it. */
FT_INLINE void ft_vfp_start_16(float acc[16], const float *bias) {
    static const float zeros[4] = {0};
    __asm__ volatile("vldmia %[bias], {s0-s3}\n\t"
                     "vstmia %[acc]!, {s0-s3}\n\t"
                     "vstmia %[acc]!, {s0-s3}\n\t"
                     "vstmia %[acc]!, {s0-s3}\n\t"
                     "vstmia %[acc], {s0-s3}"
                     : [acc] "+&r"(acc)
                     : [bias] "r"(bias ? bias : zeros)
                     : "s0", "s1", "s2", "s3", "memory");
}

/* acc[4 * p + v] = start[p * start_pixel + v]. A loop in C would keep an address for each p: more registers
 * than there are beside those of the sums' loop. */
FT_INLINE void ft_vfp_start_4x4(float acc[16], const float *start, int start_pixel) {
    __asm__ volatile(FT_VFP_LOAD_STEP(start, "s0-s3", step) FT_VFP_LOAD_STEP(start, "s4-s7", step)
                         FT_VFP_LOAD_STEP(start, "s8-s11", step) "vldmia %[start], {s12-s15}\n\t"
                                                                 "vstmia %[acc], {s0-s15}"
                     : [start] "+r"(start)
                     : [acc] "r"(acc), [step] "r"(start_pixel * 4)
                     : FT_VFP_REGISTERS, "cc", "memory");
}

/* acc[4 * p + v] += x[p * x_pixel + c] * w[c * w_in + v], c < n. */
FT_INLINE void ft_vfp_matmul_4x4(float acc[16], const float *x, int x_pixel, const float *w, int w_in,
                                 int n) {
    const float *x1 = x + x_pixel, *x2 = x1 + x_pixel, *x3 = x2 + x_pixel;
    __asm__ volatile(
        "vldmia %[acc], {s0-s15}\n\t" FT_VFP_STEPS(
            FT_VFP_LOAD_STEP(w, "s16-s19", step) FT_VFP_LOAD(x0, "s24-s25") FT_VFP_LOAD(x1, "s26-s27")
                FT_VFP_LOAD(x2, "s28-s29") FT_VFP_LOAD(x3, "s30-s31")
                    FT_VFP_OUTER(24, 26, 28, 30, 16, 17, 18, 19) FT_VFP_LOAD_STEP(w, "s20-s23", step)
                        FT_VFP_OUTER(25, 27, 29, 31, 20, 21, 22, 23),
            FT_VFP_LOAD(w, "s16-s19") FT_VFP_LOAD(x0, "s24") FT_VFP_LOAD(x1, "s26") FT_VFP_LOAD(x2, "s28")
                FT_VFP_LOAD(x3, "s30") FT_VFP_OUTER(24, 26, 28, 30, 16, 17, 18, 19)) "vstmia %[acc], {s0-s15}"
        : [x0] "+&r"(x), [x1] "+&r"(x1), [x2] "+&r"(x2), [x3] "+&r"(x3), [w] "+&r"(w), [left] "+&r"(n)
        : [acc] "r"(acc), [step] "r"(w_in * 4)
        : FT_VFP_REGISTERS, "cc", "memory");
}

/* acc[v] += x[c] * w[c * w_in + v], v < 8, c < n. */
FT_INLINE void ft_vfp_matmul_1x8(float acc[8], const float *x, const float *w, int w_in, int n) {
    __asm__ volatile(
        "vldmia %[acc], {s0-s7}\n\t" FT_VFP_STEPS(
            FT_VFP_LOAD(x, "s24-s25") FT_VFP_LOAD_STEP(w, "s8-s15", step)
                FT_VFP_ROW(0, 1, 2, 3, 24, 8, 9, 10, 11) FT_VFP_ROW(4, 5, 6, 7, 24, 12, 13, 14, 15)
                    FT_VFP_LOAD_STEP(w, "s16-s23", step) FT_VFP_ROW(0, 1, 2, 3, 25, 16, 17, 18, 19)
                        FT_VFP_ROW(4, 5, 6, 7, 25, 20, 21, 22, 23),
            FT_VFP_LOAD(x, "s24") FT_VFP_LOAD(w, "s8-s15") FT_VFP_ROW(0, 1, 2, 3, 24, 8, 9, 10, 11)
                FT_VFP_ROW(4, 5, 6, 7, 24, 12, 13, 14, 15)) "vstmia %[acc], {s0-s7}"
        : [x] "+&r"(x), [w] "+&r"(w), [left] "+&r"(n)
        : [acc] "r"(acc), [step] "r"(w_in * 4)
        : FT_VFP_REGISTERS, "cc", "memory");
}

/* acc[4 * p + v] += x[p * x_pixel + c] * w[v * w_out + c], c < n. */
FT_INLINE void ft_vfp_dot_4x4(float acc[16], const float *x, int x_pixel, const float *w, int w_out, int n) {
    const float *x1 = x + x_pixel, *x2 = x1 + x_pixel, *x3 = x2 + x_pixel;
    const float *w1 = w + w_out, *w2 = w1 + w_out, *w3 = w2 + w_out;
    __asm__ volatile(
        "vldmia %[acc], {s0-s15}\n\t" FT_VFP_STEPS(
            FT_VFP_LOAD(x0, "s16-s17") FT_VFP_LOAD(x1, "s18-s19") FT_VFP_LOAD(x2, "s20-s21")
                FT_VFP_LOAD(x3, "s22-s23") FT_VFP_LOAD(w0, "s24-s25") FT_VFP_LOAD(w1, "s26-s27") FT_VFP_LOAD(
                    w2, "s28-s29") FT_VFP_LOAD(w3, "s30-s31") FT_VFP_OUTER(16, 18, 20, 22, 24, 26, 28, 30)
                    FT_VFP_OUTER(17, 19, 21, 23, 25, 27, 29, 31),
            FT_VFP_LOAD(x0, "s16") FT_VFP_LOAD(x1, "s18") FT_VFP_LOAD(x2, "s20") FT_VFP_LOAD(x3, "s22")
                FT_VFP_LOAD(w0, "s24") FT_VFP_LOAD(w1, "s26") FT_VFP_LOAD(w2, "s28") FT_VFP_LOAD(w3, "s30")
                    FT_VFP_OUTER(16, 18, 20, 22, 24, 26, 28, 30)) "vstmia %[acc], {s0-s15}"
        : [x0] "+&r"(x), [x1] "+&r"(x1), [x2] "+&r"(x2), [x3] "+&r"(x3), [w0] "+&r"(w), [w1] "+&r"(w1),
          [w2] "+&r"(w2), [w3] "+&r"(w3), [left] "+&r"(n)
        : [acc] "r"(acc)
        : FT_VFP_REGISTERS, "cc", "memory");
}

/* acc[v] += x[c] * w[v * w_out + c], v < 4, c < n. */
FT_INLINE void ft_vfp_dot_1x4(float acc[4], const float *x, const float *w, int w_out, int n) {
    const float *w1 = w + w_out, *w2 = w1 + w_out, *w3 = w2 + w_out;
    __asm__ volatile(
        "vldmia %[acc], {s0-s3}\n\t" FT_VFP_STEPS(
            FT_VFP_LOAD(x, "s16-s17") FT_VFP_LOAD(w0, "s24-s25") FT_VFP_LOAD(w1, "s26-s27")
                FT_VFP_LOAD(w2, "s28-s29") FT_VFP_LOAD(w3, "s30-s31")
                    FT_VFP_ROW(0, 1, 2, 3, 16, 24, 26, 28, 30) FT_VFP_ROW(0, 1, 2, 3, 17, 25, 27, 29, 31),
            FT_VFP_LOAD(x, "s16") FT_VFP_LOAD(w0, "s24") FT_VFP_LOAD(w1, "s26") FT_VFP_LOAD(w2, "s28")
                FT_VFP_LOAD(w3, "s30") FT_VFP_ROW(0, 1, 2, 3, 16, 24, 26, 28, 30)) "vstmia %[acc], {s0-s3}"
        : [x] "+&r"(x), [w0] "+&r"(w), [w1] "+&r"(w1), [w2] "+&r"(w2), [w3] "+&r"(w3), [left] "+&r"(n)
        : [acc] "r"(acc)
        : FT_VFP_REGISTERS, "cc", "memory");
}

/* acc[4 * r + v] += x[k * x_pixel + r] * dy[k * dy_pixel + v], k < n. */
FT_INLINE void ft_vfp_outer_4x4(float acc[16], const float *x, int x_pixel, const float *dy, int dy_pixel,
                                int n) {
    __asm__ volatile(
        "vldmia %[acc], {s0-s15}\n\t" FT_VFP_STEPS(
            FT_VFP_LOAD_STEP(x, "s16-s19", x_step) FT_VFP_LOAD_STEP(dy, "s20-s23", dy_step)
                FT_VFP_OUTER(16, 17, 18, 19, 20, 21, 22, 23) FT_VFP_LOAD_STEP(x, "s24-s27", x_step)
                    FT_VFP_LOAD_STEP(dy, "s28-s31", dy_step) FT_VFP_OUTER(24, 25, 26, 27, 28, 29, 30, 31),
            FT_VFP_LOAD(x, "s16-s19") FT_VFP_LOAD(dy, "s20-s23")
                FT_VFP_OUTER(16, 17, 18, 19, 20, 21, 22, 23)) "vstmia %[acc], {s0-s15}"
        : [x] "+&r"(x), [dy] "+&r"(dy), [left] "+&r"(n)
        : [acc] "r"(acc), [x_step] "r"(x_pixel * 4), [dy_step] "r"(dy_pixel * 4)
        : FT_VFP_REGISTERS, "cc", "memory");
}

#define FT_VFP_MULTIPLY_8(acc0, acc1, acc2, acc3, acc4, acc5, acc6, acc7)                                    \
    FT_VFP_LOAD(a, "s16-s23")                                                                                \
    FT_VFP_LOAD(b, "s24-s31")                                                                                \
    FT_VFP_FMA(acc0, 16, 24)                                                                                 \
    FT_VFP_FMA(acc1, 17, 25)                                                                                 \
    FT_VFP_FMA(acc2, 18, 26)                                                                                 \
    FT_VFP_FMA(acc3, 19, 27)                                                                                 \
    FT_VFP_FMA(acc4, 20, 28) FT_VFP_FMA(acc5, 21, 29) FT_VFP_FMA(acc6, 22, 30) FT_VFP_FMA(acc7, 23, 31)

/* acc[v] += a[k * a_step + v] * b[k * b_step + v], v < 16, k < n. */
FT_INLINE void ft_vfp_multiply_16(float acc[16], const float *a, int a_step, const float *b, int b_step,
                                  int n) {
    if (n < 1)
        return;
    __asm__ volatile("vldmia %[acc], {s0-s15}\n"
                     "1:\n\t" FT_VFP_MULTIPLY_8(0, 1, 2, 3, 4, 5, 6, 7)
                         FT_VFP_MULTIPLY_8(8, 9, 10, 11, 12, 13, 14, 15) "add %[a], %[a_step]\n\t"
                                                                         "add %[b], %[b_step]\n\t"
                                                                         "subs %[left], #1\n\t"
                                                                         "bne 1b\n\t"
                                                                         "vstmia %[acc], {s0-s15}"
                     : [a] "+&r"(a), [b] "+&r"(b), [left] "+&r"(n)
                     : [acc] "r"(acc), [a_step] "r"(a_step * 4 - 64), [b_step] "r"(b_step * 4 - 64)
                     : FT_VFP_REGISTERS, "cc", "memory");
}

#endif
