#include "field_commands.h"

#include "commands.h"

void ft_command_field(ft_firmware_t *firmware, const ft_request_t *request) {
    const ft_field_t *field = firmware->model->field;
    uint8_t bytes = 0;
    if (field == NULL || !ft_trainable(firmware->model)) {
        ft_reply_refused(firmware, FT_REFUSED_NO_BUFFER, 0);
        return;
    }
    const uint8_t refused = ft_field_command(field, firmware->port, request->type, request->payload, &bytes);
    if (refused != 0) {
        ft_reply_refused(firmware, refused, 0);
    } else {
        ft_reply_with(firmware, field->state->reply, bytes);
    }
}

int ft_go_on(ft_firmware_t *firmware) {
    if (!ft_at_work(firmware)) {
        return 0;
    }
    const uint32_t step = firmware->step;
    const int busy = ft_field_work(firmware->model, firmware->port, &firmware->hyper, &firmware->step);
    if (firmware->step != step) {
        firmware->step_reply_bytes = 0;
    }
    return busy;
}
