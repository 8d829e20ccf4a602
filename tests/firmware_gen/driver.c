/* Runs generated models for the tests: commands from stdin, answers to stdout, both little endian.
 *
 * A command is a code (u8) and the number of a model (u16), then by code:
 *     r  reset                                   i  infer
 *     w  name (u8 length, bytes), values         g  name -> values
 *     s  ft_hyper_t -> losses                    k  -> 1 when the arena's guards are intact (u8)
 */
#include "model_api.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const ft_model_t *const models[]; /* generated beside the models */

static void fail(const char *problem) {
    fprintf(stderr, "driver: %s\n", problem);
    exit(2);
}

static void take(void *data, size_t count) {
    if (fread(data, 1, count, stdin) != count)
        fail("the commands end too early");
}

static void give(const void *data, size_t count) {
    if (fwrite(data, 1, count, stdout) != count)
        fail("the answers cannot be written");
}

static const ft_tensor_t *take_tensor(const ft_model_t *model) {
    uint8_t length;
    char name[256];
    take(&length, sizeof length);
    take(name, length);
    name[length] = 0;
    for (int k = 0; k < model->tensor_count; k++)
        if (strcmp(model->tensors[k].name, name) == 0)
            return &model->tensors[k];
    fail(name);
    return NULL;
}

static void step(const ft_model_t *model) {
    ft_hyper_t hyper;
    float losses[16] = {0};
    take(&hyper, sizeof hyper);
    model->step(0, UINT32_MAX, &hyper, losses);
    give(losses, sizeof losses[0] * model->loss_count);
}

static void obey(int code, const ft_model_t *model) {
    const ft_tensor_t *tensor;
    uint8_t intact;
    switch (code) {
    case 'r':
        model->reset();
        break;
    case 'i':
        model->infer(0, UINT32_MAX);
        break;
    case 's':
        step(model);
        break;
    case 'w':
        tensor = take_tensor(model);
        take(tensor->data, tensor->bytes);
        break;
    case 'g':
        tensor = take_tensor(model);
        give(tensor->data, tensor->bytes);
        break;
    case 'k':
        intact = (uint8_t)model->intact();
        give(&intact, sizeof intact);
        break;
    default:
        fail("unknown command");
    }
}

int main(void) {
    for (int code = getchar(); code != EOF; code = getchar()) {
        uint16_t model;
        take(&model, sizeof model);
        obey(code, models[model]);
    }
    return 0;
}
