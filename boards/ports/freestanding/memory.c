/* memcpy and its kin: the compiler calls them on its own account, with or without a C library. */
#include <stdint.h>
#include <string.h>

/* Without this GCC recognises the loops below and turns memcpy into a call of memcpy. */
#pragma GCC optimize("no-tree-loop-distribute-patterns")

typedef uint32_t __attribute__((may_alias)) word_t;

#define WORD sizeof(word_t)

static int aligned(const void *pointer) {
    return (uintptr_t)pointer % WORD == 0;
}

/* Lowest address first: right for separate areas, and for overlapping ones when `out` is below `in`. */
static void copy_up(uint8_t *out, const uint8_t *in, size_t count) {
    if (aligned(out) && aligned(in)) {
        for (; count >= WORD; count -= WORD, out += WORD, in += WORD) {
            *(word_t *)(void *)out = *(const word_t *)(const void *)in;
        }
    }
    for (; count > 0; count--) {
        *out++ = *in++;
    }
}

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    copy_up(to, from, count);
    return to;
}

void *memmove(void *to, const void *from, size_t count) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (out <= in) {
        copy_up(out, in, count);
        return to;
    }
    while (count > 0) {
        count--;
        out[count] = in[count];
    }
    return to;
}

void *memset(void *to, int value, size_t count) {
    uint8_t *out = to;
    const uint8_t byte = (uint8_t)value;
    if (aligned(out)) {
        const word_t word = 0x01010101u * byte;
        for (; count >= WORD; count -= WORD, out += WORD) {
            *(word_t *)(void *)out = word;
        }
    }
    for (; count > 0; count--) {
        *out++ = byte;
    }
    return to;
}

int memcmp(const void *left, const void *right, size_t count) {
    const uint8_t *a = left;
    const uint8_t *b = right;
    for (; count > 0; count--, a++, b++) {
        if (*a != *b) {
            return *a - *b;
        }
    }
    return 0;
}
