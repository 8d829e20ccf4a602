/* Arrays through the two functions of the port, under names of their own beside the C library's. */
#define fmaf  ft_soft_fmaf
#define sqrtf ft_soft_sqrtf
#include "soft_float.c"

void fma_all(const float *x, const float *y, const float *z, float *result, int count) {
    for (int i = 0; i < count; i++) {
        result[i] = ft_soft_fmaf(x[i], y[i], z[i]);
    }
}

void sqrt_all(const float *x, float *result, int count) {
    for (int i = 0; i < count; i++) {
        result[i] = ft_soft_sqrtf(x[i]);
    }
}
