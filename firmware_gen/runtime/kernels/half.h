/* Sums of products in binary16 (1 sign, 5 exponent, 10 fraction bits), eight side by side.
 *
 * Each product is added with one fused multiply-add that rounds once, to nearest with halves to even, as
 * GAP9's vfmac.h does for two at a time. Everywhere else floats give the same bits: see ft_half_fma. Values
 * in memory are words of two, the first in the lower half.
 */
#ifndef FT_HALF_H
#define FT_HALF_H

#include "ft_math.h"
#if defined(FT_XPULP_INSN) || defined(__gap9__) || defined(__GAP9__) || defined(__riscv_xpulp)
#define FT_HALF_XPULP 1
#include "xpulp/xpulp.h"
#else
#define FT_HALF_XPULP 0
#endif

/* A float as binary16, rounded to nearest with halves to even. */
FT_INLINE uint32_t ft_half_bits(float x) {
    const uint32_t bits = ft_float_to_bits(x), sign = bits >> 31 << 15, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u)
        return 0x7e00u;
    if (size >= 0x477ff000u) /* 65,520 */
        return sign | 0x7c00u;
    if (size < 0x38800000u) /* 2^-14: in units of 2^-24, which is where 0.5 ends */
        return sign | (ft_float_to_bits(ft_bits_to_float(size) + 0.5f) - 0x3f000000u);
    return sign | (((size + 0xfffu + (size >> 13 & 1u)) >> 13) - (112u << 10));
}

FT_INLINE float ft_half_value(uint32_t half) {
    const uint32_t sign = half >> 15 << 31, size = half & 0x7fffu;
    if (size < 0x400u)
        return ft_bits_to_float(sign | ft_float_to_bits((float)size * 0x1p-24f));
    return ft_bits_to_float(sign | ((size << 13) + (size < 0x7c00u ? 112u << 23 : 224u << 23)));
}

/* a * b + c for values of binary16, rounded once to binary16.
 *
 * The product is exact in a float (22 bits). The sum is rounded to a float and then to binary16, which would
 * be once too often: a float that lies halfway between two values of binary16 must not have been rounded. So
 * where it was, as its exact error tells (Knuth's TwoSum), it becomes the neighbour with an odd last bit. */
FT_INLINE float ft_half_fma(float a, float b, float c) {
    const float product = a * b, sum = product + c, rest = sum - product;
    const float error = (product - (sum - rest)) + (c - rest);
    uint32_t bits = ft_float_to_bits(sum);
    if ((error < 0.0f || error > 0.0f) && (bits & 1u) == 0)
        bits += (error > 0.0f) == (sum > 0.0f) ? 1u : ~0u;
    return ft_half_value(ft_half_bits(ft_bits_to_float(bits)));
}

/* Two floats as a word of binary16. */
FT_INLINE uint32_t ft_halves(float low, float high) {
#if FT_HALF_XPULP
    return ft_vfcpka_h_xpulp(low, high);
#elif defined(__F16C__)
    return (uint32_t)_mm_extract_epi32(_mm_cvtps_ph(_mm_set_ps(0, 0, high, low), 0), 0);
#else
    return ft_half_bits(low) | ft_half_bits(high) << 16;
#endif
}

/* Eight sums. A word holds two neighbours. */
#if FT_HALF_XPULP
typedef struct {
    uint32_t word[4];
} ft_eight_t;
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define FT_HALF_AVX 1
typedef struct {
    __m256 lanes;
} ft_eight_t;
#else
typedef struct {
    float lane[8];
} ft_eight_t;
#endif

#ifdef FT_HALF_AVX
/* ft_half_fma of eight. */
FT_INLINE __m256 ft_eight_fma(__m256 a, __m256 b, __m256 c) {
    const __m256 product = _mm256_mul_ps(a, b), sum = _mm256_add_ps(product, c);
    const __m256 rest = _mm256_sub_ps(sum, product);
    const __m256 error =
        _mm256_add_ps(_mm256_sub_ps(product, _mm256_sub_ps(sum, rest)), _mm256_sub_ps(c, rest));
    const __m256i bits = _mm256_castps_si256(sum), one = _mm256_set1_epi32(1);
    const __m256 zero = _mm256_setzero_ps();
    const __m256i rounded = _mm256_castps_si256(_mm256_cmp_ps(error, zero, _CMP_NEQ_OQ));
    /* -1 where signs differ, else 1: an arithmetic shift of both signs. */
    const __m256i signs = _mm256_xor_si256(bits, _mm256_castps_si256(error));
    const __m256i away = _mm256_or_si256(_mm256_srai_epi32(signs, 31), one);
    const __m256i even = _mm256_sub_epi32(_mm256_and_si256(bits, one), one);
    const __m256i odd = _mm256_add_epi32(bits, _mm256_and_si256(_mm256_and_si256(rounded, even), away));
    return _mm256_cvtph_ps(_mm256_cvtps_ph(_mm256_castsi256_ps(odd), _MM_FROUND_TO_NEAREST_INT));
}

FT_INLINE __m256 ft_eight_load(const uint32_t *at) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)at));
}
#elif !FT_HALF_XPULP
FT_INLINE float ft_half_at(const uint32_t *at, int k) {
    return ft_half_value(at[k / 2] >> 16 * (k % 2) & 0xffffu);
}
#endif

FT_INLINE void ft_eight_clear(ft_eight_t acc[4]) {
    FT_EACH(p, 4) {
#if FT_HALF_XPULP
        FT_EACH(k, 4)
            acc[p].word[k] = 0;
#elif defined(FT_HALF_AVX)
        acc[p].lanes = _mm256_setzero_ps();
#else
        FT_EACH(k, 8)
            acc[p].lane[k] = 0.0f;
#endif
    }
}

#ifdef FT_XPULP_INSN
/* GCC takes 30 operands, of which 16 sums would be 32: so they have registers of their own. */
/* clang-format off */
#define FT_HALF_REGISTERS                                                                                    \
    "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "memory"
#define FT_HALF_EACH(INSTRUCTION)                                                                            \
    INSTRUCTION " a0, 0(%[acc])\n\t" INSTRUCTION " a1, 4(%[acc])\n\t"                                        \
    INSTRUCTION " a2, 8(%[acc])\n\t" INSTRUCTION " a3, 12(%[acc])\n\t"                                       \
    INSTRUCTION " a4, 16(%[acc])\n\t" INSTRUCTION " a5, 20(%[acc])\n\t"                                      \
    INSTRUCTION " a6, 24(%[acc])\n\t" INSTRUCTION " a7, 28(%[acc])\n\t"                                      \
    INSTRUCTION " s2, 32(%[acc])\n\t" INSTRUCTION " s3, 36(%[acc])\n\t"                                      \
    INSTRUCTION " s4, 40(%[acc])\n\t" INSTRUCTION " s5, 44(%[acc])\n\t"                                      \
    INSTRUCTION " s6, 48(%[acc])\n\t" INSTRUCTION " s7, 52(%[acc])\n\t"                                      \
    INSTRUCTION " s8, 56(%[acc])\n\t" INSTRUCTION " s9, 60(%[acc])\n\t"
#define FT_HALF_ZEROS                                                                                        \
    "li a0, 0\n\tli a1, 0\n\tli a2, 0\n\tli a3, 0\n\tli a4, 0\n\tli a5, 0\n\tli a6, 0\n\tli a7, 0\n\t"            \
    "li s2, 0\n\tli s3, 0\n\tli s4, 0\n\tli s5, 0\n\tli s6, 0\n\tli s7, 0\n\tli s8, 0\n\tli s9, 0\n\t"
#define FT_HALF_FMA(ACC, A, B) ".insn r 0x33, 2, 0x48, " #ACC ", %[" #A "], %[" #B "]\n\t"
#define FT_HALF_FMA_4(A0, A1, A2, A3, VALUE)                                                                \
    FT_HALF_FMA(A0, VALUE, n) FT_HALF_FMA(A1, VALUE, w1)                                                   \
    FT_HALF_FMA(A2, VALUE, w2) FT_HALF_FMA(A3, VALUE, w3)
#define FT_HALF_FMA_LOW(ACC, A, B) ".insn r 0x33, 6, 0x48, " #ACC ", %[" #A "], %[" #B "]\n\t"
#define FT_HALF_FMA_LOW_4(A0, A1, A2, A3, VALUE)                                                            \
    FT_HALF_FMA_LOW(A0, n, VALUE) FT_HALF_FMA_LOW(A1, w1, VALUE)                                           \
    FT_HALF_FMA_LOW(A2, w2, VALUE) FT_HALF_FMA_LOW(A3, w3, VALUE)
#define FT_HALF_LOAD(VALUE, AT) ".insn i 0x0b, 2, %[" #VALUE "], %[" #AT "], 4\n\t"
#define FT_HALF_LOAD_STEP(VALUE, AT, STEP) ".insn i 0x0b, 2, %[" #VALUE "], %[" #AT "], %[" #STEP "]\n\t"
#define FT_HALF_LOAD_AT(VALUE, AT, OFFSET) "lw %[" #VALUE "], %[" #OFFSET "](%[" #AT "])\n\t"
#define FT_HALF_HIGH(VALUE) "srli %[" #VALUE "], %[" #VALUE "], 16\n\t"
/* n is the register of the loop's count before, and inside of the first weights' word. No load is used by
 * the instruction behind it. */
#define FT_HALF_DOTS_STEP                                                                                   \
    FT_HALF_LOAD_AT(v1, x0, row) FT_HALF_LOAD(v0, x0) FT_HALF_LOAD(n, w)                                  \
    FT_HALF_LOAD(w1, w) FT_HALF_LOAD(w2, w) FT_HALF_LOAD(w3, w)                                           \
    FT_HALF_FMA_4(a0, a1, a2, a3, v0) FT_HALF_LOAD_AT(v0, x2, row)                                         \
    FT_HALF_FMA_4(a4, a5, a6, a7, v1) FT_HALF_LOAD(v1, x2)                                                 \
    FT_HALF_FMA_4(s6, s7, s8, s9, v0) FT_HALF_FMA_4(s2, s3, s4, s5, v1)
#define FT_HALF_OUTER_STEP                                                                                  \
    FT_HALF_LOAD(v0, x) FT_HALF_LOAD_STEP(v1, x, xs)                                                       \
    FT_HALF_LOAD(n, y) FT_HALF_LOAD(w1, y) FT_HALF_LOAD(w2, y) FT_HALF_LOAD_STEP(w3, y, ys)              \
    FT_HALF_FMA_LOW_4(a0, a1, a2, a3, v0) FT_HALF_HIGH(v0)                                                 \
    FT_HALF_FMA_LOW_4(s2, s3, s4, s5, v1) FT_HALF_HIGH(v1)                                                 \
    FT_HALF_FMA_LOW_4(a4, a5, a6, a7, v0) FT_HALF_FMA_LOW_4(s6, s7, s8, s9, v1)
/* clang-format on */
#endif

/* The sums of 4 rows of x, x_row words apart, times those of 4 channels: of each of n words both values at
 * once, in two sums side by side. Word k of channel o is w[4 * k + o]. They go on, or begin anew. n > 0;
 * constant anew, x_row < 512.
 *
 * acc[p], 2 o and 2 o + 1: += x[p * x_row + k] * w[4 * k + o], k = 0, 1, ..., n - 1. */
FT_INLINE void ft_eight_dots(ft_eight_t acc[4], int anew, const uint32_t *x, int x_row, const uint32_t *w,
                             int n) {
#ifdef FT_XPULP_INSN
    const uint32_t *x0 = x, *x2 = x + 2 * x_row;
    uint32_t count = (uint32_t)n, w1, w2, w3, v0, v1;
#define FT_HALF_DOTS(BEGIN)                                                                                  \
    __asm__ volatile(BEGIN FT_LOOP_XPULP(24, FT_HALF_DOTS_STEP) "\n\t" FT_HALF_EACH("sw")                    \
                     : [n] "+r"(count), [w] "+r"(w), [x0] "+r"(x0), [x2] "+r"(x2), [w1] "=&r"(w1),           \
                       [w2] "=&r"(w2), [w3] "=&r"(w3), [v0] "=&r"(v0), [v1] "=&r"(v1)                        \
                     : [row] "i"(4 * x_row), [acc] "r"(acc)                                                  \
                     : FT_HALF_REGISTERS)
    if (anew)
        FT_HALF_DOTS(FT_HALF_ZEROS);
    else
        FT_HALF_DOTS(FT_HALF_EACH("lw"));
#else
    if (anew)
        ft_eight_clear(acc);
    for (int k = 0; k < n; k++, w += 4) {
#if FT_HALF_XPULP
        FT_EACH(p, 4)
            FT_EACH(o, 4)
                acc[p].word[o] = ft_vfmac_h_xpulp(x[p * x_row + k], w[o], acc[p].word[o]);
#elif defined(FT_HALF_AVX)
        const __m256 weights = ft_eight_load(w);
        FT_EACH(p, 4) {
            const __m128i pair = _mm_set1_epi32((int)x[p * x_row + k]);
            acc[p].lanes = ft_eight_fma(_mm256_cvtph_ps(pair), weights, acc[p].lanes);
        }
#else
        FT_EACH(p, 4)
            FT_EACH(o, 8)
                acc[p].lane[o] =
                    ft_half_fma(ft_half_at(x + p * x_row + k, o % 2), ft_half_at(w, o), acc[p].lane[o]);
#endif
    }
#endif
}

/* The sums of 4 values of x times 8 of y over `rows` rows of n pixels, whose words lie x_step and y_step
 * apart; behind a row x and y move by x_gap and y_gap words. rows > 0, n > 0; constant n < 2048, steps, and
 * which gap is 0: one at least.
 *
 * acc[i], o: the sum of (value i at x) * (value o at y), row by row, pixel by pixel. */
FT_INLINE void ft_eight_outer(ft_eight_t acc[4], const uint32_t *x, int x_step, int x_gap, const uint32_t *y,
                              int y_step, int y_gap, int rows, int n) {
#ifdef FT_XPULP_INSN
    uint32_t n_and_w0, w1, w2, w3, v0, v1;
#define FT_HALF_OUTER(MOVE, GAP)                                                                             \
    __asm__ volatile(FT_HALF_ZEROS "1: li %[n], %[pixels]\n\t" FT_LOOP_XPULP(                                \
                         24, FT_HALF_OUTER_STEP) "\n\t" MOVE "addi %[rows], %[rows], -1\n\t"                 \
                                                 "bnez %[rows], 1b\n\t" FT_HALF_EACH("sw")                   \
                     : [n] "=&r"(n_and_w0), [x] "+r"(x), [y] "+r"(y), [w1] "=&r"(w1), [w2] "=&r"(w2),        \
                       [w3] "=&r"(w3), [v0] "=&r"(v0), [v1] "=&r"(v1), [rows] "+r"(rows)                     \
                     : [xs] "i"(4 * x_step - 4), [ys] "i"(4 * y_step - 12), [acc] "r"(acc), [pixels] "i"(n), \
                       [gap] "r"(4 * (GAP))                                                                  \
                     : FT_HALF_REGISTERS)
    if (y_gap == 0)
        FT_HALF_OUTER("add %[x], %[x], %[gap]\n\t", x_gap);
    else
        FT_HALF_OUTER("add %[y], %[y], %[gap]\n\t", y_gap);
#else
    ft_eight_clear(acc);
    for (int row = 0; row < rows; row++, x += x_gap, y += y_gap)
        for (int k = 0; k < n; k++, x += x_step, y += y_step) {
#if FT_HALF_XPULP
            FT_EACH(i, 4)
                FT_EACH(o, 4)
                    acc[i].word[o] = ft_vfmac_r_h_xpulp(y[o], x[i / 2] >> 16 * (i % 2), acc[i].word[o]);
#elif defined(FT_HALF_AVX)
            const __m256 gradients = ft_eight_load(y);
            FT_EACH(i, 4) {
                const __m128i value = _mm_set1_epi16((short)(x[i / 2] >> 16 * (i % 2)));
                acc[i].lanes = ft_eight_fma(_mm256_cvtph_ps(value), gradients, acc[i].lanes);
            }
#else
            FT_EACH(i, 4)
                FT_EACH(o, 8)
                    acc[i].lane[o] = ft_half_fma(ft_half_at(x, i), ft_half_at(y, o), acc[i].lane[o]);
#endif
        }
#endif
}

/* Sum k as a float. */
FT_INLINE float ft_eight_value(const ft_eight_t *acc, int k) {
#if FT_HALF_XPULP
    return ft_half_to_float_xpulp(acc->word[k / 2] >> 16 * (k % 2));
#elif defined(FT_HALF_AVX)
    return acc->lanes[k];
#else
    return acc->lane[k];
#endif
}

/* sums[p][o] += (sum 2 o + sum 2 o + 1 of acc[p]) * unit. */
FT_INLINE void ft_eight_add_pairs(float sums[4][4], const ft_eight_t acc[4], float unit) {
    FT_EACH(p, 4)
        FT_EACH(o, 4) {
            const float low = ft_eight_value(acc + p, 2 * o), high = ft_eight_value(acc + p, 2 * o + 1);
            sums[p][o] = ft_single_fma(ft_single_add(low, high), unit, sums[p][o]);
        }
}

/* sums[i][o] += sum o of acc[i] * unit. */
FT_INLINE void ft_eight_add(float sums[4][8], const ft_eight_t acc[4], float unit) {
    FT_EACH(i, 4)
        FT_EACH(o, 8)
            sums[i][o] = ft_single_fma(ft_eight_value(acc + i, o), unit, sums[i][o]);
}

#endif
