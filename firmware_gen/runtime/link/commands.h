/* Commands that every firmware knows: each runs once and leaves its reply in the context. Inside the library
 * only. */
#ifndef FT_COMMANDS_H
#define FT_COMMANDS_H

#include <stdint.h>
#include "parts.h"
#include "reply.h"

/* Where FT_HAS_STEPS says that nothing learns, the compiler leaves out what only learning needs. */
static inline int ft_trainable(const ft_model_t *model) {
    return FT_HAS_STEPS && model->step != NULL && model->loss_count <= FT_MAX_LOSSES;
}

void ft_command_infer(ft_firmware_t *firmware, const uint8_t *payload);
void ft_command_step(ft_firmware_t *firmware, const uint8_t *payload);
void ft_command_hyper(ft_firmware_t *firmware, const uint8_t *payload);
void ft_command_reset_weights(ft_firmware_t *firmware);
void ft_command_set_step(ft_firmware_t *firmware, uint32_t done);
void ft_command_memory(ft_firmware_t *firmware);
void ft_command_reboot(ft_firmware_t *firmware);

#endif
