#include "firmware.h"

#include <string.h>
#include "bytes.h"
#include "commands.h"
#include "field_commands.h"
#include "parts.h"
#include "stored_weights.h"
#include "tensors.h"

/* --- session ----------------------------------------------------------------------------------------- */

static uint32_t ticks_hz(const ft_firmware_t *firmware) {
    return firmware->port->ticks_hz != NULL ? firmware->port->ticks_hz() : 0;
}

static void send_hello(ft_firmware_t *firmware, const ft_request_t *request) {
    const ft_model_t *model = firmware->model;
    uint8_t fixed[FT_HELLO_REPLY_SIZE];
    ft_put_u16(fixed + FT_HELLO_REPLY_PROTOCOL, FT_PROTOCOL_VERSION);
    ft_put_u16(fixed + FT_HELLO_REPLY_MAX_PAYLOAD, FT_MAX_PAYLOAD);
    ft_put_u16(fixed + FT_HELLO_REPLY_WINDOW, firmware->port->window);
    ft_put_u16(fixed + FT_HELLO_REPLY_TENSOR_COUNT, model->tensor_count);
    ft_put_u16(fixed + FT_HELLO_REPLY_LOSS_COUNT, model->loss_count);
    fixed[FT_HELLO_REPLY_TRAINABLE] = (uint8_t)ft_trainable(model);
    ft_put_u32(fixed + FT_HELLO_REPLY_MODEL_HASH, model->model_hash);
    ft_put_u32(fixed + FT_HELLO_REPLY_PLAN_HASH, model->plan_hash);
    ft_put_u32(fixed + FT_HELLO_REPLY_STEP, firmware->step);
    ft_put_u32(fixed + FT_HELLO_REPLY_TICKS_HZ, ticks_hz(firmware));
    ft_put_u32(fixed + FT_HELLO_REPLY_STORE_ROOM, FT_HAS_STORE ? ft_stored_room(firmware) : 0);
    fixed[FT_HELLO_REPLY_RESTORED] = firmware->restored;
    ft_send_with_text(firmware, request, fixed, sizeof fixed, model->name);
}

static void hello(ft_firmware_t *firmware, const ft_request_t *request) {
    if (request->bytes != FT_HELLO_REQUEST_SIZE) {
        ft_refuse(firmware, request, FT_REFUSED_BAD_LENGTH, FT_HELLO_REQUEST_SIZE);
        return;
    }
    if (ft_get_u16(request->payload + FT_HELLO_REQUEST_PROTOCOL) != FT_PROTOCOL_VERSION) {
        ft_refuse(firmware, request, FT_REFUSED_BAD_PROTOCOL, FT_PROTOCOL_VERSION);
        return;
    }
    uint32_t session = ft_get_u32(request->payload + FT_HELLO_REQUEST_SESSION);
    if (session == 0) {
        ft_refuse(firmware, request, FT_REFUSED_BAD_VALUE, 0);
        return;
    }
    if (firmware->session != 0 && session - firmware->session >= 0x80000000u) {
        ft_refuse(firmware, request, FT_REFUSED_OLD_SESSION, firmware->session);
        return;
    }
    if (session != firmware->session) {
        firmware->session = session;
        firmware->last_seq = request->seq;
        firmware->last_type = FT_MSG_HELLO;
    }
    send_hello(firmware, request);
}

/* --- commands ---------------------------------------------------------------------------------------- */

/* Those that must not come between the pieces of what the board does on its own. */
static int disturbs(uint8_t type) {
    switch (type) {
    case FT_MSG_INFER:
    case FT_MSG_STEP:
    case FT_MSG_HYPER:
    case FT_MSG_RESET_WEIGHTS:
    case FT_MSG_SET_STEP:
    case FT_MSG_SAVE:
    case FT_MSG_LOAD:
    case FT_MSG_ERASE:
    case FT_MSG_KEEP:
    case FT_MSG_TAKE:
    case FT_MSG_SET_SAMPLES:
    case FT_MSG_WORK:
        return 1;
    default:
        return 0;
    }
}

static uint16_t command_bytes(uint8_t type) {
    switch (type) {
    case FT_MSG_SET_SAMPLES:
        return FT_SET_SAMPLES_REQUEST_SIZE;
    case FT_MSG_WORK:
        return FT_WORK_REQUEST_SIZE;
    case FT_MSG_INFER:
        return FT_INFER_REQUEST_SIZE;
    case FT_MSG_STEP:
        return FT_STEP_REQUEST_SIZE;
    case FT_MSG_HYPER:
        return FT_HYPER_REQUEST_SIZE;
    case FT_MSG_SET_STEP:
        return FT_SET_STEP_REQUEST_SIZE;
    case FT_MSG_LOAD:
        return FT_LOAD_REQUEST_SIZE;
    case FT_MSG_KEEP:
        return FT_KEEP_REQUEST_SIZE;
    default:
        return 0;
    }
}

static void execute(ft_firmware_t *firmware, const ft_request_t *request) {
    if (request->bytes != command_bytes(request->type)) {
        ft_reply_refused(firmware, FT_REFUSED_BAD_LENGTH, command_bytes(request->type));
        return;
    }
    if (ft_at_work(firmware) && disturbs(request->type)) {
        ft_reply_refused(firmware, FT_REFUSED_AT_WORK, 0);
        return;
    }
    switch (request->type) {
    case FT_MSG_INFER:
        ft_command_infer(firmware, request->payload);
        break;
    case FT_MSG_STEP:
        ft_command_step(firmware, request->payload);
        break;
    case FT_MSG_HYPER:
        ft_command_hyper(firmware, request->payload);
        break;
    case FT_MSG_RESET_WEIGHTS:
        ft_command_reset_weights(firmware);
        break;
    case FT_MSG_SET_STEP:
        ft_command_set_step(firmware, ft_get_u32(request->payload + FT_SET_STEP_REQUEST_STEP));
        break;
    case FT_MSG_MEMORY:
        ft_command_memory(firmware);
        break;
    case FT_MSG_SYNC:
        ft_reply_with(firmware, NULL, 0);
        break;
    case FT_MSG_SAVE:
    case FT_MSG_LOAD:
    case FT_MSG_ERASE:
    case FT_MSG_KEEP:
        if (FT_HAS_STORE) {
            ft_command_stored(firmware, request->type, request->payload);
        } else {
            ft_reply_refused(firmware, FT_REFUSED_NO_STORE, 0);
        }
        break;
    case FT_MSG_TAKE:
    case FT_MSG_SET_SAMPLES:
    case FT_MSG_WORK:
    case FT_MSG_REST:
    case FT_MSG_FIELD:
        if (FT_HAS_FIELD) {
            ft_command_field(firmware, request);
        } else {
            ft_reply_refused(firmware, FT_REFUSED_NO_BUFFER, 0);
        }
        break;
    case FT_MSG_REBOOT:
        ft_command_reboot(firmware);
        break;
    default:
        ft_reply_refused(firmware, FT_REFUSED_UNKNOWN_TYPE, 0);
    }
}

static void send_reply(ft_firmware_t *firmware) {
    ft_send(firmware, firmware->reply_type, firmware->last_seq, firmware->reply, firmware->reply_bytes);
}

static void command(ft_firmware_t *firmware, const ft_request_t *request) {
    firmware->last_seq = request->seq;
    firmware->last_type = request->type;
    execute(firmware, request);
    send_reply(firmware);
    if (request->type == FT_MSG_REBOOT && firmware->reply_type != FT_MSG_ERROR) {
        firmware->port->reset();
    }
}

/* --- frames ------------------------------------------------------------------------------------------ */

static void slot(ft_firmware_t *firmware, const ft_request_t *request) {
    if (request->bytes != FT_SLOT_REQUEST_SIZE) {
        ft_refuse(firmware, request, FT_REFUSED_BAD_LENGTH, FT_SLOT_REQUEST_SIZE);
    } else if (FT_HAS_STORE) {
        ft_answer_slot(firmware, request);
    } else {
        ft_refuse(firmware, request, FT_REFUSED_NO_STORE, 0);
    }
}

static void answer(ft_firmware_t *firmware, const ft_request_t *request) {
    /* How far the host has counted since the last command, modulo 2^16: the upper half means "before it". */
    uint16_t ahead = (uint16_t)(request->seq - firmware->last_seq);
    if (firmware->session == 0) {
        ft_refuse(firmware, request, FT_REFUSED_NO_SESSION, 0);
    } else if (ahead == 0 && request->type == firmware->last_type) {
        send_reply(firmware);
    } else if (ahead == 0 || ahead >= 0x8000u) {
        return; /* stale: acting on it, a delayed WRITE would put an old sample over a new one */
    } else if (request->type == FT_MSG_TENSOR) {
        ft_answer_tensor(firmware, request);
    } else if (request->type == FT_MSG_WRITE) {
        ft_answer_write(firmware, request);
    } else if (request->type == FT_MSG_READ) {
        ft_answer_read(firmware, request);
    } else if (request->type == FT_MSG_SLOT) {
        slot(firmware, request);
    } else {
        command(firmware, request);
    }
}

void ft_firmware_poll(ft_firmware_t *firmware) {
    if (!firmware->frame_waits) {
        return;
    }
    const ft_decoder_t *decoder = &firmware->decoder;
    const ft_request_t request = {
        .type = decoder->bytes[0],
        .seq = ft_get_u16(decoder->bytes + 1),
        .payload = decoder->bytes + FT_FRAME_HEADER,
        .bytes = (uint16_t)(decoder->length - FT_FRAME_HEADER),
    };
    if (request.type == FT_MSG_HELLO) {
        hello(firmware, &request);
    } else if (!(request.type & FT_MSG_REPLY)) { /* with that bit it is an echo of what a board has sent */
        answer(firmware, &request);
    }
    firmware->frame_waits = 0;
}

size_t ft_firmware_feed(ft_firmware_t *firmware, const uint8_t *data, size_t count) {
    size_t taken = 0;
    while (taken < count && !firmware->frame_waits) {
        ft_decoded_t decoded = ft_decoder_push(&firmware->decoder, data[taken++]);
        firmware->frame_waits = decoded == FT_DECODER_FRAME;
        firmware->bad_frames += decoded == FT_DECODER_DAMAGED;
    }
    return taken;
}

void ft_firmware_init(ft_firmware_t *firmware, const ft_model_t *model, const ft_link_port_t *port) {
    memset(firmware, 0, sizeof *firmware);
    firmware->model = model;
    firmware->port = port;
    firmware->hyper.eps = 1e-8f; /* with 0, a step before the first HYPER could divide 0 by 0 */
    firmware->hyper.accumulate = 1;
    firmware->encoder.write = port->write;
    model->reset();
    if (FT_HAS_STORE) {
        ft_stored_take_newest(firmware);
    }
}

int ft_firmware_work(ft_firmware_t *firmware) {
    return FT_HAS_FIELD ? ft_go_on(firmware) : 0;
}
