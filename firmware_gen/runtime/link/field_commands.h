/* Commands about the sample buffer, and the work that the board does with it on its own (../field/field.h).
 * Inside the library only; the functions only with FT_HAS_FIELD. */
#ifndef FT_FIELD_COMMANDS_H
#define FT_FIELD_COMMANDS_H

#include "../field/field.h"
#include "parts.h"
#include "reply.h"

/* Whether the board does something on its own, which whatever the host changed would spoil. */
static inline int ft_at_work(const ft_firmware_t *firmware) {
    const ft_field_t *field = firmware->model->field;
    return FT_HAS_FIELD && field != NULL && field->state->phase != FT_AT_REST;
}

/* TAKE, SET_SAMPLES, WORK, REST or FIELD. */
void ft_command_field(ft_firmware_t *firmware, const ft_request_t *request);

/* Goes on with that work: see ft_link_work. */
int ft_go_on(ft_firmware_t *firmware);

#endif
