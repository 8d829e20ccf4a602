/* As infer.c of the simulator, but each layer is made share by share: see xpulp_shares.h. */
#include "model_api.h"
#include "system.h"

int row_share, channel_share;

static int transfer(int role, size_t (*move)(void *, size_t)) {
    for (int k = 0; k < ft_model.tensor_count; k++) {
        const ft_tensor_t *tensor = &ft_model.tensors[k];
        if (tensor->role == role && move(tensor->data, tensor->bytes) != tensor->bytes)
            return 0;
    }
    return 1;
}

static size_t write(void *from, size_t count) {
    write_output(from, count);
    return count;
}

int main(void) {
    static const uint32_t counts[STEPS];
    ft_model.reset();
    while (transfer(FT_INPUT, read_input)) {
        for (uint32_t k = 0; k < STEPS; k++)
            for (row_share = 0; row_share < SHARES; row_share++)
                for (channel_share = 0; channel_share < SHARES; channel_share++)
                    ft_model.infer(k, k + 1);
        if (!ft_model.intact())
            return 1;
        transfer(FT_OUTPUT, write);
        write_output(counts, sizeof counts);
    }
    return 0;
}
