/* What the library sends to the host. Inside the library only. */
#ifndef FT_REPLY_H
#define FT_REPLY_H

#include <stddef.h>
#include <stdint.h>
#include "firmware.h"

/* A request whose frame was right; payload is inside the decoder. */
typedef struct {
    uint8_t type;
    uint16_t seq;
    const uint8_t *payload;
    uint16_t bytes;
} ft_request_t;

/* --- at once: for requests that may be answered again, however often they are asked ------------------- */

void ft_send(ft_firmware_t *firmware, uint8_t type, uint16_t seq, const uint8_t *payload, size_t bytes);

/* The reply to `request`: fixed fields, then as much of the text as fits. */
void ft_send_with_text(ft_firmware_t *firmware, const ft_request_t *request, const uint8_t *fixed,
                       size_t bytes, const char *text);

void ft_refuse(ft_firmware_t *firmware, const ft_request_t *request, uint8_t code, uint32_t detail);

/* --- left in the context, where it can be sent again: for commands, each of which runs once ----------- */

/* `payload` must stay as it is until the next command. */
void ft_reply_with(ft_firmware_t *firmware, const uint8_t *payload, uint8_t bytes);

void ft_reply_refused(ft_firmware_t *firmware, uint8_t code, uint32_t detail);

#endif
