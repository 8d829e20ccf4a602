/* RV32IMC, Zfinx in single precision, and of Xpulp and the binary16 vectors what
 * firmware_gen/runtime/kernels/xpulp/xpulp.h uses. Everything else is an error, as is what the hardware may
 * do slowly or not at all: a load or store that is not aligned, a hardware loop of no rounds.
 *
 * The binary16 arithmetic is written independently of xpulp.h, which is tested against it.
 */
#include "core.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "program.h"

#define SEMIHOSTING 0x01f01013u /* slli x0, x0, 31, before an ebreak that calls the system */

static core_t *core; /* that executes */

void core_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "xpulp_iss: ");
    vfprintf(stderr, format, arguments);
    if (core != NULL)
        fprintf(stderr, " (core %u, pc 0x%08x)", core->hart, core->pc);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(2);
}

/* Fields of an instruction. */

static uint32_t bits(uint32_t word, int high, int low) {
    return word >> low & (uint32_t)((1ull << (high - low + 1)) - 1);
}

static int32_t signed_bits(uint32_t word, int high, int low) {
    return (int32_t)(word << (31 - high)) >> (31 - high + low);
}

static int32_t immediate_i(uint32_t w) {
    return signed_bits(w, 31, 20);
}

static int32_t immediate_s(uint32_t w) {
    return (int32_t)((uint32_t)signed_bits(w, 31, 25) << 5 | bits(w, 11, 7));
}

static int32_t immediate_b(uint32_t w) {
    return (int32_t)((uint32_t)signed_bits(w, 31, 31) << 12 | bits(w, 7, 7) << 11 | bits(w, 30, 25) << 5 |
                     bits(w, 11, 8) << 1);
}

static int32_t immediate_j(uint32_t w) {
    return (int32_t)((uint32_t)signed_bits(w, 31, 31) << 20 | bits(w, 19, 12) << 12 | bits(w, 20, 20) << 11 |
                     bits(w, 30, 21) << 1);
}

/* Compressed instructions, as the 32-bit instruction that they stand for; 0 where they stand for none. */

static uint32_t type_r(uint32_t funct7, uint32_t rs2, uint32_t rs1, uint32_t funct3, uint32_t rd) {
    return funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x33;
}

static uint32_t type_i(uint32_t value, uint32_t rs1, uint32_t funct3, uint32_t rd, uint32_t opcode) {
    return value << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode;
}

static uint32_t type_sw(uint32_t offset, uint32_t rs2, uint32_t rs1) {
    return bits(offset, 11, 5) << 25 | rs2 << 20 | rs1 << 15 | 2 << 12 | bits(offset, 4, 0) << 7 | 0x23;
}

static uint32_t type_branch(uint32_t offset, uint32_t rs1, uint32_t funct3) {
    return bits(offset, 12, 12) << 31 | bits(offset, 10, 5) << 25 | rs1 << 15 | funct3 << 12 |
           bits(offset, 4, 1) << 8 | bits(offset, 11, 11) << 7 | 0x63;
}

static uint32_t type_jal(uint32_t offset, uint32_t rd) {
    return bits(offset, 20, 20) << 31 | bits(offset, 10, 1) << 21 | bits(offset, 11, 11) << 20 |
           bits(offset, 19, 12) << 12 | rd << 7 | 0x6f;
}

static uint32_t expand_arithmetic(uint32_t h, uint32_t rd) {
    static const struct {
        uint32_t funct7, funct3;
    } registers[] = {{0x20, 0}, {0, 4}, {0, 6}, {0, 7}}; /* sub, xor, or, and */
    const uint32_t value = (uint32_t)signed_bits(h << 19, 31, 31) << 5 | bits(h, 6, 2);
    switch (bits(h, 11, 10)) {
    case 0: /* c.srli */
        return bits(h, 12, 12) ? 0 : type_i(bits(h, 6, 2), rd, 5, rd, 0x13);
    case 1: /* c.srai */
        return bits(h, 12, 12) ? 0 : type_i(0x400 | bits(h, 6, 2), rd, 5, rd, 0x13);
    case 2: /* c.andi */
        return type_i(value, rd, 7, rd, 0x13);
    default:
        if (bits(h, 12, 12))
            return 0;
        return type_r(registers[bits(h, 6, 5)].funct7, bits(h, 4, 2) + 8, rd, registers[bits(h, 6, 5)].funct3,
                      rd);
    }
}

static uint32_t expand_jumps(uint32_t h, uint32_t rd, uint32_t rs2) {
    if (!bits(h, 12, 12))
        return rs2 ? type_r(0, rs2, 0, 0, rd) : rd ? type_i(0, rd, 0, 0, 0x67) : 0; /* c.mv, c.jr */
    if (rs2)
        return type_r(0, rs2, rd, 0, rd);      /* c.add */
    return rd ? type_i(0, rd, 0, 1, 0x67) : 0; /* c.jalr */
}

static uint32_t expand(uint32_t h) {
    const uint32_t rd = bits(h, 11, 7), rs2 = bits(h, 6, 2), low1 = bits(h, 9, 7) + 8,
                   low2 = bits(h, 4, 2) + 8;
    const uint32_t sign = (uint32_t)signed_bits(h << 19, 31, 31);
    const uint32_t value = sign << 5 | bits(h, 6, 2);
    const uint32_t word = bits(h, 5, 5) << 6 | bits(h, 12, 10) << 3 | bits(h, 6, 6) << 2;
    const uint32_t jump = sign << 11 | bits(h, 8, 8) << 10 | bits(h, 10, 9) << 8 | bits(h, 6, 6) << 7 |
                          bits(h, 7, 7) << 6 | bits(h, 2, 2) << 5 | bits(h, 11, 11) << 4 | bits(h, 5, 3) << 1;
    const uint32_t branch =
        sign << 8 | bits(h, 6, 5) << 6 | bits(h, 2, 2) << 5 | bits(h, 11, 10) << 3 | bits(h, 4, 3) << 1;
    const uint32_t wide =
        bits(h, 10, 7) << 6 | bits(h, 12, 11) << 4 | bits(h, 5, 5) << 3 | bits(h, 6, 6) << 2;
    const uint32_t stack =
        sign << 9 | bits(h, 4, 3) << 7 | bits(h, 5, 5) << 6 | bits(h, 2, 2) << 5 | bits(h, 6, 6) << 4;
    switch (bits(h, 1, 0) << 3 | bits(h, 15, 13)) {
    case 000: /* c.addi4spn */
        return wide ? type_i(wide, 2, 0, low2, 0x13) : 0;
    case 002: /* c.lw */
        return type_i(word, low1, 2, low2, 0x03);
    case 006: /* c.sw */
        return type_sw(word, low2, low1);
    case 010: /* c.addi */
        return type_i(value, rd, 0, rd, 0x13);
    case 011: /* c.jal */
        return type_jal(jump, 1);
    case 012: /* c.li */
        return type_i(value, 0, 0, rd, 0x13);
    case 013: /* c.addi16sp, c.lui */
        if (rd == 2)
            return type_i(stack, 2, 0, 2, 0x13);
        return value << 12 | rd << 7 | 0x37;
    case 014:
        return expand_arithmetic(h, low1);
    case 015: /* c.j */
        return type_jal(jump, 0);
    case 016: /* c.beqz */
        return type_branch(branch, low1, 0);
    case 017: /* c.bnez */
        return type_branch(branch, low1, 1);
    case 020: /* c.slli */
        return bits(h, 12, 12) ? 0 : type_i(rs2, rd, 1, rd, 0x13);
    case 022: /* c.lwsp */
        return type_i(bits(h, 3, 2) << 6 | bits(h, 12, 12) << 5 | bits(h, 6, 4) << 2, 2, 2, rd, 0x03);
    case 024:
        return expand_jumps(h, rd, rs2);
    case 026: /* c.swsp */
        return type_sw(bits(h, 8, 7) << 6 | bits(h, 12, 9) << 2, rs2, 2);
    default:
        return 0;
    }
}

/* Memory. */

static uint8_t *at(uint32_t address, uint32_t size) {
    if (address % size != 0)
        core_fail("%u bytes at 0x%08x are not aligned", size, address);
    return machine_memory(address, size);
}

static uint32_t load(uint32_t funct3, uint32_t address) {
    static const uint8_t sizes[] = {1, 2, 4, 0, 1, 2, 0, 0};
    uint32_t word = 0;
    if (sizes[funct3] == 0)
        core_fail("no such load");
    const uint8_t *const from = at(address, sizes[funct3]);
    if (from == NULL)
        word = machine_read(core, address, sizes[funct3]);
    else
        memcpy(&word, from, sizes[funct3]);
    return funct3 == 0 ? (uint32_t)(int8_t)word : funct3 == 1 ? (uint32_t)(int16_t)word : word;
}

static void store(uint32_t funct3, uint32_t address, uint32_t value) {
    if (funct3 > 2)
        core_fail("no such store");
    uint8_t *const to = at(address, 1u << funct3);
    if (to == NULL)
        machine_write(core, address, 1u << funct3, value);
    else
        memcpy(to, &value, 1u << funct3);
}

static uint32_t code(uint32_t address) {
    const uint8_t *const from = at(address, 2);
    uint16_t half;
    if (from == NULL)
        core_fail("no code lies at 0x%08x", address);
    memcpy(&half, from, 2);
    return half;
}

/* Integers. */

static uint32_t multiply_divide(uint32_t funct3, uint32_t a, uint32_t b) {
    const int32_t sa = (int32_t)a, sb = (int32_t)b;
    switch (funct3) {
    case 0:
        return a * b;
    case 1:
        return (uint32_t)((int64_t)sa * sb >> 32);
    case 2:
        return (uint32_t)((int64_t)sa * (int64_t)b >> 32);
    case 3:
        return (uint32_t)((uint64_t)a * b >> 32);
    case 4:
        return b == 0 ? UINT32_MAX : sa == INT32_MIN && sb == -1 ? a : (uint32_t)(sa / sb);
    case 5:
        return b == 0 ? UINT32_MAX : a / b;
    case 6:
        return b == 0 ? a : sa == INT32_MIN && sb == -1 ? 0 : (uint32_t)(sa % sb);
    default:
        return b == 0 ? a : a % b;
    }
}

static uint32_t integer(uint32_t funct3, int alternative, uint32_t a, uint32_t b) {
    switch (funct3) {
    case 0:
        return alternative ? a - b : a + b;
    case 1:
        return a << (b & 31);
    case 2:
        return (int32_t)a < (int32_t)b;
    case 3:
        return a < b;
    case 4:
        return a ^ b;
    case 5:
        return alternative ? (uint32_t)((int32_t)a >> (b & 31)) : a >> (b & 31);
    case 6:
        return a | b;
    default:
        return a & b;
    }
}

static int is_taken(uint32_t funct3, uint32_t a, uint32_t b) {
    switch (funct3) {
    case 0:
        return a == b;
    case 1:
        return a != b;
    case 4:
        return (int32_t)a < (int32_t)b;
    case 5:
        return (int32_t)a >= (int32_t)b;
    case 6:
        return a < b;
    case 7:
        return a >= b;
    default:
        core_fail("no such branch");
    }
}

/* Single precision in integer registers. */

static float as_float(uint32_t word) {
    float value;
    memcpy(&value, &word, 4);
    return value;
}

static uint32_t from_float(float value) {
    uint32_t word;
    memcpy(&word, &value, 4);
    return isnan(value) ? 0x7fc00000u : word;
}

static void want_nearest(uint32_t mode) {
    if (mode != 0 && (mode != 7 || (core->fcsr >> 5 & 7) != 0))
        core_fail("rounding mode %u", mode);
}

static uint32_t to_integer(float value, uint32_t mode, int is_signed) {
    if (mode != 1)
        want_nearest(mode);
    const double whole = mode == 1 ? trunc(value) : rint(value);
    if (is_signed)
        return isnan(value) || whole > INT32_MAX ? INT32_MAX
               : whole < INT32_MIN               ? (uint32_t)INT32_MIN
                                                 : (uint32_t)(int32_t)whole;
    return isnan(value) || whole > UINT32_MAX ? UINT32_MAX : whole < 0 ? 0 : (uint32_t)whole;
}

static uint32_t smaller_or_larger(uint32_t a, uint32_t b, int larger) {
    const float fa = as_float(a), fb = as_float(b);
    if (isnan(fa) || isnan(fb))
        return isnan(fa) ? (isnan(fb) ? 0x7fc00000u : b) : a;
    if (fa == fb) /* zeros of both signs */
        return larger ? a & b : a | b;
    return (fa < fb) != larger ? a : b;
}

static float half_value(uint32_t half);

static uint32_t single(uint32_t w, uint32_t a, uint32_t b) {
    const uint32_t mode = bits(w, 14, 12), sign = 0x80000000u;
    const float fa = as_float(a), fb = as_float(b);
    switch (bits(w, 31, 25)) {
    case 0x00:
        want_nearest(mode);
        return from_float(fa + fb);
    case 0x04:
        want_nearest(mode);
        return from_float(fa - fb);
    case 0x08:
        want_nearest(mode);
        return from_float(fa * fb);
    case 0x0c:
        want_nearest(mode);
        return from_float(fa / fb);
    case 0x2c:
        want_nearest(mode);
        return from_float(sqrtf(fa));
    case 0x10:
        return (a & ~sign) | ((mode == 0 ? b : mode == 1 ? ~b : a ^ b) & sign);
    case 0x14:
        return smaller_or_larger(a, b, mode == 1);
    case 0x20: /* fcvt.s.h */
        if (bits(w, 24, 20) != 2)
            core_fail("illegal instruction 0x%08x", w);
        return from_float(half_value(a & 0xffffu));
    case 0x50:
        return mode == 0 ? fa <= fb : mode == 1 ? fa < fb : fa == fb;
    case 0x60:
        return to_integer(fa, mode, bits(w, 24, 20) == 0);
    case 0x68:
        want_nearest(mode);
        return from_float(bits(w, 24, 20) == 0 ? (float)(int32_t)a : (float)a);
    default:
        core_fail("illegal instruction 0x%08x", w);
    }
}

static uint32_t fused(uint32_t opcode, uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t sign = 0x80000000u;
    if (opcode == 0x4b || opcode == 0x4f) /* fnmsub, fnmadd: the product's sign */
        a ^= sign;
    if (opcode == 0x47 || opcode == 0x4f) /* fmsub, fnmadd: the addend's sign */
        c ^= sign;
    return from_float(fmaf(as_float(a), as_float(b), as_float(c)));
}

/* binary16: every finite value and every product of two is a multiple of 2^-48. */

typedef __int128 fixed_t;

static fixed_t fixed_from_half(uint32_t half) {
    const uint32_t biased = half >> 10 & 31, fraction = half & 1023;
    const fixed_t size = biased ? (fixed_t)(1024 + fraction) << (biased + 23) : (fixed_t)fraction << 24;
    return half & 0x8000u ? -size : size;
}

/* A multiple of 2^-`scale` to the nearest binary16, halves to even; `zero` where it is 0. */
static uint32_t half_from_fixed(fixed_t value, int scale, uint32_t zero) {
    if (value == 0)
        return zero;
    const uint32_t sign = value < 0 ? 0x8000u : 0;
    const fixed_t size = value < 0 ? -value : value;
    int ulp = scale - 24; /* the last bit's place: that of subnormals at least */
    while (size >> ulp >= 2048)
        ulp++;
    fixed_t units = size >> ulp;
    const fixed_t rest = size - (units << ulp), half = ulp > 0 ? (fixed_t)1 << (ulp - 1) : 1;
    if (rest > half || (rest == half && units & 1 && ulp > 0))
        units++;
    const uint32_t magnitude = (uint32_t)units + ((uint32_t)(ulp - (scale - 24)) << 10);
    return sign | (magnitude < 0x7c00u ? magnitude : 0x7c00u);
}

static int is_special(uint32_t half) {
    return (half & 0x7c00u) == 0x7c00u;
}

static float half_value(uint32_t half) {
    if (is_special(half))
        return half & 1023 ? NAN : half & 0x8000u ? -INFINITY : INFINITY;
    return half == 0x8000u ? -0.0f : (float)ldexp((double)fixed_from_half(half), -48);
}

static uint32_t half_fma(uint32_t a, uint32_t b, uint32_t c) {
    if (is_special(a) || is_special(b) || is_special(c)) {
        /* No finite binary16 changes what infinities and NaNs make of it: as floats. */
        const float value[3] = {is_special(a) ? (a & 1023 ? NAN : INFINITY) : (a & 0x7fffu) != 0,
                                is_special(b) ? (b & 1023 ? NAN : INFINITY) : (b & 0x7fffu) != 0,
                                is_special(c) ? (c & 1023 ? NAN : INFINITY) : 0};
        const float sum =
            (a & 0x8000u ? -1.0f : 1.0f) * value[0] * ((b & 0x8000u ? -1.0f : 1.0f) * value[1]) +
            (c & 0x8000u ? -1.0f : 1.0f) * value[2];
        return isnan(sum) ? 0x7e00u : sum < 0 ? 0xfc00u : 0x7c00u;
    }
    const uint32_t negative = (a ^ b) & c & 0x8000u; /* -0 only as the sum of two */
    const fixed_t product = (fixed_from_half(a) >> 24) * (fixed_from_half(b) >> 24);
    const fixed_t sum = product + fixed_from_half(c);
    if (sum == 0 && product != 0)
        return 0; /* equal sizes, opposite signs */
    return half_from_fixed(sum, 48, negative);
}

static uint32_t half_from_single(uint32_t word) {
    const uint32_t sign = word >> 16 & 0x8000u;
    const float value = as_float(word);
    if (isnan(value))
        return 0x7e00u;
    if (fabsf(value) >= 65536.0f)
        return sign | 0x7c00u;
    if (fabsf(value) < 0x1p-26f)
        return sign;
    /* From 2^-26 on, the last bit of a float counts 2^-49 at least. */
    return half_from_fixed((fixed_t)ldexp(value, 49), 49, sign);
}

/* Xpulp. */

static uint32_t dot4(uint32_t a, int a_signed, uint32_t b, int b_signed, uint32_t sum) {
    for (int k = 0; k < 32; k += 8) {
        const int32_t va = a_signed ? (int8_t)(a >> k) : (uint8_t)(a >> k);
        const int32_t vb = b_signed ? (int8_t)(b >> k) : (uint8_t)(b >> k);
        sum += (uint32_t)(va * vb);
    }
    return sum;
}

static uint32_t max4(uint32_t a, uint32_t b) {
    uint32_t result = 0;
    for (int k = 0; k < 32; k += 8)
        result |= ((int8_t)(a >> k) > (int8_t)(b >> k) ? a : b) & (255u << k);
    return result;
}

static uint32_t shuffle2(uint32_t rs1, uint32_t picks, uint32_t rd) {
    uint32_t result = 0;
    for (int k = 0; k < 32; k += 8) {
        const uint32_t pick = picks >> k, from = pick & 4 ? rs1 : rd;
        result |= (from >> 8 * (pick & 3) & 255u) << k;
    }
    return result;
}

/* Opcode 0x57. */
static uint32_t vector(uint32_t w, uint32_t a, uint32_t b, uint32_t d) {
    switch (bits(w, 31, 25) << 3 | bits(w, 14, 12)) {
    case 0x5c << 3 | 1: /* pv.sdotsp.b */
        return dot4(a, 1, b, 1, d);
    case 0x54 << 3 | 1: /* pv.sdotusp.b */
        return dot4(a, 0, b, 1, d);
    case 0x50 << 3 | 1: /* pv.sdotup.b */
        return dot4(a, 0, b, 0, d);
    case 0x18 << 3 | 1: /* pv.max.b */
        return max4(a, b);
    case 0x64 << 3 | 1: /* pv.shuffle2.b */
        return shuffle2(a, b, d);
    case 0x6c << 3 | 1: /* pv.packhi.b */
        return (a & 255u) << 24 | (b & 255u) << 16 | (d & 0xffffu);
    case 0x70 << 3 | 1: /* pv.packlo.b */
        return (d & 0xffff0000u) | (a & 255u) << 8 | (b & 255u);
    default:
        core_fail("illegal instruction 0x%08x", w);
    }
}

static uint32_t clip(int32_t value, uint32_t count) {
    const int32_t bound = (int32_t)((1u << (count - 1)) - 1);
    return (uint32_t)(value < -bound - 1 ? -bound - 1 : value > bound ? bound : value);
}

/* What Xpulp and the vectors of floats add to opcode 0x33. */
static uint32_t arithmetic(uint32_t w, uint32_t a, uint32_t b, uint32_t d) {
    switch (bits(w, 31, 25) << 3 | bits(w, 14, 12)) {
    case 0x21 << 3: /* p.mac */
        return d + a * b;
    case 0x02 << 3 | 4: /* p.min */
        return (int32_t)a < (int32_t)b ? a : b;
    case 0x02 << 3 | 6: /* p.max */
        return (int32_t)a > (int32_t)b ? a : b;
    case 0x0a << 3 | 1: /* p.clip */
        if (bits(w, 24, 20) == 0)
            core_fail("p.clip to no bits");
        return clip((int32_t)a, bits(w, 24, 20));
    case 0x48 << 3 | 2: /* vfmac.h */
        return half_fma(a & 0xffffu, b & 0xffffu, d & 0xffffu) | half_fma(a >> 16, b >> 16, d >> 16) << 16;
    case 0x48 << 3 | 6: /* vfmac.r.h */
        return half_fma(a & 0xffffu, b & 0xffffu, d & 0xffffu) | half_fma(a >> 16, b & 0xffffu, d >> 16)
                                                                     << 16;
    case 0x58 << 3 | 2: /* vfcpka.h.s */
        return half_from_single(a) | half_from_single(b) << 16;
    default:
        core_fail("illegal instruction 0x%08x", w);
    }
}

static void set_up_loop(uint32_t w, uint32_t rounds) {
    const uint32_t last = core->pc + 2 * bits(w, 31, 20);
    if (bits(w, 14, 12) != 4 || bits(w, 11, 8) != 0)
        core_fail("illegal instruction 0x%08x", w);
    if (rounds == 0 || last <= core->pc + 4)
        core_fail("hardware loop of %u rounds over %u bytes", rounds, last - core->pc);
    core->loops[bits(w, 7, 7)] = (loop_t){core->pc + 4, last, rounds};
}

/* At the end of an instruction that did not jump. */
static void go_on(void) {
    for (int k = 0; k < 2; k++)
        if (core->loops[k].rounds > 0 && core->pc == core->loops[k].last) {
            if (--core->loops[k].rounds == 0)
                continue;
            core->next_pc = core->loops[k].start;
            return;
        }
}

/* The system. */

static uint32_t *system_register(uint32_t number) {
    static uint32_t value;
    switch (number) {
    case 0x003:
        return &core->fcsr;
    case 0xc02: /* instret */
        value = (uint32_t)core->instructions;
        return &value;
    case 0xc82:
        value = (uint32_t)(core->instructions >> 32);
        return &value;
    case 0xf14: /* mhartid */
        value = core->hart;
        return &value;
    default:
        return machine_register(core, number);
    }
}

static uint32_t control(uint32_t w, uint32_t a) {
    const uint32_t funct3 = bits(w, 14, 12);
    if (w == 0x00000073) {
        machine_call(core);
        return 0;
    }
    if (w == 0x00100073 && (code(core->pc - 4) | code(core->pc - 2) << 16) == SEMIHOSTING) {
        machine_call(core);
        return 0;
    }
    if (funct3 == 0)
        core_fail("illegal instruction 0x%08x", w);
    uint32_t *value = system_register(bits(w, 31, 20));
    const uint32_t before = *value, operand = funct3 & 4 ? bits(w, 19, 15) : a;
    switch (funct3 & 3) {
    case 1:
        *value = operand;
        break;
    case 2:
        *value |= operand;
        break;
    default:
        *value &= ~operand;
    }
    return before;
}

/* Executes the 32-bit instruction w. */
static void execute(uint32_t w) {
    const uint32_t opcode = bits(w, 6, 0), funct3 = bits(w, 14, 12), rd = bits(w, 11, 7),
                   rs1 = bits(w, 19, 15);
    const uint32_t a = core->x[rs1], b = core->x[bits(w, 24, 20)], funct7 = bits(w, 31, 25);
    const uint32_t after = core->next_pc;
    uint32_t result = core->x[rd];
    switch (opcode) {
    case 0x37: /* lui */
        result = w & 0xfffff000u;
        break;
    case 0x17: /* auipc */
        result = core->pc + (w & 0xfffff000u);
        break;
    case 0x6f: /* jal */
        core->next_pc = core->pc + (uint32_t)immediate_j(w);
        result = after;
        break;
    case 0x67: /* jalr */
        core->next_pc = (a + (uint32_t)immediate_i(w)) & ~1u;
        result = after;
        break;
    case 0x63:
        if (is_taken(funct3, a, b))
            core->next_pc = core->pc + (uint32_t)immediate_b(w);
        break;
    case 0x03:
        result = load(funct3, a + (uint32_t)immediate_i(w));
        break;
    case 0x23:
        store(funct3, a + (uint32_t)immediate_s(w), b);
        break;
    case 0x0b: /* p.lw rd, imm(rs1!) and its like */
        result = load(funct3, a);
        core->x[rs1] = a + (uint32_t)immediate_i(w);
        break;
    case 0x2b: /* p.sw rs2, imm(rs1!) */
        store(funct3, a, b);
        core->x[rs1] = a + (uint32_t)immediate_s(w);
        break;
    case 0x13:
        if ((funct3 == 1 && funct7 != 0) || (funct3 == 5 && (funct7 & ~0x20u) != 0))
            core_fail("illegal instruction 0x%08x", w);
        result = integer(funct3, funct3 == 5 && funct7 == 0x20, a, (uint32_t)immediate_i(w));
        break;
    case 0x33:
        if (funct7 == 1)
            result = multiply_divide(funct3, a, b);
        else if (funct7 == 0 || (funct7 == 0x20 && (funct3 == 0 || funct3 == 5)))
            result = integer(funct3, funct7 == 0x20, a, b);
        else
            result = arithmetic(w, a, b, core->x[rd]);
        break;
    case 0x57:
        result = vector(w, a, b, core->x[rd]);
        break;
    case 0x7b:
        set_up_loop(w, a);
        break;
    case 0x43:
    case 0x47:
    case 0x4b:
    case 0x4f:
        if (bits(w, 26, 25) != 0)
            core_fail("illegal instruction 0x%08x", w);
        want_nearest(funct3);
        result = fused(opcode, a, b, core->x[bits(w, 31, 27)]);
        break;
    case 0x53:
        result = single(w, a, b);
        break;
    case 0x0f: /* fence */
        break;
    case 0x73:
        result = control(w, a);
        if (funct3 == 0)
            result = core->x[rd];
        break;
    default:
        core_fail("illegal instruction 0x%08x", w);
    }
    if (opcode != 0x23 && opcode != 0x63 && opcode != 0x2b && opcode != 0x7b)
        core->x[rd] = result;
    core->x[0] = 0;
    if (core->next_pc == after)
        go_on();
}

void core_step(core_t *stepped) {
    core = stepped;
    uint32_t word = code(core->pc);
    core->next_pc = core->pc + 2;
    if ((word & 3) == 3) {
        word |= code(core->pc + 2) << 16;
        core->next_pc = core->pc + 4;
    } else {
        const uint32_t half = word;
        word = expand(half);
        if (word == 0)
            core_fail("illegal instruction 0x%04x", half);
    }
    core->instructions++;
    program_count(core->pc);
    execute(word);
    core->pc = core->next_pc;
}
