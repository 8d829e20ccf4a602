/* Compares the sums of kernels/half.h with those of kernels/xpulp/xpulp.h, which are computed in integers:
 * all combinations of extremes, then random operands, half of them of sizes that cancel. Writes how many
 * sums were compared and how many differ (uint32). */
#include "half.h"
#include "xpulp/xpulp.h"

#include "system.h"

#define RANDOM 2000000

static const uint32_t extremes[] = {0,      1,      2,      0x3ff,  0x400,  0x401,  0x7ff,  0x3bff,
                                    0x3c00, 0x3c01, 0x4bff, 0x5400, 0x6400, 0x7800, 0x7bfe, 0x7bff};
enum { EXTREMES = 2 * sizeof extremes / sizeof *extremes };

static uint32_t seed = 1, counts[2];

static uint32_t drawn(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 16;
}

static uint32_t extreme(int k) {
    return extremes[k / 2] | (uint32_t)(k % 2) << 15;
}

static uint32_t sum_of(uint32_t a, uint32_t b, uint32_t c) {
    const float x = ft_half_value(a), y = ft_half_value(b), z = ft_half_value(c);
#ifdef FT_HALF_AVX
    const __m256 sum = ft_eight_fma(_mm256_set1_ps(x), _mm256_set1_ps(y), _mm256_set1_ps(z));
    return ft_half_bits(sum[5]);
#else
    return ft_half_bits(ft_half_fma(x, y, z));
#endif
}

static void compare(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t finite = 0x7bffu;
    if ((a & 0x7fffu) > finite || (b & 0x7fffu) > finite || (c & 0x7fffu) > finite)
        return;
    counts[0]++;
    counts[1] += sum_of(a, b, c) != ft_half_fma_xpulp(a, b, c);
}

int main(void) {
    for (int a = 0; a < EXTREMES; a++)
        for (int b = 0; b < EXTREMES; b++)
            for (int c = 0; c < EXTREMES; c++)
                compare(extreme(a), extreme(b), extreme(c));
    for (int k = 0; k < RANDOM; k++) {
        const uint32_t a = drawn(), b = drawn(), product = ft_half_fma_xpulp(a, b, 0);
        compare(a, b, k % 2 ? drawn() : (product ^ 0x8000u) + drawn() % 16u - 8u);
    }
    write_output(counts, sizeof counts);
    return 0;
}
