#include "commands.h"

#include <string.h>
#include "bytes.h"

static uint64_t ticks(const ft_firmware_t *firmware) {
    return firmware->port->ticks != NULL ? firmware->port->ticks() : 0;
}

static uint32_t overruns(const ft_firmware_t *firmware) {
    return firmware->port->overruns != NULL ? firmware->port->overruns() : 0;
}

void ft_command_infer(ft_firmware_t *firmware, const uint8_t *payload) {
    uint32_t first = ft_get_u32(payload + FT_INFER_REQUEST_FIRST);
    uint32_t end = ft_get_u32(payload + FT_INFER_REQUEST_END);
    ft_send(firmware, FT_MSG_BUSY, firmware->last_seq, NULL, 0);
    uint64_t start = ticks(firmware);
    firmware->model->infer(first, end);
    ft_put_u64(firmware->short_reply + FT_INFER_REPLY_TICKS, ticks(firmware) - start);
    ft_reply_with(firmware, firmware->short_reply, FT_INFER_REPLY_SIZE);
}

/* Runs the parts of this training step from `first` to before `end`. The losses wait in the reply from one
 * piece to the next. Only the last piece makes the step one that was done. */
static void run_step(ft_firmware_t *firmware, uint32_t first, uint32_t end) {
    const ft_model_t *model = firmware->model;
    const size_t bytes = sizeof(float) * model->loss_count;
    const int done = first < model->step_parts && end >= model->step_parts;
    uint8_t *reply = firmware->step_reply;
    float losses[FT_MAX_LOSSES];
    memcpy(losses, reply + FT_STEP_REPLY_LOSSES, bytes);
    ft_send(firmware, FT_MSG_BUSY, firmware->last_seq, NULL, 0);
    uint64_t start = ticks(firmware);
    model->step(first, end, &firmware->hyper, losses);
    ft_put_u64(reply + FT_STEP_REPLY_TICKS, ticks(firmware) - start);
    ft_put_u32(reply + FT_STEP_REPLY_STEP, firmware->step);
    memcpy(reply + FT_STEP_REPLY_LOSSES, losses, bytes);
    ft_reply_with(firmware, reply, (uint8_t)(FT_STEP_REPLY_SIZE + bytes));
    firmware->step_reply_bytes = done ? firmware->reply_bytes : 0;
    firmware->step += (uint32_t)done;
}

/* The step that was done last may be asked for again, in another session too: its result is told, it does not
 * run. */
void ft_command_step(ft_firmware_t *firmware, const uint8_t *payload) {
    uint32_t wanted = ft_get_u32(payload + FT_STEP_REQUEST_STEP);
    if (!ft_trainable(firmware->model)) {
        ft_reply_refused(firmware, FT_REFUSED_NOT_TRAINABLE, 0);
    } else if (wanted == firmware->step) {
        run_step(firmware, ft_get_u32(payload + FT_STEP_REQUEST_FIRST),
                 ft_get_u32(payload + FT_STEP_REQUEST_END));
    } else if (wanted + 1 == firmware->step && firmware->step_reply_bytes != 0) {
        ft_reply_with(firmware, firmware->step_reply, firmware->step_reply_bytes);
    } else {
        ft_reply_refused(firmware, FT_REFUSED_WRONG_STEP, firmware->step);
    }
}

void ft_command_set_step(ft_firmware_t *firmware, uint32_t done) {
    firmware->step = done;
    firmware->step_reply_bytes = 0;
    ft_reply_with(firmware, NULL, 0);
}

void ft_command_reset_weights(ft_firmware_t *firmware) {
    if (!FT_HAS_INITIAL) {
        ft_reply_refused(firmware, FT_REFUSED_NO_INITIAL, 0);
        return;
    }
    firmware->model->reset();
    firmware->restored = 0;
    ft_command_set_step(firmware, 0);
}

void ft_command_hyper(ft_firmware_t *firmware, const uint8_t *payload) {
    uint32_t accumulate = ft_get_u32(payload + FT_HYPER_REQUEST_ACCUMULATE);
    if (accumulate == 0) {
        ft_reply_refused(firmware, FT_REFUSED_BAD_VALUE, 0);
        return;
    }
    firmware->hyper.lr = ft_get_f32(payload + FT_HYPER_REQUEST_LR);
    firmware->hyper.momentum = ft_get_f32(payload + FT_HYPER_REQUEST_MOMENTUM);
    firmware->hyper.weight_decay = ft_get_f32(payload + FT_HYPER_REQUEST_WEIGHT_DECAY);
    firmware->hyper.clip_norm = ft_get_f32(payload + FT_HYPER_REQUEST_CLIP_NORM);
    firmware->hyper.beta1 = ft_get_f32(payload + FT_HYPER_REQUEST_BETA1);
    firmware->hyper.beta2 = ft_get_f32(payload + FT_HYPER_REQUEST_BETA2);
    firmware->hyper.eps = ft_get_f32(payload + FT_HYPER_REQUEST_EPS);
    firmware->hyper.accumulate = accumulate;
    ft_reply_with(firmware, NULL, 0);
}

void ft_command_memory(ft_firmware_t *firmware) {
    const uint32_t none = 0;
    const uint32_t *low = &none;
    const uint32_t *high = &none;
    uint8_t *reply = firmware->short_reply;
    if (firmware->port->stack != NULL) {
        firmware->port->stack(&low, &high);
    }
    const uint32_t *used = low;
    while (used < high && *used == FT_STACK_PAINT) {
        used++;
    }
    ft_put_u32(reply + FT_MEMORY_REPLY_STACK_BYTES, (uint32_t)((size_t)(high - low) * sizeof *low));
    ft_put_u32(reply + FT_MEMORY_REPLY_STACK_USED, (uint32_t)((size_t)(high - used) * sizeof *low));
    reply[FT_MEMORY_REPLY_ARENA_INTACT] = firmware->model->intact() != 0;
    ft_put_u32(reply + FT_MEMORY_REPLY_RX_OVERRUNS, overruns(firmware));
    ft_put_u32(reply + FT_MEMORY_REPLY_BAD_FRAMES, firmware->bad_frames);
    ft_reply_with(firmware, reply, FT_MEMORY_REPLY_SIZE);
}

/* The board starts anew when the reply is sent. */
void ft_command_reboot(ft_firmware_t *firmware) {
    if (firmware->port->reset != NULL) {
        ft_reply_with(firmware, NULL, 0);
    } else {
        ft_reply_refused(firmware, FT_REFUSED_UNKNOWN_TYPE, 0);
    }
}
