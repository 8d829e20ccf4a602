/* MLPerf's link around a model that copies: its first output has the bits of the inputs, its second the count
 * of inferences. Bytes come from stdin, answers go to stdout. */
#include <stdio.h>
#include <string.h>
#include "link/link.h"

static uint8_t one[20], other[12], bits[32], runs[1];

static const ft_tensor_t tensors[] = {
    {"bits", bits, 32, {1, 2, 4}, FT_OUTPUT, FT_F32}, {"one", one, 20, {1, 1, 20}, FT_INPUT, FT_U8},
    {"runs", runs, 1, {1, 1, 1}, FT_OUTPUT, FT_I8},   {"other", other, 12, {1, 1, 12}, FT_INPUT, FT_I8},
    {"weight", runs, 1, {1, 1, 1}, FT_WEIGHT, FT_U8},
};

static void reset(void) {}

static void infer(uint32_t first, uint32_t end) {
    if (first != 0 || end != 0xFFFFFFFFu) {
        return;
    }
    memcpy(bits, one, sizeof one);
    memcpy(bits + sizeof one, other, sizeof other);
    memset(one, 0xEE, sizeof one); /* as layers do whose outputs lie there */
    memset(other, 0xEE, sizeof other);
    runs[0]++;
}

static const ft_model_t model = {.tensors = tensors, .tensor_count = 5, .reset = reset, .infer = infer};

static void send(const uint8_t *data, size_t count) {
    fwrite(data, 1, count, stdout);
}

static uint64_t ticks(void) {
    static uint64_t now = 1ull << 62;
    return now += 168;
}

static uint32_t ticks_hz(void) {
    return 168000000;
}

static const ft_link_port_t port = {.write = send, .ticks = ticks, .ticks_hz = ticks_hz};

int main(void) {
    uint8_t data[7];
    size_t count;
    ft_link_open(&model, &port);
    while ((count = fread(data, 1, sizeof data, stdin)) > 0) {
        ft_link_feed(data, count);
    }
    return 0;
}
