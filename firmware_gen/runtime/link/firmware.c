#include "firmware.h"

#include <string.h>
#include "../field/field.h"
#include "bytes.h"
#include "port.h"
#include "store.h"

/* A request whose frame was right; payload is inside the decoder. */
typedef struct {
    uint8_t type;
    uint16_t seq;
    const uint8_t *payload;
    uint16_t bytes;
} request_t;

/* --- sending
 * ---------------------------------------------------------------------------------------------------- */

static void send(ft_firmware_t *firmware, uint8_t type, uint16_t seq, const uint8_t *payload, size_t bytes) {
    ft_encoder_begin(&firmware->encoder, type, seq);
    ft_encoder_put(&firmware->encoder, payload, bytes);
    ft_encoder_end(&firmware->encoder);
}

/* As much of the text as still fits beside `used` bytes. */
static size_t text_bytes(const char *text, size_t used) {
    size_t bytes = 0;
    while (text[bytes] != 0 && used + bytes < FT_MAX_PAYLOAD) {
        bytes++;
    }
    return bytes;
}

static void send_with_text(ft_firmware_t *firmware, const request_t *request, const uint8_t *fixed,
                           size_t bytes, const char *text) {
    ft_encoder_begin(&firmware->encoder, request->type | FT_MSG_REPLY, request->seq);
    ft_encoder_put(&firmware->encoder, fixed, bytes);
    ft_encoder_put(&firmware->encoder, (const uint8_t *)text, text_bytes(text, bytes));
    ft_encoder_end(&firmware->encoder);
}

static void put_error(uint8_t *payload, uint8_t request, uint8_t code, uint32_t detail) {
    payload[FT_ERROR_REPLY_REQUEST] = request;
    payload[FT_ERROR_REPLY_CODE] = code;
    ft_put_u32(payload + FT_ERROR_REPLY_DETAIL, detail);
}

static void refuse(ft_firmware_t *firmware, const request_t *request, uint8_t code, uint32_t detail) {
    uint8_t payload[FT_ERROR_REPLY_SIZE];
    put_error(payload, request->type, code, detail);
    send(firmware, FT_MSG_ERROR, request->seq, payload, sizeof payload);
}

void ft_firmware_log(ft_firmware_t *firmware, const char *text) {
    send(firmware, FT_MSG_LOG, 0, (const uint8_t *)text, text_bytes(text, 0));
}

/* --- what a port may leave out
 * ----------------------------------------------------------------------------------- */

static uint64_t ticks(const ft_firmware_t *firmware) {
    return firmware->port->ticks != NULL ? firmware->port->ticks() : 0;
}

static uint32_t ticks_hz(const ft_firmware_t *firmware) {
    return firmware->port->ticks_hz != NULL ? firmware->port->ticks_hz() : 0;
}

static uint32_t overruns(const ft_firmware_t *firmware) {
    return firmware->port->overruns != NULL ? firmware->port->overruns() : 0;
}

/* --- session
 * ---------------------------------------------------------------------------------------------------- */

static int trainable(const ft_model_t *model) {
    return model->step != NULL && model->loss_count <= FT_MAX_LOSSES;
}

/* NULL: the board has none, or nothing learns. Where FT_HAS_STORE says so the compiler knows that it is NULL,
 * and leaves out all that needs it. */
static const ft_flash_t *flash_of(const ft_firmware_t *firmware) {
    return FT_HAS_STORE && firmware->port->flash != NULL && trainable(firmware->model)
               ? firmware->port->flash()
               : NULL;
}

static void send_hello(ft_firmware_t *firmware, const request_t *request) {
    const ft_model_t *model = firmware->model;
    const ft_flash_t *flash = flash_of(firmware);
    uint8_t fixed[FT_HELLO_REPLY_SIZE];
    ft_put_u16(fixed + FT_HELLO_REPLY_PROTOCOL, FT_PROTOCOL_VERSION);
    ft_put_u16(fixed + FT_HELLO_REPLY_MAX_PAYLOAD, FT_MAX_PAYLOAD);
    ft_put_u16(fixed + FT_HELLO_REPLY_WINDOW, firmware->port->window);
    ft_put_u16(fixed + FT_HELLO_REPLY_TENSOR_COUNT, model->tensor_count);
    ft_put_u16(fixed + FT_HELLO_REPLY_LOSS_COUNT, model->loss_count);
    fixed[FT_HELLO_REPLY_TRAINABLE] = (uint8_t)trainable(model);
    ft_put_u32(fixed + FT_HELLO_REPLY_MODEL_HASH, model->model_hash);
    ft_put_u32(fixed + FT_HELLO_REPLY_PLAN_HASH, model->plan_hash);
    ft_put_u32(fixed + FT_HELLO_REPLY_STEP, firmware->step);
    ft_put_u32(fixed + FT_HELLO_REPLY_TICKS_HZ, ticks_hz(firmware));
    ft_put_u32(fixed + FT_HELLO_REPLY_STORE_ROOM, flash == NULL ? 0 : ft_store_room(flash));
    fixed[FT_HELLO_REPLY_RESTORED] = firmware->restored;
    send_with_text(firmware, request, fixed, sizeof fixed, model->name);
}

static void hello(ft_firmware_t *firmware, const request_t *request) {
    if (request->bytes != FT_HELLO_REQUEST_SIZE) {
        refuse(firmware, request, FT_REFUSED_BAD_LENGTH, FT_HELLO_REQUEST_SIZE);
        return;
    }
    if (ft_get_u16(request->payload + FT_HELLO_REQUEST_PROTOCOL) != FT_PROTOCOL_VERSION) {
        refuse(firmware, request, FT_REFUSED_BAD_PROTOCOL, FT_PROTOCOL_VERSION);
        return;
    }
    uint32_t session = ft_get_u32(request->payload + FT_HELLO_REQUEST_SESSION);
    if (session == 0) {
        refuse(firmware, request, FT_REFUSED_BAD_VALUE, 0);
        return;
    }
    if (firmware->session != 0 && session - firmware->session >= 0x80000000u) {
        refuse(firmware, request, FT_REFUSED_OLD_SESSION, firmware->session);
        return;
    }
    if (session != firmware->session) {
        firmware->session = session;
        firmware->last_seq = request->seq;
        firmware->last_type = FT_MSG_HELLO;
    }
    send_hello(firmware, request);
}

/* --- tensors: the same however often asked
 * ---------------------------------------------------------------------- */

/* The tensor that the request's first field names; NULL after having refused the request. */
static const ft_tensor_t *named_tensor(ft_firmware_t *firmware, const request_t *request) {
    uint16_t index = ft_get_u16(request->payload);
    if (index < firmware->model->tensor_count) {
        return &firmware->model->tensors[index];
    }
    refuse(firmware, request, FT_REFUSED_NO_TENSOR, firmware->model->tensor_count);
    return NULL;
}

static void describe_tensor(ft_firmware_t *firmware, const request_t *request) {
    if (request->bytes != FT_TENSOR_REQUEST_SIZE) {
        refuse(firmware, request, FT_REFUSED_BAD_LENGTH, FT_TENSOR_REQUEST_SIZE);
        return;
    }
    const ft_tensor_t *tensor = named_tensor(firmware, request);
    if (tensor == NULL) {
        return;
    }
    uint8_t fixed[FT_TENSOR_REPLY_SIZE];
    fixed[FT_TENSOR_REPLY_ROLE] = tensor->role;
    fixed[FT_TENSOR_REPLY_DTYPE] = tensor->dtype;
    for (int i = 0; i < 3; i++) {
        ft_put_u16(fixed + FT_TENSOR_REPLY_SHAPE + 2 * i, tensor->shape[i]);
    }
    ft_put_u32(fixed + FT_TENSOR_REPLY_BYTES, tensor->bytes);
    send_with_text(firmware, request, fixed, sizeof fixed, tensor->name);
}

/* Whether the board does something on its own, which whatever the host changed would spoil. */
static int at_work(const ft_firmware_t *firmware) {
    const ft_field_t *field = firmware->model->field;
    return field != NULL && field->state->phase != FT_AT_REST;
}

static int writable(const ft_tensor_t *tensor) {
    switch (tensor->role) {
    case FT_INPUT:
    case FT_LABEL:
    case FT_MASK:
    case FT_WEIGHT:
    case FT_STATE:
    case FT_RANGE:
    case FT_LATENT:
    case FT_FIELD:
        return 1;
    default:
        return 0;
    }
}

static int inside(const ft_tensor_t *tensor, uint32_t offset, uint32_t count) {
    return offset <= tensor->bytes && count <= tensor->bytes - offset;
}

static void write_tensor(ft_firmware_t *firmware, const request_t *request) {
    if (request->bytes < FT_WRITE_REQUEST_SIZE) {
        refuse(firmware, request, FT_REFUSED_BAD_LENGTH, FT_WRITE_REQUEST_SIZE);
        return;
    }
    const ft_tensor_t *tensor = named_tensor(firmware, request);
    if (tensor == NULL) {
        return;
    }
    uint32_t offset = ft_get_u32(request->payload + FT_WRITE_REQUEST_OFFSET);
    uint32_t count = request->bytes - (uint32_t)FT_WRITE_REQUEST_SIZE;
    if (at_work(firmware)) {
        refuse(firmware, request, FT_REFUSED_AT_WORK, 0);
    } else if (!writable(tensor)) {
        refuse(firmware, request, FT_REFUSED_READ_ONLY, 0);
    } else if (!inside(tensor, offset, count)) {
        refuse(firmware, request, FT_REFUSED_OUT_OF_RANGE, tensor->bytes);
    } else {
        memcpy(tensor->data + offset, request->payload + FT_WRITE_REQUEST_DATA, count);
        send(firmware, FT_MSG_WRITE | FT_MSG_REPLY, request->seq, NULL, 0);
    }
}

static void read_tensor(ft_firmware_t *firmware, const request_t *request) {
    if (request->bytes != FT_READ_REQUEST_SIZE) {
        refuse(firmware, request, FT_REFUSED_BAD_LENGTH, FT_READ_REQUEST_SIZE);
        return;
    }
    const ft_tensor_t *tensor = named_tensor(firmware, request);
    if (tensor == NULL) {
        return;
    }
    uint32_t offset = ft_get_u32(request->payload + FT_READ_REQUEST_OFFSET);
    uint16_t count = ft_get_u16(request->payload + FT_READ_REQUEST_COUNT);
    if (count > FT_MAX_PAYLOAD) {
        refuse(firmware, request, FT_REFUSED_BAD_VALUE, 0);
    } else if (!inside(tensor, offset, count)) {
        refuse(firmware, request, FT_REFUSED_OUT_OF_RANGE, tensor->bytes);
    } else {
        send(firmware, FT_MSG_READ | FT_MSG_REPLY, request->seq, tensor->data + offset, count);
    }
}

static void describe_slot(ft_firmware_t *firmware, const request_t *request) {
    const ft_flash_t *flash = flash_of(firmware);
    uint8_t reply[FT_SLOT_REPLY_SIZE];
    ft_slot_t slots[2];
    if (request->bytes != FT_SLOT_REQUEST_SIZE) {
        refuse(firmware, request, FT_REFUSED_BAD_LENGTH, FT_SLOT_REQUEST_SIZE);
        return;
    }
    const uint8_t index = request->payload[FT_SLOT_REQUEST_INDEX];
    if (flash == NULL || index > 1) {
        refuse(firmware, request, flash == NULL ? FT_REFUSED_NO_STORE : FT_REFUSED_BAD_VALUE, 0);
        return;
    }
    ft_store_look(flash, firmware->model, slots);
    reply[FT_SLOT_REPLY_STATE] = (uint8_t)slots[index].state;
    ft_put_u32(reply + FT_SLOT_REPLY_SEQUENCE, slots[index].sequence);
    ft_put_u32(reply + FT_SLOT_REPLY_STEP, slots[index].step);
    ft_put_u32(reply + FT_SLOT_REPLY_MODEL_HASH, slots[index].model_hash);
    ft_put_u32(reply + FT_SLOT_REPLY_PLAN_HASH, slots[index].plan_hash);
    ft_put_u32(reply + FT_SLOT_REPLY_BYTES, slots[index].bytes);
    send(firmware, FT_MSG_SLOT | FT_MSG_REPLY, request->seq, reply, sizeof reply);
}

/* --- commands: each runs once; it leaves its reply in the context
 * ----------------------------------------------- */

static void reply_with(ft_firmware_t *firmware, const uint8_t *payload, uint8_t bytes) {
    firmware->reply_type = firmware->last_type | FT_MSG_REPLY;
    firmware->reply = payload;
    firmware->reply_bytes = bytes;
}

static void reply_refused(ft_firmware_t *firmware, uint8_t code, uint32_t detail) {
    put_error(firmware->short_reply, firmware->last_type, code, detail);
    firmware->reply_type = FT_MSG_ERROR;
    firmware->reply = firmware->short_reply;
    firmware->reply_bytes = FT_ERROR_REPLY_SIZE;
}

static void infer(ft_firmware_t *firmware, const uint8_t *payload) {
    uint32_t first = ft_get_u32(payload + FT_INFER_REQUEST_FIRST);
    uint32_t end = ft_get_u32(payload + FT_INFER_REQUEST_END);
    send(firmware, FT_MSG_BUSY, firmware->last_seq, NULL, 0);
    uint64_t start = ticks(firmware);
    firmware->model->infer(first, end);
    ft_put_u64(firmware->short_reply + FT_INFER_REPLY_TICKS, ticks(firmware) - start);
    reply_with(firmware, firmware->short_reply, FT_INFER_REPLY_SIZE);
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
    send(firmware, FT_MSG_BUSY, firmware->last_seq, NULL, 0);
    uint64_t start = ticks(firmware);
    model->step(first, end, &firmware->hyper, losses);
    ft_put_u64(reply + FT_STEP_REPLY_TICKS, ticks(firmware) - start);
    ft_put_u32(reply + FT_STEP_REPLY_STEP, firmware->step);
    memcpy(reply + FT_STEP_REPLY_LOSSES, losses, bytes);
    reply_with(firmware, reply, (uint8_t)(FT_STEP_REPLY_SIZE + bytes));
    firmware->step_reply_bytes = done ? firmware->reply_bytes : 0;
    firmware->step += (uint32_t)done;
}

/* The step that was done last may be asked for again, in another session too: its result is told, it does not
 * run. */
static void step(ft_firmware_t *firmware, const uint8_t *payload) {
    uint32_t wanted = ft_get_u32(payload + FT_STEP_REQUEST_STEP);
    if (!trainable(firmware->model)) {
        reply_refused(firmware, FT_REFUSED_NOT_TRAINABLE, 0);
    } else if (wanted == firmware->step) {
        run_step(firmware, ft_get_u32(payload + FT_STEP_REQUEST_FIRST),
                 ft_get_u32(payload + FT_STEP_REQUEST_END));
    } else if (wanted + 1 == firmware->step && firmware->step_reply_bytes != 0) {
        reply_with(firmware, firmware->step_reply, firmware->step_reply_bytes);
    } else {
        reply_refused(firmware, FT_REFUSED_WRONG_STEP, firmware->step);
    }
}

static void set_step(ft_firmware_t *firmware, uint32_t done) {
    firmware->step = done;
    firmware->step_reply_bytes = 0;
    reply_with(firmware, NULL, 0);
}

static float get_f32(const uint8_t *p) {
    uint32_t bits = ft_get_u32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void set_hyper(ft_firmware_t *firmware, const uint8_t *payload) {
    uint32_t accumulate = ft_get_u32(payload + FT_HYPER_REQUEST_ACCUMULATE);
    if (accumulate == 0) {
        reply_refused(firmware, FT_REFUSED_BAD_VALUE, 0);
        return;
    }
    firmware->hyper.lr = get_f32(payload + FT_HYPER_REQUEST_LR);
    firmware->hyper.momentum = get_f32(payload + FT_HYPER_REQUEST_MOMENTUM);
    firmware->hyper.weight_decay = get_f32(payload + FT_HYPER_REQUEST_WEIGHT_DECAY);
    firmware->hyper.clip_norm = get_f32(payload + FT_HYPER_REQUEST_CLIP_NORM);
    firmware->hyper.beta1 = get_f32(payload + FT_HYPER_REQUEST_BETA1);
    firmware->hyper.beta2 = get_f32(payload + FT_HYPER_REQUEST_BETA2);
    firmware->hyper.eps = get_f32(payload + FT_HYPER_REQUEST_EPS);
    firmware->hyper.accumulate = accumulate;
    reply_with(firmware, NULL, 0);
}

static void report_memory(ft_firmware_t *firmware) {
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
    reply_with(firmware, reply, FT_MEMORY_REPLY_SIZE);
}

/* The board starts anew when the reply is sent. */
static void reboot(ft_firmware_t *firmware) {
    if (firmware->port->reset != NULL) {
        reply_with(firmware, NULL, 0);
    } else {
        reply_refused(firmware, FT_REFUSED_UNKNOWN_TYPE, 0);
    }
}

/* --- commands on the flash
 * -------------------------------------------------------------------------------------- */

/* Replies unless the store has done what it should; returns whether it has. */
static int store_has(ft_firmware_t *firmware, ft_store_result_t result) {
    switch (result) {
    case FT_STORE_DONE:
        return 1;
    case FT_STORE_TOO_SMALL:
        reply_refused(firmware, FT_REFUSED_STORE_TOO_SMALL, ft_store_room(firmware->port->flash()));
        return 0;
    case FT_STORE_NOTHING:
        reply_refused(firmware, FT_REFUSED_NOTHING_STORED, 0);
        return 0;
    default:
        reply_refused(firmware, FT_REFUSED_FLASH_FAILED, 0);
        return 0;
    }
}

static void reset_weights(ft_firmware_t *firmware) {
    firmware->model->reset();
    firmware->restored = 0;
    set_step(firmware, 0);
}

/* The set, or else nothing changes. */
static ft_store_result_t restore(ft_firmware_t *firmware, const ft_flash_t *flash, int older,
                                 ft_slot_t *found) {
    const ft_store_result_t result = ft_store_load(flash, firmware->model, older, found);
    if (result == FT_STORE_DONE) {
        firmware->restored = 1;
        set_step(firmware, found->step);
    }
    return result;
}

static void save(ft_firmware_t *firmware, const ft_flash_t *flash) {
    uint32_t sequence = 0;
    if (store_has(firmware, ft_store_save(flash, firmware->model, firmware->step, &sequence))) {
        ft_put_u32(firmware->short_reply + FT_SAVE_REPLY_SEQUENCE, sequence);
        reply_with(firmware, firmware->short_reply, FT_SAVE_REPLY_SIZE);
    }
}

static void load(ft_firmware_t *firmware, const ft_flash_t *flash, const uint8_t *payload) {
    const uint8_t older = payload[FT_LOAD_REQUEST_OLDER];
    ft_slot_t found;
    if (older > 1) {
        reply_refused(firmware, FT_REFUSED_BAD_VALUE, 0);
    } else if (store_has(firmware, restore(firmware, flash, older, &found))) {
        ft_put_u32(firmware->short_reply + FT_LOAD_REPLY_SEQUENCE, found.sequence);
        ft_put_u32(firmware->short_reply + FT_LOAD_REPLY_STEP, found.step);
        reply_with(firmware, firmware->short_reply, FT_LOAD_REPLY_SIZE);
    }
}

static void keep(ft_firmware_t *firmware, const ft_flash_t *flash, const uint8_t *payload) {
    uint8_t *reply = firmware->short_reply;
    ft_slot_t now = {FT_SLOT_EMPTY, 0, 0, 0, firmware->step, 0};
    const int better = ft_store_is_better(get_f32(payload + FT_KEEP_REQUEST_BEFORE),
                                          get_f32(payload + FT_KEEP_REQUEST_AFTER));
    if (better) {
        if (!store_has(firmware, ft_store_save(flash, firmware->model, now.step, &now.sequence))) {
            return;
        }
    } else if (restore(firmware, flash, 0, &now) == FT_STORE_NOTHING) {
        reset_weights(firmware);
        now.step = 0;
    }
    reply[FT_KEEP_REPLY_SAVED] = (uint8_t)better;
    ft_put_u32(reply + FT_KEEP_REPLY_SEQUENCE, now.sequence);
    ft_put_u32(reply + FT_KEEP_REPLY_STEP, now.step);
    reply_with(firmware, reply, FT_KEEP_REPLY_SIZE);
}

static void use_flash(ft_firmware_t *firmware, uint8_t type, const uint8_t *payload) {
    const ft_flash_t *flash = flash_of(firmware);
    if (flash == NULL) {
        reply_refused(firmware, FT_REFUSED_NO_STORE, 0);
        return;
    }
    send(firmware, FT_MSG_BUSY, firmware->last_seq, NULL, 0);
    switch (type) {
    case FT_MSG_SAVE:
        save(firmware, flash);
        break;
    case FT_MSG_LOAD:
        load(firmware, flash, payload);
        break;
    case FT_MSG_KEEP:
        keep(firmware, flash, payload);
        break;
    default:
        if (store_has(firmware, ft_store_erase(flash, firmware->model))) {
            reply_with(firmware, NULL, 0);
        }
    }
}

/* What is about the sample buffer. */
static void field_command(ft_firmware_t *firmware, const request_t *request) {
    const ft_field_t *field = firmware->model->field;
    uint8_t bytes = 0;
    if (field == NULL || !trainable(firmware->model)) {
        reply_refused(firmware, FT_REFUSED_NO_BUFFER, 0);
        return;
    }
    const uint8_t refused = field->command(field, firmware->port, request->type, request->payload, &bytes);
    if (refused != 0) {
        reply_refused(firmware, refused, 0);
    } else {
        reply_with(firmware, field->state->reply, bytes);
    }
}

int ft_firmware_work(ft_firmware_t *firmware) {
    if (!at_work(firmware)) {
        return 0;
    }
    const uint32_t step = firmware->step;
    const int busy =
        firmware->model->field->work(firmware->model, firmware->port, &firmware->hyper, &firmware->step);
    if (firmware->step != step) {
        firmware->step_reply_bytes = 0;
    }
    return busy;
}

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

static void execute(ft_firmware_t *firmware, const request_t *request) {
    if (request->bytes != command_bytes(request->type)) {
        reply_refused(firmware, FT_REFUSED_BAD_LENGTH, command_bytes(request->type));
        return;
    }
    if (at_work(firmware) && disturbs(request->type)) {
        reply_refused(firmware, FT_REFUSED_AT_WORK, 0);
        return;
    }
    switch (request->type) {
    case FT_MSG_INFER:
        infer(firmware, request->payload);
        break;
    case FT_MSG_STEP:
        step(firmware, request->payload);
        break;
    case FT_MSG_HYPER:
        set_hyper(firmware, request->payload);
        break;
    case FT_MSG_RESET_WEIGHTS:
        reset_weights(firmware);
        break;
    case FT_MSG_SET_STEP:
        set_step(firmware, ft_get_u32(request->payload + FT_SET_STEP_REQUEST_STEP));
        break;
    case FT_MSG_MEMORY:
        report_memory(firmware);
        break;
    case FT_MSG_SYNC:
        reply_with(firmware, NULL, 0);
        break;
    case FT_MSG_SAVE:
    case FT_MSG_LOAD:
    case FT_MSG_ERASE:
    case FT_MSG_KEEP:
        use_flash(firmware, request->type, request->payload);
        break;
    case FT_MSG_TAKE:
    case FT_MSG_SET_SAMPLES:
    case FT_MSG_WORK:
    case FT_MSG_REST:
    case FT_MSG_FIELD:
        field_command(firmware, request);
        break;
    case FT_MSG_REBOOT:
        reboot(firmware);
        break;
    default:
        reply_refused(firmware, FT_REFUSED_UNKNOWN_TYPE, 0);
    }
}

static void send_reply(ft_firmware_t *firmware) {
    send(firmware, firmware->reply_type, firmware->last_seq, firmware->reply, firmware->reply_bytes);
}

static void command(ft_firmware_t *firmware, const request_t *request) {
    firmware->last_seq = request->seq;
    firmware->last_type = request->type;
    execute(firmware, request);
    send_reply(firmware);
    if (request->type == FT_MSG_REBOOT && firmware->reply_type != FT_MSG_ERROR) {
        firmware->port->reset();
    }
}

/* --- frames
 * ----------------------------------------------------------------------------------------------------- */

static void answer(ft_firmware_t *firmware, const request_t *request) {
    /* How far the host has counted since the last command, modulo 2^16: the upper half means "before it". */
    uint16_t ahead = (uint16_t)(request->seq - firmware->last_seq);
    if (firmware->session == 0) {
        refuse(firmware, request, FT_REFUSED_NO_SESSION, 0);
    } else if (ahead == 0 && request->type == firmware->last_type) {
        send_reply(firmware);
    } else if (ahead == 0 || ahead >= 0x8000u) {
        return; /* stale: acting on it, a delayed WRITE would put an old sample over a new one */
    } else if (request->type == FT_MSG_TENSOR) {
        describe_tensor(firmware, request);
    } else if (request->type == FT_MSG_WRITE) {
        write_tensor(firmware, request);
    } else if (request->type == FT_MSG_READ) {
        read_tensor(firmware, request);
    } else if (request->type == FT_MSG_SLOT) {
        describe_slot(firmware, request);
    } else {
        command(firmware, request);
    }
}

void ft_firmware_poll(ft_firmware_t *firmware) {
    if (!firmware->frame_waits) {
        return;
    }
    const ft_decoder_t *decoder = &firmware->decoder;
    const request_t request = {
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
    const ft_flash_t *flash = flash_of(firmware);
    ft_slot_t newest;
    if (flash != NULL && ft_store_load(flash, model, 0, &newest) == FT_STORE_DONE) {
        firmware->step = newest.step;
        firmware->restored = 1;
    }
}
