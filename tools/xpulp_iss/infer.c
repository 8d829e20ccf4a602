/* Runs a generated model on xpulp_iss: for each sample in the input, all input tensors in the order of the
 * table, it writes all output tensors, then the instructions of each of STEPS steps (uint32). */
#include "model_api.h"
#include "system.h"

static int read_sample(void) {
    for (int k = 0; k < ft_model.tensor_count; k++) {
        const ft_tensor_t *tensor = &ft_model.tensors[k];
        if (tensor->role == FT_INPUT && read_input(tensor->data, tensor->bytes) != tensor->bytes)
            return 0;
    }
    return 1;
}

int main(void) {
    static uint32_t counts[STEPS];
    ft_model.reset();
    while (read_sample()) {
        for (uint32_t k = 0; k < STEPS; k++) {
            const uint32_t before = instructions();
            ft_model.infer(k, k + 1);
            counts[k] = instructions() - before;
        }
        if (!ft_model.intact())
            return 1;
        for (int k = 0; k < ft_model.tensor_count; k++)
            if (ft_model.tensors[k].role == FT_OUTPUT)
                write_output(ft_model.tensors[k].data, ft_model.tensors[k].bytes);
        write_output(counts, sizeof counts);
    }
    return 0;
}
