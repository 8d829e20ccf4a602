/* Vectors of neighbouring outputs.
 *
 * Every float kernel is written once over ft_vec: FT_LANES outputs side by side. Each lane is one output with
 * its own chain of fused multiply-adds, so the width of the vector never changes a bit of the result. Targets
 * without a vector unit have one lane. FT_BLOCK x FT_VECTORS vectors is the block of outputs that one inner
 * loop holds in registers.
 */
#ifndef FT_LANES_H
#define FT_LANES_H

#include <stddef.h>
#include <stdint.h>

#define FT_INLINE static inline __attribute__((always_inline))
/* A loop over registers, 0 <= k < n: it must be unrolled, or the array that holds the block would live in
 * memory. */
#define FT_EACH(k, n) _Pragma("GCC unroll 8") for (int k = 0; k < (n); k++)

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define FT_LANES   8
#define FT_BLOCK   6
#define FT_VECTORS 2
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
#else
#define FT_LANES   1
#define FT_BLOCK   4
#define FT_VECTORS 4
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
    return __builtin_fmaf(a, b, c);
}
#endif

/* Loads `count` values that lie `stride` elements apart into the first lanes; the others hold 0. */
FT_INLINE ft_vec ft_gather(const float *p, int stride, int count) {
    if (FT_LANES == 1 || (stride == 1 && count == FT_LANES))
        return ft_load(p);
    float lane[FT_LANES] = {0};
    for (int k = 0; k < count; k++)
        lane[k] = p[k * stride];
    return ft_load(lane);
}

/* Stores the first `count` lanes. */
FT_INLINE void ft_scatter(float *p, ft_vec v, int count) {
    if (count == FT_LANES) {
        ft_store(p, v);
    } else {
        float lane[FT_LANES];
        ft_store(lane, v);
        for (int k = 0; k < count; k++)
            p[k] = lane[k];
    }
}

#endif
