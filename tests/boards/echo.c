/* A firmware that uses nothing but the port: one letter is a command, answers are little-endian words. */
#include <string.h>
#include "port.h"

static uint32_t initialised = 0x12345678;
static uint32_t zeroed;
static volatile uint32_t sink;

static void take(uint8_t *data, size_t count) {
    while (count > 0) {
        const size_t taken = ft_port_read(data, count);
        data += taken;
        count -= taken;
        if (taken == 0) {
            ft_port_idle();
        }
    }
}

static uint32_t take_word(void) {
    uint8_t bytes[4];
    take(bytes, sizeof bytes);
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void put_word(uint32_t word) {
    const uint8_t bytes[] = {(uint8_t)word, (uint8_t)(word >> 8), (uint8_t)(word >> 16),
                             (uint8_t)(word >> 24)};
    ft_port_write(bytes, sizeof bytes);
}

static void echo(void) {
    uint8_t chunk[100];
    uint32_t left = take_word();
    while (left > 0) {
        const size_t count = ft_port_read(chunk, left < sizeof chunk ? left : sizeof chunk);
        ft_port_write(chunk, count);
        left -= (uint32_t)count;
        if (count == 0) {
            ft_port_idle();
        }
    }
}

/* Works without reading, and says how many ticks that took. */
static void spin(uint32_t rounds) {
    const uint64_t start = ft_port_ticks();
    for (uint32_t i = 0; i < rounds; i++) {
        sink = i;
    }
    put_word((uint32_t)(ft_port_ticks() - start));
    put_word(ft_port_overruns());
}

static void put_ticks(void) {
    const uint64_t ticks = ft_port_ticks();
    put_word((uint32_t)ticks);
    put_word((uint32_t)(ticks >> 32));
    put_word(ft_port_ticks_hz());
}

static void put_stack(void) {
    const uint32_t *low, *high;
    uint32_t painted = 0;
    ft_port_stack(&low, &high);
    while (low + painted < high && low[painted] == FT_STACK_PAINT) {
        painted++;
    }
    put_word((uint32_t)(high - low));
    put_word(painted);
}

static void put_memory(void) {
    uint8_t area[40];
    for (uint32_t i = 0; i < sizeof area; i++) {
        area[i] = (uint8_t)i;
    }
    const size_t from = take_word(), to = take_word(), count = take_word();
    memmove(area + to, area + from, count);
    memset(area + from, 0xEE, to % 8);
    memcpy(area + 36, area, count % 5);
    ft_port_write(area, sizeof area);
    put_word((uint32_t)memcmp(area, area + 1, 8));
}

static void put_floats(void) {
    union {
        float value;
        uint32_t bits;
    } sum = {.value = 0.1f}, root;
    for (uint32_t i = 1; i <= 1000; i++) {
        sum.value = __builtin_fmaf(sum.value, 0.999f, 1.0f / (float)i);
    }
    root.value = __builtin_sqrtf(sum.value);
    put_word(sum.bits);
    put_word(root.bits);
}

static uint32_t __attribute__((noinline)) deeper(uint32_t depth) {
    volatile uint32_t frame[64];
    frame[depth % 64] = depth;
    return depth == 0 ? 0 : deeper(depth - 1) + frame[depth % 64];
}

static void obey(uint8_t command) {
    switch (command) {
    case '?':
    case '.':
        ft_port_write(&command, 1);
        break;
    case 'e':
        echo();
        break;
    case 'b':
        spin(take_word());
        break;
    case 't':
        put_ticks();
        break;
    case 's':
        put_stack();
        break;
    case 'u':
        sink = deeper(take_word() / 256);
        break;
    case 'm':
        put_memory();
        break;
    case 'f':
        put_floats();
        break;
    case 'd':
        put_word(initialised++);
        put_word(zeroed++);
        break;
    case 'r':
        ft_port_reset();
        break;
    case 'o':
        sink = deeper(UINT32_MAX);
        break;
    case 'i':
        __builtin_trap();
        break;
    default:
        break;
    }
}

int main(void) {
    ft_port_init();
    for (;;) {
        uint8_t command;
        take(&command, 1);
        obey(command);
    }
}
