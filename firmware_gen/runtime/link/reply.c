#include "reply.h"

#include "bytes.h"

void ft_send(ft_firmware_t *firmware, uint8_t type, uint16_t seq, const uint8_t *payload, size_t bytes) {
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

void ft_send_with_text(ft_firmware_t *firmware, const ft_request_t *request, const uint8_t *fixed,
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

void ft_refuse(ft_firmware_t *firmware, const ft_request_t *request, uint8_t code, uint32_t detail) {
    uint8_t payload[FT_ERROR_REPLY_SIZE];
    put_error(payload, request->type, code, detail);
    ft_send(firmware, FT_MSG_ERROR, request->seq, payload, sizeof payload);
}

void ft_firmware_log(ft_firmware_t *firmware, const char *text) {
    ft_send(firmware, FT_MSG_LOG, 0, (const uint8_t *)text, text_bytes(text, 0));
}

void ft_reply_with(ft_firmware_t *firmware, const uint8_t *payload, uint8_t bytes) {
    firmware->reply_type = firmware->last_type | FT_MSG_REPLY;
    firmware->reply = payload;
    firmware->reply_bytes = bytes;
}

void ft_reply_refused(ft_firmware_t *firmware, uint8_t code, uint32_t detail) {
    put_error(firmware->short_reply, firmware->last_type, code, detail);
    firmware->reply_type = FT_MSG_ERROR;
    firmware->reply = firmware->short_reply;
    firmware->reply_bytes = FT_ERROR_REPLY_SIZE;
}
