#include "field.h"

#include <string.h>
#include "../link/bytes.h"
#include "../link/parts.h"
#include "../link/store.h"

#define ZONES (FT_ZONES * FT_ZONES)

/* --- the ring
 * --------------------------------------------------------------------------------------------------- */

static void depth_sensor(const ft_link_port_t *port, int on) {
    if (port->tof_power != NULL) {
        port->tof_power(on);
    }
}

static int take(const ft_field_t *field, const ft_link_port_t *port) {
    float features[FT_DRIFT_FEATURES];
    ft_picture_t picture;
    ft_tof_t tof;
    ft_field_state_t *state = field->state;
    const uint32_t place = state->samples % field->capacity;
    const uint32_t bytes = 3u * field->height * field->width;
    if (!port->camera(&picture) || !port->tof(&tof)) {
        return 0;
    }
    ft_network_input(&picture, field->images + place * bytes, field->height, field->width);
    ft_drift_see(&state->drift, field->images + place * bytes, field->height, field->width, features);
    ft_drift_learn(&state->drift, features);
    memcpy(field->distance_mm + place * ZONES, tof.distance_mm, sizeof tof.distance_mm);
    memcpy(field->target_status + place * ZONES, tof.target_status, sizeof tof.target_status);
    state->samples++;
    return 1;
}

/* Writes input, labels and masks; returns 0 when no output has a label. */
static int load(const ft_field_t *field, uint32_t number) {
    ft_tof_t tof;
    uint32_t known = 0;
    const uint32_t place = number % field->capacity;
    const uint32_t bytes = 3u * field->height * field->width;
    memcpy(tof.distance_mm, field->distance_mm + place * ZONES, sizeof tof.distance_mm);
    memcpy(tof.target_status, field->target_status + place * ZONES, sizeof tof.target_status);
    for (uint32_t k = 0; k < field->label_count; k++) {
        known += ft_label(&tof, &field->valid, &field->labels[k]);
    }
    memcpy(field->input, field->images + place * bytes, bytes);
    return known > 0;
}

static uint32_t oldest(const ft_field_t *field) {
    const uint32_t samples = field->state->samples;
    return samples > field->capacity ? samples - field->capacity : 0;
}

static int for_validation(const ft_field_state_t *state, uint32_t number) {
    return state->validate_every != 0 && number % state->validate_every == state->validate_every - 1;
}

/* --- what a round may undo
 * -------------------------------------------------------------------------------------- */

static void keep(const ft_field_t *field) {
    uint8_t *to = field->kept;
    for (uint32_t k = 0; k < field->block_count; k++) {
        memcpy(to, field->blocks[k].data, field->blocks[k].bytes);
        to += (field->blocks[k].bytes + 3u) & ~3u;
    }
}

static void undo(const ft_field_t *field) {
    const uint8_t *from = field->kept;
    for (uint32_t k = 0; k < field->block_count; k++) {
        memcpy(field->blocks[k].data, from, field->blocks[k].bytes);
        from += (field->blocks[k].bytes + 3u) & ~3u;
    }
}

/* --- rounds
 * ----------------------------------------------------------------------------------------------------- */

static void begin(const ft_field_t *field, ft_phase_t phase) {
    ft_field_state_t *state = field->state;
    state->phase = (uint8_t)phase;
    state->at = oldest(field);
    state->end = state->samples;
    state->sum = 0.0f;
    state->judged = 0;
}

static void begin_round(const ft_field_t *field) {
    ft_field_state_t *state = field->state;
    state->collect_until = state->samples + state->frames;
    state->epoch = state->step = 0;
    begin(field, FT_COLLECTING);
}

/* Only a loss that has become less is better: NaN is not. Without validation samples nothing is undone. */
static void end_round(const ft_model_t *model, const ft_link_port_t *port, uint32_t step) {
    const ft_field_t *field = model->field;
    ft_field_state_t *state = field->state;
    const int judged = state->judged > 0;
    if (judged && !(state->after < state->before)) {
        undo(field);
        state->undone++;
    } else {
        state->improved += (uint32_t)judged;
        if (FT_HAS_STORE && port->flash != NULL && port->flash() != NULL) {
            uint32_t sequence;
            (void)ft_store_save(port->flash(), model, step, &sequence); /* else the older set stays */
        }
    }
    state->log[state->round % FT_LOGGED_ROUNDS][0] = state->before;
    state->log[state->round % FT_LOGGED_ROUNDS][1] = state->after;
    state->round++;
    if (state->round == state->rounds) {
        state->phase = FT_AT_REST;
        depth_sensor(port, 0);
    } else if (state->drift.drift < state->drift_off) {
        state->phase = FT_WATCHING;
        depth_sensor(port, 0);
    } else {
        begin_round(field);
    }
}

static int collect(const ft_field_t *field, const ft_link_port_t *port) {
    ft_field_state_t *state = field->state;
    if (state->samples == state->collect_until) {
        begin(field, FT_JUDGING_BEFORE);
        return 1;
    }
    return take(field, port);
}

/* The input's place in the arena holds the picture: nothing else does between two pieces of work. */
static int watch(const ft_field_t *field, const ft_link_port_t *port) {
    float features[FT_DRIFT_FEATURES];
    ft_picture_t picture;
    ft_field_state_t *state = field->state;
    if (!port->camera(&picture)) {
        return 0;
    }
    ft_network_input(&picture, field->input, field->height, field->width);
    ft_drift_see(&state->drift, field->input, field->height, field->width, features);
    state->watched++;
    if (state->drift.drift > state->drift_on) {
        depth_sensor(port, 1);
        begin_round(field);
    }
    return 1;
}

static float sum_of(const float *losses, uint32_t count) {
    float sum = 0.0f;
    for (uint32_t k = 0; k < count; k++) {
        sum = sum + losses[k];
    }
    return sum;
}

static void end_judging(const ft_model_t *model, const ft_link_port_t *port, uint32_t step) {
    const ft_field_t *field = model->field;
    ft_field_state_t *state = field->state;
    const float mean = state->judged > 0 ? state->sum / (float)state->judged : 0.0f;
    if (state->phase == FT_JUDGING_BEFORE) {
        state->before = mean;
        keep(field);
        begin(field, FT_LEARNING);
    } else {
        state->after = mean;
        end_round(model, port, step);
    }
}

/* The loss of one sample that is set aside. No weight changes: of the training step only the parts run that
 * compute losses, which read nothing but outputs, labels and masks. */
static void judge(const ft_model_t *model, const ft_link_port_t *port, const ft_hyper_t *hyper,
                  uint32_t step) {
    const ft_field_t *field = model->field;
    ft_field_state_t *state = field->state;
    float losses[FT_MAX_LOSSES];
    while (state->at < state->end && !for_validation(state, state->at)) {
        state->at++;
    }
    if (state->at >= state->end) {
        end_judging(model, port, step);
    } else if (load(field, state->at++)) {
        model->infer(0, UINT32_MAX);
        for (uint32_t k = 0; k < field->loss_count; k++) {
            model->step(field->loss_parts[k], field->loss_parts[k] + 1u, hyper, losses);
        }
        state->sum = state->sum + sum_of(losses, model->loss_count);
        state->judged++;
    }
}

static int has_learned(const ft_field_state_t *state) {
    return state->epoch == state->epochs || (state->steps != 0 && state->step == state->steps);
}

static void learn(const ft_model_t *model, const ft_hyper_t *hyper, uint32_t *step) {
    const ft_field_t *field = model->field;
    ft_field_state_t *state = field->state;
    float losses[FT_MAX_LOSSES];
    while (state->at < state->end && for_validation(state, state->at)) {
        state->at++;
    }
    if (has_learned(state)) {
        begin(field, FT_JUDGING_AFTER);
    } else if (state->at >= state->end) {
        state->epoch++;
        begin(field, FT_LEARNING);
    } else if (load(field, state->at++)) {
        model->step(0, UINT32_MAX, hyper, losses);
        state->loss = sum_of(losses, model->loss_count);
        state->step++;
        state->learned++;
        (*step)++;
    } else {
        state->skipped++;
    }
}

int ft_field_work(const ft_model_t *model, const ft_link_port_t *port, const ft_hyper_t *hyper,
                  uint32_t *step) {
    switch (model->field->state->phase) {
    case FT_COLLECTING:
        return collect(model->field, port);
    case FT_JUDGING_BEFORE:
    case FT_JUDGING_AFTER:
        judge(model, port, hyper, *step);
        return 1;
    case FT_LEARNING:
        learn(model, hyper, step);
        return 1;
    case FT_WATCHING:
        return watch(model->field, port);
    default:
        return 0;
    }
}

/* Leaves nothing in the weights of a round that was not judged. */
static void rest(const ft_field_t *field, const ft_link_port_t *port) {
    ft_field_state_t *state = field->state;
    if (state->phase == FT_LEARNING || state->phase == FT_JUDGING_AFTER) {
        undo(field);
    }
    if (state->phase != FT_AT_REST) {
        depth_sensor(port, 0);
    }
    state->phase = FT_AT_REST;
}

/* --- messages
 * --------------------------------------------------------------------------------------------------- */

static uint8_t begin_work(const ft_field_t *field, const ft_link_port_t *port, const uint8_t *payload) {
    ft_field_state_t *state = field->state;
    const uint32_t frames = ft_get_u32(payload + FT_WORK_REQUEST_FRAMES);
    const uint32_t epochs = ft_get_u32(payload + FT_WORK_REQUEST_EPOCHS);
    if (epochs == 0 || frames > field->capacity) {
        return FT_REFUSED_BAD_VALUE;
    }
    if (frames > 0 && (port->camera == NULL || port->tof == NULL)) {
        return FT_REFUSED_NO_SENSORS;
    }
    state->drift_on = ft_get_f32(payload + FT_WORK_REQUEST_DRIFT_ON);
    state->drift_off = ft_get_f32(payload + FT_WORK_REQUEST_DRIFT_OFF);
    state->watched = 0;
    state->rounds = ft_get_u32(payload + FT_WORK_REQUEST_ROUNDS);
    state->frames = frames;
    state->validate_every = ft_get_u32(payload + FT_WORK_REQUEST_VALIDATE_EVERY);
    state->epochs = epochs;
    state->steps = ft_get_u32(payload + FT_WORK_REQUEST_STEPS);
    state->round = state->improved = state->undone = state->learned = state->skipped = 0;
    state->before = state->after = state->loss = 0.0f;
    memset(state->log, 0, sizeof state->log);
    if (frames > 0) {
        depth_sensor(port, 1);
    }
    begin_round(field);
    return 0;
}

static void report(const ft_field_t *field) {
    const ft_field_state_t *state = field->state;
    uint8_t *reply = field->state->reply;
    reply[FT_FIELD_REPLY_PHASE] = state->phase;
    ft_put_u32(reply + FT_FIELD_REPLY_CAPACITY, field->capacity);
    ft_put_u32(reply + FT_FIELD_REPLY_SAMPLES, state->samples);
    ft_put_u32(reply + FT_FIELD_REPLY_ROUND, state->round);
    ft_put_u32(reply + FT_FIELD_REPLY_IMPROVED, state->improved);
    ft_put_u32(reply + FT_FIELD_REPLY_UNDONE, state->undone);
    ft_put_u32(reply + FT_FIELD_REPLY_LEARNED, state->learned);
    ft_put_u32(reply + FT_FIELD_REPLY_SKIPPED, state->skipped);
    ft_put_f32(reply + FT_FIELD_REPLY_BEFORE, state->before);
    ft_put_f32(reply + FT_FIELD_REPLY_AFTER, state->after);
    ft_put_f32(reply + FT_FIELD_REPLY_LOSS, state->loss);
    ft_put_f32(reply + FT_FIELD_REPLY_DRIFT, state->drift.drift);
    ft_put_u32(reply + FT_FIELD_REPLY_WATCHED, state->watched);
}

uint8_t ft_field_command(const ft_field_t *field, const ft_link_port_t *port, uint8_t type,
                         const uint8_t *payload, uint8_t *bytes) {
    uint8_t refused = 0;
    switch (type) {
    case FT_MSG_TAKE:
        if (port->camera == NULL || port->tof == NULL) {
            refused = FT_REFUSED_NO_SENSORS;
        } else if (!take(field, port)) {
            refused = FT_REFUSED_NOTHING_NEW;
        }
        break;
    case FT_MSG_SET_SAMPLES:
        field->state->samples = ft_get_u32(payload + FT_SET_SAMPLES_REQUEST_SAMPLES);
        break;
    case FT_MSG_WORK:
        refused = begin_work(field, port, payload);
        break;
    case FT_MSG_REST:
        rest(field, port);
        break;
    default:
        break;
    }
    report(field);
    *bytes = FT_FIELD_REPLY_SIZE;
    return refused;
}
