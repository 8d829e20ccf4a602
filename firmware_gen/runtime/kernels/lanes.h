/* Vectors of neighbouring outputs.
 *
 * Every float kernel is written once over ft_vec: FT_LANES outputs side by side. Each lane is one output with
 * its own chain of fused multiply-adds, so the width of the vector never changes a bit of the result. Targets
 * without a vector unit have one lane. One inner loop holds a block of outputs in registers: FT_BLOCK rows of
 * FT_VECTORS vectors, or one row of FT_SINGLE; where every vector has its own weight and input (depthwise),
 * one row of FT_STRIP.
 */
#ifndef FT_LANES_H
#define FT_LANES_H

#include <stddef.h>
#include <stdint.h>

#define FT_INLINE static inline __attribute__((always_inline))
/* A loop over registers, 0 <= k < n: it must be unrolled, or the array that holds the block would live in
 * memory. */
#define FT_EACH(k, n) _Pragma("GCC unroll 16") for (int k = 0; k < (n); k++)
/* The loop over the products of a block: where the loop itself costs as much as a product, a few at once. */
#ifdef __AVX2__
#define FT_PRODUCTS(k, n) _Pragma("GCC unroll 1") for (int k = 0; k < (n); k++)
#else
#define FT_PRODUCTS(k, n) _Pragma("GCC unroll 4") for (int k = 0; k < (n); k++)
#endif

/* a * b, a + b, a * b + c, rounded once, to nearest. FT_XPULP_INSN is for compilers that think that a core
 * with floats in its integer registers has none: fmul.s, fadd.s, fmadd.s by their fields. */
#ifdef FT_XPULP_INSN
FT_INLINE float ft_single_mul(float a, float b) {
    float product;
    __asm__(".insn r 0x53, 0, 0x08, %0, %1, %2" : "=r"(product) : "r"(a), "r"(b));
    return product;
}
FT_INLINE float ft_single_add(float a, float b) {
    float sum;
    __asm__(".insn r 0x53, 0, 0x00, %0, %1, %2" : "=r"(sum) : "r"(a), "r"(b));
    return sum;
}
FT_INLINE float ft_single_fma(float a, float b, float c) {
    float sum;
    __asm__(".insn r4 0x43, 0, 0, %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}
#else
FT_INLINE float ft_single_mul(float a, float b) {
    return a * b;
}
FT_INLINE float ft_single_add(float a, float b) {
    return a + b;
}
FT_INLINE float ft_single_fma(float a, float b, float c) {
    return __builtin_fmaf(a, b, c);
}
#endif

/* Cortex-M whose vectors take floats; Cortex-M with a scalar unit for single precision. */
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#define FT_MVE 1
#define FT_VFP 0
#elif defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M' && defined(__ARM_FP) && (__ARM_FP & 4)
#define FT_MVE 0
#define FT_VFP 1
#else
#define FT_MVE 0
#define FT_VFP 0
#endif

#define FT_BLOCK_VECTORS 16 /* at least those of any block */

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define FT_LANES   8
#define FT_BLOCK   6
#define FT_VECTORS 2
#define FT_SINGLE  4
#define FT_STRIP   4
typedef __m256 ft_vec;
FT_INLINE ft_vec ft_load(const float *p) {
    return _mm256_loadu_ps(p);
}
FT_INLINE void ft_store(float *p, ft_vec v) {
    _mm256_storeu_ps(p, v);
}
FT_INLINE ft_vec ft_splat(float x) {
    return _mm256_set1_ps(x);
}
FT_INLINE ft_vec ft_fma(ft_vec a, ft_vec b, ft_vec c) {
    return _mm256_fmadd_ps(a, b, c);
}
FT_INLINE ft_vec ft_fma_scalar(float a, ft_vec b, ft_vec c) {
    return _mm256_fmadd_ps(_mm256_set1_ps(a), b, c);
}
FT_INLINE ft_vec ft_mul(ft_vec a, ft_vec b) {
    return _mm256_mul_ps(a, b);
}
FT_INLINE ft_vec ft_div(ft_vec a, ft_vec b) {
    return _mm256_div_ps(a, b);
}
FT_INLINE ft_vec ft_sqrt(ft_vec a) {
    return _mm256_sqrt_ps(a);
}
#elif FT_MVE
#include <arm_mve.h>
#define FT_LANES   4
#define FT_BLOCK   2
#define FT_VECTORS 2
#define FT_SINGLE  4
#define FT_STRIP   4
typedef float32x4_t ft_vec;
FT_INLINE ft_vec ft_load(const float *p) {
    return vld1q_f32(p);
}
FT_INLINE void ft_store(float *p, ft_vec v) {
    vst1q_f32(p, v);
}
FT_INLINE ft_vec ft_splat(float x) {
    return vdupq_n_f32(x);
}
FT_INLINE ft_vec ft_fma(ft_vec a, ft_vec b, ft_vec c) {
    return vfmaq_f32(c, a, b);
}
FT_INLINE ft_vec ft_fma_scalar(float a, ft_vec b, ft_vec c) {
    return vfmaq_n_f32(c, b, a);
}
FT_INLINE ft_vec ft_mul(ft_vec a, ft_vec b) {
    return vmulq_f32(a, b);
}
/* Helium neither divides nor takes roots. */
FT_INLINE ft_vec ft_div(ft_vec a, ft_vec b) {
    FT_EACH(k, FT_LANES)
        a[k] = a[k] / b[k];
    return a;
}
FT_INLINE ft_vec ft_sqrt(ft_vec a) {
    FT_EACH(k, FT_LANES)
        a[k] = __builtin_sqrtf(a[k]);
    return a;
}
#else
#define FT_LANES   1
#define FT_BLOCK   4
#define FT_VECTORS 4
#define FT_SINGLE  8
#define FT_STRIP   (FT_VFP ? 16 : 8)
typedef float ft_vec;
FT_INLINE ft_vec ft_load(const float *p) {
    return *p;
}
FT_INLINE void ft_store(float *p, ft_vec v) {
    *p = v;
}
FT_INLINE ft_vec ft_splat(float x) {
    return x;
}
FT_INLINE ft_vec ft_fma(ft_vec a, ft_vec b, ft_vec c) {
    return ft_single_fma(a, b, c);
}
FT_INLINE ft_vec ft_fma_scalar(float a, ft_vec b, ft_vec c) {
    return ft_single_fma(a, b, c);
}
FT_INLINE ft_vec ft_mul(ft_vec a, ft_vec b) {
    return ft_single_mul(a, b);
}
FT_INLINE ft_vec ft_div(ft_vec a, ft_vec b) {
    return a / b;
}
FT_INLINE ft_vec ft_sqrt(ft_vec a) {
    return __builtin_sqrtf(a);
}
#endif

/* Loads `count` values that lie `stride` elements apart into the first lanes; the others hold 0. */
FT_INLINE ft_vec ft_gather(const float *p, int stride, int count) {
    if (FT_LANES == 1 || (stride == 1 && count == FT_LANES))
        return ft_load(p);
#if FT_MVE
    const uint32_t apart = (uint32_t)stride;
    const uint32x4_t offsets = {0, apart, 2 * apart, 3 * apart};
    return count == FT_LANES ? vldrwq_gather_shifted_offset_f32(p, offsets)
                             : vldrwq_gather_shifted_offset_z_f32(p, offsets, vctp32q((uint32_t)count));
#else
    float lane[FT_LANES] = {0};
    for (int k = 0; k < count; k++)
        lane[k] = p[k * stride];
    return ft_load(lane);
#endif
}

/* Stores the first `count` lanes. */
FT_INLINE void ft_scatter(float *p, ft_vec v, int count) {
    if (count == FT_LANES) {
        ft_store(p, v);
    } else {
#if FT_MVE
        vstrwq_p_f32(p, v, vctp32q((uint32_t)count));
#else
        float lane[FT_LANES];
        ft_store(lane, v);
        for (int k = 0; k < count; k++)
            p[k] = lane[k];
#endif
    }
}

#endif
