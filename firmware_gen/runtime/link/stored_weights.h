/* Requests about weights in flash (store.h). Inside the library only, and only with FT_HAS_STORE. */
#ifndef FT_STORED_WEIGHTS_H
#define FT_STORED_WEIGHTS_H

#include <stdint.h>
#include "reply.h"

/* Bytes of the largest set that a slot has room for; 0 without slots, or when nothing learns. */
uint32_t ft_stored_room(const ft_firmware_t *firmware);

/* At start, after the model's reset: takes the newest set, if there is one. */
void ft_stored_take_newest(ft_firmware_t *firmware);

/* A SLOT of the right length. */
void ft_answer_slot(ft_firmware_t *firmware, const ft_request_t *request);

/* SAVE, LOAD, ERASE or KEEP. */
void ft_command_stored(ft_firmware_t *firmware, uint8_t type, const uint8_t *payload);

#endif
