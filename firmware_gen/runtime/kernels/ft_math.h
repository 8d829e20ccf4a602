/* Functions whose every bit is the same on every target: only IEEE-754 single operations in a fixed order. */
#ifndef FT_MATH_H
#define FT_MATH_H

#include "lanes.h"

FT_INLINE float ft_bits_to_float(uint32_t bits) {
    union {
        uint32_t u;
        float f;
    } value = {bits};
    return value.f;
}

FT_INLINE uint32_t ft_float_to_bits(float x) {
    union {
        float f;
        uint32_t u;
    } value = {x};
    return value.u;
}

FT_INLINE float ft_absf(float x) {
    return ft_bits_to_float(ft_float_to_bits(x) & 0x7fffffffu);
}

/* e^x, relative error below 2e-7 for -87 <= x <= 88; 0 below, e^88 above.
 * x = n ln 2 + r with |r| <= ln 2 / 2 (Cody-Waite), e^r by its Taylor polynomial of degree 7. */
FT_INLINE float ft_expf(float x) {
    if (x < -87.0f)
        return 0.0f;
    x = x < 88.0f ? x : 88.0f;
    const float scaled = x * 1.44269504088896341f;
    const int n = (int)(scaled < 0.0f ? scaled - 0.5f : scaled + 0.5f);
    float r = __builtin_fmaf((float)n, -0.693145751953125f, x);
    r = __builtin_fmaf((float)n, -1.42860682030941723e-6f, r);
    float p = 1.0f / 5040.0f;
    p = __builtin_fmaf(p, r, 1.0f / 720.0f);
    p = __builtin_fmaf(p, r, 1.0f / 120.0f);
    p = __builtin_fmaf(p, r, 1.0f / 24.0f);
    p = __builtin_fmaf(p, r, 1.0f / 6.0f);
    p = __builtin_fmaf(p, r, 0.5f);
    p = __builtin_fmaf(p, r, 1.0f);
    p = __builtin_fmaf(p, r, 1.0f);
    return p * ft_bits_to_float((uint32_t)(n + 127) << 23);
}

/* ln x for normal x > 0, absolute error below 2e-7 (1 + |ln x|); -88 for everything below the normal range.
 * x = 2^n m with sqrt(1/2) <= m < sqrt(2), ln m = 2 artanh(s), s = (m - 1) / (m + 1). */
FT_INLINE float ft_logf(float x) {
    if (!(x >= 1.17549435e-38f))
        return -88.0f;
    const uint32_t bits = ft_float_to_bits(x);
    int n = (int)(bits >> 23) - 127;
    float m = ft_bits_to_float((bits & 0x007fffffu) | 0x3f800000u);
    if (m > 1.41421356f) {
        m = m * 0.5f;
        n += 1;
    }
    const float s = (m - 1.0f) / (m + 1.0f);
    const float s2 = s * s;
    float p = 2.0f / 11.0f;
    p = __builtin_fmaf(p, s2, 2.0f / 9.0f);
    p = __builtin_fmaf(p, s2, 2.0f / 7.0f);
    p = __builtin_fmaf(p, s2, 2.0f / 5.0f);
    p = __builtin_fmaf(p, s2, 2.0f / 3.0f);
    p = __builtin_fmaf(p, s2, 2.0f);
    return __builtin_fmaf((float)n, 0.693147180559945309f, p * s);
}

FT_INLINE float ft_sigmoidf(float x) {
    /* e^-|x| never overflows, whatever the sign. */
    const float e = ft_expf(-ft_absf(x));
    return x < 0.0f ? e / (1.0f + e) : 1.0f / (1.0f + e);
}

/* Relative error below 5e-7. Near 0, where 1 - e^-2|x| cancels, the Taylor polynomial of degree 9. */
FT_INLINE float ft_tanhf(float x) {
    const float size = ft_absf(x);
    if (size < 0.25f) {
        const float x2 = x * x;
        float p = 62.0f / 2835.0f;
        p = __builtin_fmaf(p, x2, -17.0f / 315.0f);
        p = __builtin_fmaf(p, x2, 2.0f / 15.0f);
        p = __builtin_fmaf(p, x2, -1.0f / 3.0f);
        return __builtin_fmaf(x * x2, p, x);
    }
    const float e = ft_expf(-2.0f * size);
    const float y = (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -y : y;
}

#endif
