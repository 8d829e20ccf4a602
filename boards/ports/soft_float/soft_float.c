/* fmaf and sqrtf for cores without a floating-point unit, correctly rounded (to nearest, ties to even) for
 * all numbers, subnormal ones included, as IEEE 754 defines them. Addition, multiplication, division and
 * comparison are libgcc's. No fmaf of a C library is asked: newlib's rounds twice, once in double and once in
 * float.
 */
#include <stdint.h>

float fmaf(float x, float y, float z);
float sqrtf(float x);

#define SIGN          0x80000000u
#define INFINITE      0x7F800000u
#define FRACTION_BITS 23
#define HIDDEN        (1u << FRACTION_BITS)
#define PRODUCT_ZEROS 15 /* 48 bits up to bit 62 */
#define ADDEND_ZEROS  39 /* 24 bits up to bit 62 */
typedef union {
    float value;
    uint32_t bits;
} float_t;

static inline uint32_t bits_of(float value) {
    const float_t number = {.value = value};
    return number.bits;
}

static inline float float_of(uint32_t bits) {
    const float_t number = {.bits = bits};
    return number.value;
}

/* Returns the significand, leading one in bit 23, of a finite number that is not 0; `exponent` is biased and
 * may go below 1. */
static inline uint32_t significand_of(uint32_t bits, int32_t *exponent) {
    const uint32_t fraction = bits & (HIDDEN - 1u);
    *exponent = (int32_t)(bits >> FRACTION_BITS & 0xFFu);
    if (*exponent != 0) {
        return fraction | HIDDEN;
    }
    const int32_t shift = __builtin_clz(fraction) - 8;
    *exponent = 1 - shift;
    return fraction << shift;
}

/* value >> count; what falls out leaves its mark in the last bit, so that rounding still knows of it. The
 * lowest `zeros` bits of the value are 0: up to there nothing is lost, which is quick and common. */
static inline uint64_t shift_right(uint64_t value, uint32_t count, uint32_t zeros) {
    if (count <= zeros) {
        return value >> count;
    }
    if (count > 63u) {
        return value != 0;
    }
    return value >> count | ((value & (((uint64_t)1 << count) - 1u)) != 0);
}

/* Rounds value * 2^(exponent - 189), value != 0, and puts the sign before it: `exponent` is biased (127) and
 * that of a leading one in bit 62. */
static inline float rounded(uint32_t sign, uint64_t value, int32_t exponent) {
    const int32_t up =
        __builtin_clzll(value) - 1; /* to a leading one in bit 62, down from 63 where it is there */
    value = up >= 0 ? value << up : shift_right(value, 1, 0);
    exponent -= up;
    if (exponent < 1) { /* subnormal: as many bits less */
        value = shift_right(value, (uint32_t)(1 - exponent), 0);
        exponent = 0;
    }
    if (exponent >= 255) {
        return float_of(sign | INFINITE);
    }
    const uint32_t rest_bits = 62u - FRACTION_BITS;
    const uint64_t half = (uint64_t)1 << (rest_bits - 1u), rest = value & (2u * half - 1u);
    const uint32_t kept = (uint32_t)(value >> rest_bits);
    const uint32_t round = rest > half || (rest == half && (kept & 1u));
    /* A carry goes from the fraction into the exponent, as far as infinity: that is what it should do. */
    const uint32_t magnitude =
        exponent == 0 ? kept + round : ((uint32_t)(exponent - 1) << FRACTION_BITS) + kept + round;
    return float_of(sign | magnitude);
}

float fmaf(float x, float y, float z) {
    const uint32_t a = bits_of(x), b = bits_of(y), c = bits_of(z);
    if ((a & ~SIGN) - 1u >= INFINITE - 1u || (b & ~SIGN) - 1u >= INFINITE - 1u) {
        return x * y + z; /* the product is 0, infinite or no number: exact */
    }
    if ((c & ~SIGN) - 1u >= INFINITE - 1u) {
        return (c & ~SIGN) == 0 ? x * y : z + z;
    }
    int32_t a_exponent, b_exponent, c_exponent;
    const uint32_t a_significand = significand_of(a, &a_exponent),
                   b_significand = significand_of(b, &b_exponent);
    uint32_t sign = (a ^ b) & SIGN;
    uint64_t product = (uint64_t)a_significand * b_significand
                       << PRODUCT_ZEROS; /* leading one in bit 61 or 62 */
    uint64_t addend = (uint64_t)significand_of(c, &c_exponent) << ADDEND_ZEROS; /* in bit 62 */
    int32_t exponent = a_exponent + b_exponent - 126;
    const int32_t apart = exponent - c_exponent;
    if (apart >= 0) {
        addend = shift_right(addend, (uint32_t)apart, ADDEND_ZEROS);
    } else {
        product = shift_right(product, (uint32_t)-apart, PRODUCT_ZEROS);
        exponent = c_exponent;
    }
    if (((c ^ sign) & SIGN) == 0) {
        return rounded(sign, product + addend, exponent);
    }
    if (product == addend) {
        return 0.0f;
    }
    if (product > addend) {
        return rounded(sign, product - addend, exponent);
    }
    return rounded(sign ^ SIGN, addend - product, exponent);
}

float sqrtf(float x) {
    const uint32_t bits = bits_of(x);
    if ((bits & ~SIGN) == 0 || bits == INFINITE) {
        return x;
    }
    if (bits > INFINITE) {
        return (x - x) / (x - x);
    }
    int32_t exponent;
    uint32_t left = significand_of(bits, &exponent) << 1;
    if (exponent % 2 == 0) {
        left <<= 1;
    }
    /* Digit by digit: 25 of them, so that the last one is the half that rounds; what is left says whether the
     * root is exact. */
    uint32_t root = 0, tested = 0;
    for (uint32_t digit = 1u << 24; digit != 0; digit >>= 1) {
        const uint32_t next = tested + digit;
        if (next <= left) {
            tested = next + digit;
            left -= next;
            root += digit;
        }
        left <<= 1;
    }
    const uint64_t value = (uint64_t)root << 38 | (left != 0);
    return rounded(0, value, (exponent + 127) / 2);
}
