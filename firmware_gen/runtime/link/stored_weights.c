#include "stored_weights.h"

#include "bytes.h"
#include "commands.h"
#include "store.h"

/* NULL: the board has none, or nothing learns. */
static const ft_flash_t *flash_of(const ft_firmware_t *firmware) {
    return firmware->port->flash != NULL && ft_trainable(firmware->model) ? firmware->port->flash() : NULL;
}

uint32_t ft_stored_room(const ft_firmware_t *firmware) {
    const ft_flash_t *flash = flash_of(firmware);
    return flash == NULL ? 0 : ft_store_room(flash);
}

void ft_answer_slot(ft_firmware_t *firmware, const ft_request_t *request) {
    const ft_flash_t *flash = flash_of(firmware);
    uint8_t reply[FT_SLOT_REPLY_SIZE];
    ft_slot_t slots[2];
    const uint8_t index = request->payload[FT_SLOT_REQUEST_INDEX];
    if (flash == NULL || index > 1) {
        ft_refuse(firmware, request, flash == NULL ? FT_REFUSED_NO_STORE : FT_REFUSED_BAD_VALUE, 0);
        return;
    }
    ft_store_look(flash, firmware->model, slots);
    reply[FT_SLOT_REPLY_STATE] = (uint8_t)slots[index].state;
    ft_put_u32(reply + FT_SLOT_REPLY_SEQUENCE, slots[index].sequence);
    ft_put_u32(reply + FT_SLOT_REPLY_STEP, slots[index].step);
    ft_put_u32(reply + FT_SLOT_REPLY_MODEL_HASH, slots[index].model_hash);
    ft_put_u32(reply + FT_SLOT_REPLY_PLAN_HASH, slots[index].plan_hash);
    ft_put_u32(reply + FT_SLOT_REPLY_BYTES, slots[index].bytes);
    ft_send(firmware, FT_MSG_SLOT | FT_MSG_REPLY, request->seq, reply, sizeof reply);
}

/* Replies unless the store has done what it should; returns whether it has. */
static int store_has(ft_firmware_t *firmware, ft_store_result_t result) {
    switch (result) {
    case FT_STORE_DONE:
        return 1;
    case FT_STORE_TOO_SMALL:
        ft_reply_refused(firmware, FT_REFUSED_STORE_TOO_SMALL, ft_store_room(firmware->port->flash()));
        return 0;
    case FT_STORE_NOTHING:
        ft_reply_refused(firmware, FT_REFUSED_NOTHING_STORED, 0);
        return 0;
    default:
        ft_reply_refused(firmware, FT_REFUSED_FLASH_FAILED, 0);
        return 0;
    }
}

/* The set, or else nothing changes. */
static ft_store_result_t restore(ft_firmware_t *firmware, const ft_flash_t *flash, int older,
                                 ft_slot_t *found) {
    const ft_store_result_t result = ft_store_load(flash, firmware->model, older, found);
    if (result == FT_STORE_DONE) {
        firmware->restored = 1;
        ft_command_set_step(firmware, found->step);
    }
    return result;
}

void ft_stored_take_newest(ft_firmware_t *firmware) {
    const ft_flash_t *flash = flash_of(firmware);
    ft_slot_t newest;
    if (flash != NULL) {
        (void)restore(firmware, flash, 0, &newest);
    }
}

static void save(ft_firmware_t *firmware, const ft_flash_t *flash) {
    uint32_t sequence = 0;
    if (store_has(firmware, ft_store_save(flash, firmware->model, firmware->step, &sequence))) {
        ft_put_u32(firmware->short_reply + FT_SAVE_REPLY_SEQUENCE, sequence);
        ft_reply_with(firmware, firmware->short_reply, FT_SAVE_REPLY_SIZE);
    }
}

static void load(ft_firmware_t *firmware, const ft_flash_t *flash, const uint8_t *payload) {
    const uint8_t older = payload[FT_LOAD_REQUEST_OLDER];
    ft_slot_t found;
    if (older > 1) {
        ft_reply_refused(firmware, FT_REFUSED_BAD_VALUE, 0);
    } else if (store_has(firmware, restore(firmware, flash, older, &found))) {
        ft_put_u32(firmware->short_reply + FT_LOAD_REPLY_SEQUENCE, found.sequence);
        ft_put_u32(firmware->short_reply + FT_LOAD_REPLY_STEP, found.step);
        ft_reply_with(firmware, firmware->short_reply, FT_LOAD_REPLY_SIZE);
    }
}

static void keep(ft_firmware_t *firmware, const ft_flash_t *flash, const uint8_t *payload) {
    uint8_t *reply = firmware->short_reply;
    ft_slot_t now = {FT_SLOT_EMPTY, 0, 0, 0, firmware->step, 0};
    const int better = ft_store_is_better(ft_get_f32(payload + FT_KEEP_REQUEST_BEFORE),
                                          ft_get_f32(payload + FT_KEEP_REQUEST_AFTER));
    if (better) {
        if (!store_has(firmware, ft_store_save(flash, firmware->model, now.step, &now.sequence))) {
            return;
        }
    } else if (restore(firmware, flash, 0, &now) == FT_STORE_NOTHING) {
        ft_command_reset_weights(firmware);
        now.step = 0;
    }
    reply[FT_KEEP_REPLY_SAVED] = (uint8_t)better;
    ft_put_u32(reply + FT_KEEP_REPLY_SEQUENCE, now.sequence);
    ft_put_u32(reply + FT_KEEP_REPLY_STEP, now.step);
    ft_reply_with(firmware, reply, FT_KEEP_REPLY_SIZE);
}

void ft_command_stored(ft_firmware_t *firmware, uint8_t type, const uint8_t *payload) {
    const ft_flash_t *flash = flash_of(firmware);
    if (flash == NULL) {
        ft_reply_refused(firmware, FT_REFUSED_NO_STORE, 0);
        return;
    }
    ft_send(firmware, FT_MSG_BUSY, firmware->last_seq, NULL, 0);
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
            ft_reply_with(firmware, NULL, 0);
        }
    }
}
