/* Trains a generated model: for each sample in the input, all inputs, labels and masks in the order of the
 * table, a training step; then it writes losses, and whatever a step leaves behind. */
#include "model_api.h"
#include "system.h"

#define ROLES(...)                                                                                           \
    (const uint8_t[]){__VA_ARGS__}, sizeof(uint8_t[]) {                                                      \
        __VA_ARGS__                                                                                          \
    }

static int transfer(const uint8_t *roles, size_t count, size_t (*move)(void *, size_t)) {
    for (size_t r = 0; r < count; r++)
        for (int k = 0; k < ft_model.tensor_count; k++) {
            const ft_tensor_t *tensor = &ft_model.tensors[k];
            if (tensor->role == roles[r] && move(tensor->data, tensor->bytes) != tensor->bytes)
                return 0;
        }
    return 1;
}

static size_t write(void *from, size_t count) {
    write_output(from, count);
    return count;
}

int main(void) {
    const ft_hyper_t hyper = {
        .lr = 0.02f, .momentum = 0.5f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .accumulate = 1};
    float losses[8] = {0};
    ft_model.reset();
    while (transfer(ROLES(FT_INPUT, FT_LABEL, FT_MASK), read_input)) {
        ft_model.step(0, UINT32_MAX, &hyper, losses);
        if (!ft_model.intact())
            return 1;
        write_output(losses, sizeof losses);
        transfer(ROLES(FT_WEIGHT, FT_STATE, FT_RANGE), write);
    }
    return 0;
}
