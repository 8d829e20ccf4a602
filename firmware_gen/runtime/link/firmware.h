/* The firmware library: what a board answers to a host. docs/protocol.md states the rules.
 *
 *     static ft_firmware_t firmware;
 *     ft_firmware_init(&firmware, &ft_model, &port);
 *     for (;;) {
 *         while (count > 0) {                                      // bytes that have arrived
 *             size_t taken = ft_firmware_feed(&firmware, data, count);
 *             ft_firmware_poll(&firmware);                         // may take as long as a training step
 *             data += taken, count -= taken;
 *         }
 *     }
 *
 * No allocation, no recursion, no libc besides memcpy, memset and memcmp; all state is in the context.
 * Whatever bytes are fed, the library writes only to its context, to the board's flash area, and inside the
 * tensors of role INPUT, LATENT, LABEL, MASK, WEIGHT, STATE, RANGE and FIELD.
 */
#ifndef FT_FIRMWARE_H
#define FT_FIRMWARE_H

#include <stddef.h>
#include <stdint.h>
#include "../model_api.h"
#include "frame.h"
#include "link.h"
#include "protocol.h"

/* Its members are the library's own business. firmware_gen.protocol_header.link_ram_bytes gives its size. */
typedef struct {
    const ft_model_t *model;
    const ft_link_port_t *port;
    ft_hyper_t hyper;
    uint32_t step;    /* training steps done */
    uint32_t session; /* 0: none since the start */
    uint32_t bad_frames;
    const uint8_t *reply; /* to the last command; sent again when that command comes again */
    uint16_t last_seq;    /* of the last command */
    uint8_t last_type;
    uint8_t reply_type;
    uint8_t reply_bytes;
    unsigned frame_waits : 1;
    unsigned restored : 1; /* the weights come from flash */
    uint8_t short_reply[FT_MEMORY_REPLY_SIZE];
    uint8_t step_reply_bytes; /* 0: the last step is not known */
    uint8_t step_reply[FT_STEP_REPLY_SIZE + 4 * FT_MAX_LOSSES];
    ft_decoder_t decoder;
    ft_encoder_t encoder;
} ft_firmware_t;

/* Resets the model, or takes the newest set that the flash holds for it. `model` and `port` must outlive the
 * context. When the model has more than FT_MAX_LOSSES losses, steps are refused: generate protocol.h with
 * more. */
void ft_firmware_init(ft_firmware_t *firmware, const ft_model_t *model, const ft_link_port_t *port);

/* Takes bytes up to the end of a frame and returns how many; 0 while a frame waits for ft_firmware_poll.
 * Short. */
size_t ft_firmware_feed(ft_firmware_t *firmware, const uint8_t *data, size_t count);

/* Answers the frame that waits, if one does; infers or trains when it says so. */
void ft_firmware_poll(ft_firmware_t *firmware);

/* Goes on with what the board was asked to do on its own: see ft_link_work. */
int ft_firmware_work(ft_firmware_t *firmware);

/* Sends a line to the host's log: at most FT_MAX_PAYLOAD bytes of text. Not from an interrupt. */
void ft_firmware_log(ft_firmware_t *firmware, const char *text);

#endif
