/* Applies the functions of kernels/xpulp/xpulp.h to operands from the input: the same program on xpulp_iss
 * and on this computer, with each back end.
 *
 * A record is an operation and three words; its result is one word. Operands of DOTS (`a` words, `b`
 * pixels plus 4 times the channels) and COPY (`a` words or, if `b` is 0, bytes) come from a generator with
 * the seed `c`; their result is a checksum.
 */
#include "xpulp/xpulp.h"

#include "system.h"

enum {
    SDOTSP,
    SDOTUSP,
    SDOTUP,
    MAC,
    MAX,
    MIN,
    CLIP,
    CLAMP,
    MAX4,
    SHUFFLE,
    PACK,
    TRANSPOSE,
    LOAD,
    DOTS,
    COPY
};
enum { VFMAC = 100, VFCPKA, FMADD, VFMAC_R, HALF, FMUL, FADD, COST = 200 };

#define MOST_WORDS 64

static uint32_t seed;

static uint32_t drawn(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed ^ seed >> 15;
}

static uint32_t checksum(uint32_t sum, uint32_t value) {
    return (sum ^ value) * 0x9e3779b1u + (sum >> 7);
}

static uint32_t dots(int words, int pixels, int channels) {
    static uint32_t w[4 * MOST_WORDS], x[2][MOST_WORDS];
    uint32_t acc[2][4], sum = 0;
    for (int k = 0; k < words; k++) {
        for (int o = 0; o < 4; o++)
            w[4 * k + o] = drawn();
        x[0][k] = drawn();
        x[1][k] = drawn();
    }
    for (int k = 0; k < 8; k++)
        acc[k / 4][k % 4] = drawn();
    const int8_t *at[2] = {(const int8_t *)x[0], (const int8_t *)x[1]}, *end = (const int8_t *)w;
    if (channels == 1)
        end = ft_dots_xpulp(acc, end, at, words, 2, 1);
    else if (pixels == 2)
        end = ft_dots_xpulp(acc, end, at, words, 2, 4);
    else
        end = ft_dots_xpulp(acc, end, at, words, 1, 4);
    for (int k = 0; k < 8; k++)
        sum = checksum(sum, acc[k / 4][k % 4]);
    for (int p = 0; p < 2; p++)
        sum = checksum(sum, (uint32_t)(at[p] - (const int8_t *)x[p]));
    return checksum(sum, (uint32_t)(end - (const int8_t *)w));
}

/* Instructions for `words` words of two pixels and four channels. */
static uint32_t cost(int words) {
    static uint32_t w[4 * MOST_WORDS], x[2][MOST_WORDS];
    uint32_t acc[2][4] = {{0}};
    const int8_t *at[2] = {(const int8_t *)x[0], (const int8_t *)x[1]};
    const uint32_t before = instructions();
    ft_dots_xpulp(acc, (const int8_t *)w, at, words, 2, 4);
    return instructions() - before + 0 * acc[0][0];
}

static uint32_t copy(int count, int in_words) {
    static uint32_t from[MOST_WORDS], to[MOST_WORDS];
    uint32_t sum = 0;
    for (int k = 0; k < MOST_WORDS; k++) {
        from[k] = drawn();
        to[k] = 77;
    }
    const int8_t *end = in_words ? ft_copy_xpulp((int8_t *)to, (const int8_t *)from, 4 * count, 1)
                                 : ft_copy_xpulp((int8_t *)to + 1, (const int8_t *)from + 2, count, 0);
    for (int k = 0; k < MOST_WORDS; k++)
        sum = checksum(sum, to[k]);
    return checksum(sum, (uint32_t)(end - (const int8_t *)to));
}

static uint32_t transpose(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t rows[4] = {a, b, c, a ^ c};
    uint32_t columns[4], sum = 0;
    ft_transpose4_xpulp(rows, columns);
    for (int k = 0; k < 4; k++)
        sum = checksum(sum, columns[k]);
    return sum;
}

static uint32_t loaded(uint32_t a, uint32_t b) {
    const uint32_t words[3] = {a, 0, b};
    const int8_t *at = (const int8_t *)words;
    const uint32_t first = ft_load_xpulp(&at, 8);
    return first - 3 * ft_load_xpulp(&at, -4);
}

#ifndef FT_XPULP_BUILTINS
typedef union {
    uint32_t bits;
    float value;
} number_t;

static uint32_t floats(uint32_t operation, uint32_t a, uint32_t b, uint32_t c) {
    const number_t x = {a}, y = {b}, z = {c};
    number_t sum;
    if (operation == VFMAC)
        return ft_vfmac_h_xpulp(a, b, c);
    if (operation == VFMAC_R)
        return ft_vfmac_r_h_xpulp(a, b, c);
    if (operation == VFCPKA)
        return ft_vfcpka_h_xpulp(x.value, y.value);
    if (operation == HALF)
        sum.value = ft_half_to_float_xpulp(a);
    else if (operation == FMUL)
        sum.value = ft_single_mul(x.value, y.value);
    else if (operation == FADD)
        sum.value = ft_single_add(x.value, y.value);
    else
        sum.value = ft_single_fma(x.value, y.value, z.value);
    return sum.value != sum.value ? 0x7fc00000u : sum.bits; /* hosts have NaNs of their own */
}
#endif

static uint32_t result(uint32_t operation, uint32_t a, uint32_t b, uint32_t c) {
    seed = c;
    switch (operation) {
    case SDOTSP:
        return ft_sdotsp4_xpulp(a, b, c);
    case SDOTUSP:
        return ft_sdotusp4_xpulp(a, b, c);
    case SDOTUP:
        return ft_sdotup4_xpulp(a, b, c);
    case MAC:
        return ft_mac_xpulp(a, (int32_t)b, (int32_t)c);
    case MAX:
        return (uint32_t)ft_max_xpulp((int32_t)a, (int32_t)b);
    case MIN:
        return (uint32_t)ft_min_xpulp((int32_t)a, (int32_t)b);
    case CLIP:
        return (uint32_t)ft_clamp_xpulp((int32_t)a, -128, 127);
    case CLAMP:
        return (uint32_t)ft_clamp_xpulp((int32_t)a, -3, 90);
    case MAX4:
        return ft_max4_xpulp(a, b);
    case SHUFFLE:
        return ft_shuffle4_xpulp(a, b, c & 0x07070707u);
    case PACK:
        return ft_pack4_xpulp((int32_t)a, (int32_t)b, (int32_t)c, (int32_t)(a ^ b));
    case TRANSPOSE:
        return transpose(a, b, c);
    case LOAD:
        return loaded(a, b);
    case DOTS:
        return dots((int)a, (int)b & 3, (int)b >> 2);
    case COST:
        return cost((int)a);
    case COPY:
        return copy((int)a, (int)b);
    default:
#ifdef FT_XPULP_BUILTINS
        return 0;
#else
        return floats(operation, a, b, c);
#endif
    }
}

int main(void) {
    uint32_t record[4];
    while (read_input(record, sizeof record) == sizeof record) {
        const uint32_t value = result(record[0], record[1], record[2], record[3]);
        write_output(&value, sizeof value);
    }
    return 0;
}
