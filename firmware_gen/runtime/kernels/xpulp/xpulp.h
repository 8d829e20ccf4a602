/* Instructions of GAP9's cores that C has no name for: Xpulp's SIMD on four bytes, hardware loops, loads that
 * move their pointer, which GAP8's have as well; and, on GAP9 alone, binary16 vectors. Floats in integer
 * registers: ../lanes.h.
 *
 * Three back ends with the same results:
 *   FT_XPULP_BUILTINS  the vendor's compiler, which makes hardware loops and moving pointers itself
 *   FT_XPULP_INSN      any RV32 assembler: each instruction is given by its fields (.insn)
 *   neither            portable C: the host, and the meaning of the other two
 *
 * A word holds four bytes or two binary16 values, the first in its lowest bits. Sums wrap, modulo 2^32. Words
 * in memory are aligned to 4 bytes.
 */
#ifndef FT_XPULP_XPULP_H
#define FT_XPULP_XPULP_H

#include "../lanes.h"

#if !defined(FT_XPULP_INSN) &&                                                                               \
    (defined(__gap9__) || defined(__GAP9__) || defined(__GAP8__) || defined(__riscv_xpulp))
#define FT_XPULP_BUILTINS
#endif

typedef uint32_t ft_word_xpulp_t __attribute__((may_alias));

#ifdef FT_XPULP_BUILTINS
typedef signed char ft_v4s_xpulp_t __attribute__((vector_size(4)));
typedef unsigned char ft_v4u_xpulp_t __attribute__((vector_size(4)));
#endif

/* Byte k of a word. */
FT_INLINE int32_t ft_byte_xpulp(uint32_t word, int k) {
    return (int8_t)(word >> 8 * k);
}

/* An instruction of opcode 0x33 (OP) or 0x57 (Xpulp's vectors) with two operands; that reads its result's
 * register, too. */
#define FT_R_XPULP(OPCODE, FUNCT3, FUNCT7, d, a, b)                                                          \
    __asm__(".insn r " #OPCODE ", " #FUNCT3 ", " #FUNCT7 ", %0, %1, %2" : "=r"(d) : "r"(a), "r"(b))
#define FT_RD_XPULP(OPCODE, FUNCT3, FUNCT7, d, a, b)                                                         \
    __asm__(".insn r " #OPCODE ", " #FUNCT3 ", " #FUNCT7 ", %0, %1, %2" : "+r"(d) : "r"(a), "r"(b))

/* acc + the four products of bytes of a and b, which are signed (pv.sdotsp.b). */
FT_INLINE uint32_t ft_sdotsp4_xpulp(uint32_t a, uint32_t b, uint32_t acc) {
#if defined(FT_XPULP_INSN)
    FT_RD_XPULP(0x57, 1, 0x5c, acc, a, b);
#elif defined(FT_XPULP_BUILTINS)
    acc = (uint32_t)__builtin_pulp_sdotsp4((ft_v4s_xpulp_t)a, (ft_v4s_xpulp_t)b, (int32_t)acc);
#else
    FT_EACH(k, 4)
        acc += (uint32_t)(ft_byte_xpulp(a, k) * ft_byte_xpulp(b, k));
#endif
    return acc;
}

/* The same for unsigned bytes of a and signed ones of b (pv.sdotusp.b). */
FT_INLINE uint32_t ft_sdotusp4_xpulp(uint32_t a, uint32_t b, uint32_t acc) {
#if defined(FT_XPULP_INSN)
    FT_RD_XPULP(0x57, 1, 0x54, acc, a, b);
#elif defined(FT_XPULP_BUILTINS)
    acc = (uint32_t)__builtin_pulp_sdotusp4((ft_v4u_xpulp_t)a, (ft_v4s_xpulp_t)b, (int32_t)acc);
#else
    FT_EACH(k, 4)
        acc += (uint32_t)((uint8_t)ft_byte_xpulp(a, k) * ft_byte_xpulp(b, k));
#endif
    return acc;
}

/* The same for unsigned bytes of both (pv.sdotup.b). */
FT_INLINE uint32_t ft_sdotup4_xpulp(uint32_t a, uint32_t b, uint32_t acc) {
#if defined(FT_XPULP_INSN)
    FT_RD_XPULP(0x57, 1, 0x50, acc, a, b);
#elif defined(FT_XPULP_BUILTINS)
    acc = (uint32_t)__builtin_pulp_sdotup4((ft_v4u_xpulp_t)a, (ft_v4u_xpulp_t)b, acc);
#else
    FT_EACH(k, 4)
        acc += (uint32_t)((uint8_t)ft_byte_xpulp(a, k) * (uint8_t)ft_byte_xpulp(b, k));
#endif
    return acc;
}

/* acc + a * b (p.mac). */
FT_INLINE uint32_t ft_mac_xpulp(uint32_t acc, int32_t a, int32_t b) {
#if defined(FT_XPULP_INSN)
    FT_RD_XPULP(0x33, 0, 0x21, acc, a, b);
    return acc;
#else
    return acc + (uint32_t)a * (uint32_t)b; /* the vendor's compiler takes p.mac */
#endif
}

/* The larger and the smaller one of two numbers (p.max, p.min). */
FT_INLINE int32_t ft_max_xpulp(int32_t a, int32_t b) {
#if defined(FT_XPULP_INSN)
    int32_t larger;
    FT_R_XPULP(0x33, 6, 0x02, larger, a, b);
    return larger;
#else
    return a > b ? a : b;
#endif
}

FT_INLINE int32_t ft_min_xpulp(int32_t a, int32_t b) {
#if defined(FT_XPULP_INSN)
    int32_t smaller;
    FT_R_XPULP(0x33, 4, 0x02, smaller, a, b);
    return smaller;
#else
    return a < b ? a : b;
#endif
}

/* x between low and high: one instruction for the limits of int8 (p.clip). Constant low, high. */
FT_INLINE int32_t ft_clamp_xpulp(int32_t x, int32_t low, int32_t high) {
    if (low > -128 || high < 127)
        return ft_min_xpulp(ft_max_xpulp(x, low), high);
#if defined(FT_XPULP_INSN)
    __asm__(".insn r 0x33, 1, 0x0a, %0, %1, x8" : "=r"(x) : "r"(x));
    return x;
#elif defined(FT_XPULP_BUILTINS)
    return __builtin_pulp_clip_r(x, 127);
#else
    return ft_min_xpulp(ft_max_xpulp(x, -128), 127);
#endif
}

/* The larger one of each two signed bytes (pv.max.b). */
FT_INLINE uint32_t ft_max4_xpulp(uint32_t a, uint32_t b) {
#if defined(FT_XPULP_INSN)
    uint32_t larger;
    FT_R_XPULP(0x57, 1, 0x18, larger, a, b);
    return larger;
#elif defined(FT_XPULP_BUILTINS)
    return (uint32_t)__builtin_pulp_max4((ft_v4s_xpulp_t)a, (ft_v4s_xpulp_t)b);
#else
    uint32_t larger = 0;
    FT_EACH(k, 4)
        larger |= (uint32_t)(uint8_t)ft_max_xpulp(ft_byte_xpulp(a, k), ft_byte_xpulp(b, k)) << 8 * k;
    return larger;
#endif
}

/* Four bytes of a and b: byte k of the result is byte picks[k] of a (0 to 3) or of b (4 to 7); picks is a
 * word (pv.shuffle2.b). Constant picks. */
FT_INLINE uint32_t ft_shuffle4_xpulp(uint32_t a, uint32_t b, uint32_t picks) {
#if defined(FT_XPULP_INSN)
    FT_RD_XPULP(0x57, 1, 0x64, a, b, picks);
    return a;
#elif defined(FT_XPULP_BUILTINS)
    return (uint32_t)__builtin_shuffle((ft_v4s_xpulp_t)a, (ft_v4s_xpulp_t)b, (ft_v4s_xpulp_t)picks);
#else
    uint32_t picked = 0;
    FT_EACH(k, 4) {
        const uint32_t from = picks >> 8 * k & 7;
        picked |= (uint32_t)(uint8_t)ft_byte_xpulp(from < 4 ? a : b, (int)(from & 3)) << 8 * k;
    }
    return picked;
#endif
}

/* The four low bytes, the first lowest (pv.packhi.b, pv.packlo.b). */
FT_INLINE uint32_t ft_pack4_xpulp(int32_t b0, int32_t b1, int32_t b2, int32_t b3) {
#if defined(FT_XPULP_INSN)
    uint32_t packed;
    __asm__(".insn r 0x57, 1, 0x6c, %0, %2, %1" : "=r"(packed) : "r"(b2), "r"(b3));
    FT_RD_XPULP(0x57, 1, 0x70, packed, b1, b0);
    return packed;
#elif defined(FT_XPULP_BUILTINS)
    return (uint32_t)__builtin_pulp_pack4((signed char)b0, (signed char)b1, (signed char)b2, (signed char)b3);
#else
    return (uint32_t)(uint8_t)b0 | (uint32_t)(uint8_t)b1 << 8 | (uint32_t)(uint8_t)b2 << 16 |
           (uint32_t)(uint8_t)b3 << 24;
#endif
}

/* The word at *at, which moves by `step` bytes (p.lw with post-increment). Constant step. */
FT_INLINE uint32_t ft_load_xpulp(const int8_t **at, int step) {
#if defined(FT_XPULP_INSN)
    uint32_t word;
    __asm__ volatile(".insn i 0x0b, 2, %0, %1, %2" : "=&r"(word), "+r"(*at) : "i"(step) : "memory");
    return word;
#else
    const uint32_t word = *(const ft_word_xpulp_t *)(const void *)*at;
    *at += step;
    return word;
#endif
}

/* Four rows of four bytes become four columns: byte k of column j is byte j of row k. */
FT_INLINE void ft_transpose4_xpulp(const uint32_t rows[4], uint32_t columns[4]) {
    const uint32_t low01 = ft_shuffle4_xpulp(rows[0], rows[1], 0x05010400u);
    const uint32_t high01 = ft_shuffle4_xpulp(rows[0], rows[1], 0x07030602u);
    const uint32_t low23 = ft_shuffle4_xpulp(rows[2], rows[3], 0x05010400u);
    const uint32_t high23 = ft_shuffle4_xpulp(rows[2], rows[3], 0x07030602u);
    columns[0] = ft_shuffle4_xpulp(low01, low23, 0x05040100u);
    columns[1] = ft_shuffle4_xpulp(low01, low23, 0x07060302u);
    columns[2] = ft_shuffle4_xpulp(high01, high23, 0x05040100u);
    columns[3] = ft_shuffle4_xpulp(high01, high23, 0x07060302u);
}

/* A hardware loop (lp.setup): the INSTRUCTIONS of BODY, each of 4 bytes, %[n] times, at least once. What it
 * takes is half the distance from lp.setup to the last instruction: counted by hand, as .insn knows no
 * labels, and without compressed instructions, which would shorten it. */
#define FT_LOOP_XPULP(INSTRUCTIONS, BODY)                                                                    \
    ".option push\n\t"                                                                                       \
    ".option norvc\n\t"                                                                                      \
    ".insn i 0x7b, 4, x0, %[n], 2 * " #INSTRUCTIONS "\n\t" BODY ".option pop"
#define FT_LOAD_XPULP(VALUE, STEP, AT) ".insn i 0x0b, 2, %[" #VALUE "], %[" #AT "], " #STEP "\n\t"
#define FT_SAVE_XPULP(VALUE, STEP, AT) ".insn s 0x2b, 2, %[" #VALUE "], " #STEP "(%[" #AT "])\n\t"
#define FT_DOT_XPULP(ACC, VALUE, WEIGHT)                                                                     \
    ".insn r 0x57, 1, 0x5c, %[" #ACC "], %[" #VALUE "], %[" #WEIGHT "]\n\t"

/* One word of each of 4 channels and of 2 pixels, or of 1; of 1 channel and of 2 pixels. No load is used by
 * the instruction behind it. */
/* clang-format off */
#define FT_DOTS_2X4_XPULP                                                                                    \
    FT_LOAD_XPULP(w0, 4, w) FT_LOAD_XPULP(v0, 4, x0) FT_LOAD_XPULP(v1, 4, x1)                                \
    FT_LOAD_XPULP(w1, 4, w) FT_LOAD_XPULP(w2, 4, w) FT_LOAD_XPULP(w3, 4, w)                                  \
    FT_DOT_XPULP(a0, v0, w0) FT_DOT_XPULP(b0, v1, w0) FT_DOT_XPULP(a1, v0, w1) FT_DOT_XPULP(b1, v1, w1)      \
    FT_DOT_XPULP(a2, v0, w2) FT_DOT_XPULP(b2, v1, w2) FT_DOT_XPULP(a3, v0, w3) FT_DOT_XPULP(b3, v1, w3)
#define FT_DOTS_1X4_XPULP                                                                                    \
    FT_LOAD_XPULP(w0, 4, w) FT_LOAD_XPULP(v0, 4, x0)                                                         \
    FT_LOAD_XPULP(w1, 4, w) FT_LOAD_XPULP(w2, 4, w) FT_LOAD_XPULP(w3, 4, w)                                  \
    FT_DOT_XPULP(a0, v0, w0) FT_DOT_XPULP(a1, v0, w1) FT_DOT_XPULP(a2, v0, w2) FT_DOT_XPULP(a3, v0, w3)
#define FT_DOTS_2X1_XPULP                                                                                    \
    FT_LOAD_XPULP(w0, 16, w) FT_LOAD_XPULP(v0, 4, x0) FT_LOAD_XPULP(v1, 4, x1)                               \
    FT_DOT_XPULP(a0, v0, w0) FT_DOT_XPULP(b0, v1, w0)
/* Two values at a time, for the same reason; in the second one bytes. */
#define FT_COPY_WORDS_XPULP                                                                                  \
    FT_LOAD_XPULP(v0, 4, from) FT_LOAD_XPULP(v1, 4, from) FT_SAVE_XPULP(v0, 4, to) FT_SAVE_XPULP(v1, 4, to)
#define FT_COPY_BYTES_XPULP                                                                                  \
    ".insn i 0x0b, 0, %[v0], %[from], 1\n\t" ".insn i 0x0b, 0, %[v1], %[from], 1\n\t"                         \
    ".insn s 0x2b, 0, %[v0], 1(%[to])\n\t" ".insn s 0x2b, 0, %[v1], 1(%[to])\n\t"
/* clang-format on */

/* acc[p][k] += the sum of `words` words of pixel p, from x[p] on, times those of channel k. A word of each of
 * four channels lies in turn from w on; returns what follows. x[p] moves to what follows there. words > 0.
 *
 * 14 instructions for 32 multiply-accumulates of two pixels, 9 for 16 of one. Constant pixels, 1 or 2, and
 * channels: only so many of the four count; for two pixels of 1 channel, 5 instructions for 8. */
FT_INLINE const int8_t *ft_dots_xpulp(uint32_t acc[2][4], const int8_t *w, const int8_t *x[2], int words,
                                      int pixels, int channels) {
#ifdef FT_XPULP_INSN
    uint32_t w0, w1, w2, w3, v0, v1;
    if (pixels == 2 && channels == 1)
        __asm__ volatile(FT_LOOP_XPULP(5, FT_DOTS_2X1_XPULP)
                         : [a0] "+r"(acc[0][0]), [b0] "+r"(acc[1][0]), [w] "+r"(w), [x0] "+r"(x[0]),
                           [x1] "+r"(x[1]), [w0] "=&r"(w0), [v0] "=&r"(v0), [v1] "=&r"(v1)
                         : [n] "r"(words)
                         : "memory");
    else if (pixels == 2)
        __asm__ volatile(
            FT_LOOP_XPULP(14, FT_DOTS_2X4_XPULP)
            : [a0] "+r"(acc[0][0]), [a1] "+r"(acc[0][1]), [a2] "+r"(acc[0][2]), [a3] "+r"(acc[0][3]),
              [b0] "+r"(acc[1][0]), [b1] "+r"(acc[1][1]), [b2] "+r"(acc[1][2]), [b3] "+r"(acc[1][3]),
              [w] "+r"(w), [x0] "+r"(x[0]), [x1] "+r"(x[1]), [w0] "=&r"(w0), [w1] "=&r"(w1), [w2] "=&r"(w2),
              [w3] "=&r"(w3), [v0] "=&r"(v0), [v1] "=&r"(v1)
            : [n] "r"(words)
            : "memory");
    else
        __asm__ volatile(FT_LOOP_XPULP(9, FT_DOTS_1X4_XPULP)
                         : [a0] "+r"(acc[0][0]), [a1] "+r"(acc[0][1]), [a2] "+r"(acc[0][2]),
                           [a3] "+r"(acc[0][3]), [w] "+r"(w), [x0] "+r"(x[0]), [w0] "=&r"(w0), [w1] "=&r"(w1),
                           [w2] "=&r"(w2), [w3] "=&r"(w3), [v0] "=&r"(v0)
                         : [n] "r"(words)
                         : "memory");
    return w;
#else
    for (int n = 0; n < words; n++, w += 16) {
        const ft_word_xpulp_t *weight = (const ft_word_xpulp_t *)(const void *)w;
        uint32_t v[2];
        FT_EACH(p, pixels)
            v[p] = ft_load_xpulp(&x[p], 4);
        FT_EACH(k, channels)
            FT_EACH(p, pixels)
                acc[p][k] = ft_sdotsp4_xpulp(v[p], weight[k], acc[p][k]);
    }
    return w;
#endif
}

/* Copies `count` bytes; returns what follows at `to`. No overlap. Constant in_words: they are whole words,
 * and both pointers are aligned. */
FT_INLINE int8_t *ft_copy_xpulp(int8_t *to, const int8_t *from, int count, int in_words) {
    const int size = in_words ? 4 : 1;
#ifdef FT_XPULP_INSN
    const int rounds = count / size / 2;
    uint32_t v0, v1;
    if (rounds > 0 && in_words)
        __asm__ volatile(FT_LOOP_XPULP(4, FT_COPY_WORDS_XPULP)
                         : [from] "+r"(from), [to] "+r"(to), [v0] "=&r"(v0), [v1] "=&r"(v1)
                         : [n] "r"(rounds)
                         : "memory");
    else if (rounds > 0)
        __asm__ volatile(FT_LOOP_XPULP(4, FT_COPY_BYTES_XPULP)
                         : [from] "+r"(from), [to] "+r"(to), [v0] "=&r"(v0), [v1] "=&r"(v1)
                         : [n] "r"(rounds)
                         : "memory");
    count -= 2 * size * rounds;
#endif
    for (; count > 0; count -= size, from += size, to += size) {
        if (in_words)
            *(ft_word_xpulp_t *)(void *)to = *(const ft_word_xpulp_t *)(const void *)from;
        else
            *to = *from;
    }
    return to;
}

/* A real number sign * size * 2^exponent as binary16, rounded to nearest, halves to even; size < 2^63. */
FT_INLINE uint32_t ft_to_half_xpulp(uint32_t sign, uint64_t size, int exponent) {
    uint64_t rest = 0;
    int down = 0;
    if (size == 0)
        return sign << 15;
    /* The last bit counts 2^-24 at least; 11 bits stay. */
    while (size >> down >= 2048 || exponent + down < -24)
        if (++down > 63)
            return sign << 15;
    if (down > 0) {
        rest = size << (64 - down); /* what is cut off, in units of 2^-64 of the last bit */
        size >>= down;
        exponent += down;
        size += rest > (uint64_t)1 << 63 || (rest == (uint64_t)1 << 63 && size & 1);
    }
    while (size < 1024 && exponent > -24) {
        size <<= 1;
        exponent--;
    }
    /* A carry into the twelfth bit, or out of the subnormals, is right in this sum. */
    const uint32_t bits = (uint32_t)(exponent + 24) * 1024u + (uint32_t)size;
    return sign << 15 | (bits < 0x7c00u ? bits : 0x7c00u);
}

/* The integer, at most 11 bits, and its exponent in a finite binary16. */
FT_INLINE uint32_t ft_half_size_xpulp(uint32_t half) {
    return half & 0x7c00u ? 1024u + (half & 1023u) : half & 1023u;
}

FT_INLINE int ft_half_exponent_xpulp(uint32_t half) {
    const int biased = (int)(half >> 10 & 31u);
    return (biased > 0 ? biased : 1) - 25;
}

/* a * b + c on binary16, rounded once. */
FT_INLINE uint32_t ft_half_fma_xpulp(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t nan = 0x7e00u, infinity = 0x7c00u, sign = (a ^ b) >> 15 & 1u;
    const uint32_t abs_a = a & 0x7fffu, abs_b = b & 0x7fffu, abs_c = c & 0x7fffu;
    if (abs_a > infinity || abs_b > infinity || abs_c > infinity)
        return nan;
    if (abs_a == infinity || abs_b == infinity) {
        const int undefined = abs_a == 0 || abs_b == 0 || (abs_c == infinity && c >> 15 != sign);
        return undefined ? nan : sign << 15 | infinity;
    }
    if (abs_c == infinity || ((abs_a == 0 || abs_b == 0) && abs_c != 0))
        return c;
    uint64_t product = (uint64_t)ft_half_size_xpulp(a) * ft_half_size_xpulp(b),
             addend = ft_half_size_xpulp(c);
    int exponent = ft_half_exponent_xpulp(a) + ft_half_exponent_xpulp(b);
    const int apart = exponent - ft_half_exponent_xpulp(c); /* -53 to 34: nothing is shifted out */
    if (apart > 0) {
        product <<= apart;
        exponent -= apart;
    } else {
        addend <<= -apart;
    }
    if (sign == c >> 15)
        return ft_to_half_xpulp(sign, product + addend, exponent);
    if (product == addend)
        return 0;
    return product > addend ? ft_to_half_xpulp(sign, product - addend, exponent)
                            : ft_to_half_xpulp(sign ^ 1u, addend - product, exponent);
}

/* acc + a * b on two binary16 values each, rounded once, to nearest with halves to even (vfmac.h). */
FT_INLINE uint32_t ft_vfmac_h_xpulp(uint32_t a, uint32_t b, uint32_t acc) {
#if defined(FT_XPULP_INSN)
    FT_RD_XPULP(0x33, 2, 0x48, acc, a, b);
    return acc;
#elif defined(FT_XPULP_BUILTINS)
    __asm__("vfmac.h %0, %1, %2" : "+r"(acc) : "r"(a), "r"(b));
    return acc;
#else
    return ft_half_fma_xpulp(a & 0xffffu, b & 0xffffu, acc & 0xffffu) |
           ft_half_fma_xpulp(a >> 16, b >> 16, acc >> 16) << 16;
#endif
}

/* acc + a * b on two binary16 values of a and the first one of b, as ft_vfmac_h_xpulp (vfmac.r.h). */
FT_INLINE uint32_t ft_vfmac_r_h_xpulp(uint32_t a, uint32_t b, uint32_t acc) {
#if defined(FT_XPULP_INSN)
    FT_RD_XPULP(0x33, 6, 0x48, acc, a, b);
    return acc;
#elif defined(FT_XPULP_BUILTINS)
    __asm__("vfmac.r.h %0, %1, %2" : "+r"(acc) : "r"(a), "r"(b));
    return acc;
#else
    return ft_vfmac_h_xpulp(a, (b & 0xffffu) | b << 16, acc);
#endif
}

/* A float as binary16, rounded to nearest with halves to even. */
FT_INLINE uint32_t ft_half_xpulp(float x) {
    union {
        float value;
        uint32_t bits;
    } number = {x};
    const uint32_t sign = number.bits >> 31, biased = number.bits >> 23 & 255u;
    const uint32_t fraction = number.bits & 0x7fffffu;
    if (biased == 255)
        return fraction ? 0x7e00u : sign << 15 | 0x7c00u;
    if (biased > 143) /* at least 2^17 */
        return sign << 15 | 0x7c00u;
    return ft_to_half_xpulp(sign, biased ? fraction | 0x800000u : fraction, (int)(biased ? biased : 1) - 150);
}

/* Two floats as binary16, the first in the lower half (vfcpka.h.s). */
FT_INLINE uint32_t ft_vfcpka_h_xpulp(float low, float high) {
#if defined(FT_XPULP_INSN)
    uint32_t halves;
    FT_R_XPULP(0x33, 2, 0x58, halves, low, high);
    return halves;
#elif defined(FT_XPULP_BUILTINS)
    uint32_t halves;
    __asm__("vfcpka.h.s %0, %1, %2" : "=r"(halves) : "r"(low), "r"(high));
    return halves;
#else
    return ft_half_xpulp(low) | ft_half_xpulp(high) << 16;
#endif
}

/* The binary16 value in the lower half (fcvt.s.h). */
FT_INLINE float ft_half_to_float_xpulp(uint32_t half) {
#if defined(FT_XPULP_INSN)
    float value;
    __asm__(".insn r 0x53, 0, 0x20, %0, %1, x2" : "=r"(value) : "r"(half));
    return value;
#elif defined(FT_XPULP_BUILTINS)
    float value;
    __asm__("fcvt.s.h %0, %1" : "=r"(value) : "r"(half));
    return value;
#else
    const uint32_t size = half & 0x7fffu;
    union {
        uint32_t bits;
        float value;
    } number = {(half & 0x8000u) << 16};
    if (size >= 0x7c00u)
        number.bits |= size << 13 | 0x7f800000u;
    else if (size >= 0x400u)
        number.bits |= (size << 13) + (112u << 23);
    else
        number.value = (number.bits ? -0x1p-24f : 0x1p-24f) * (float)size;
    return number.value;
#endif
}

#endif
