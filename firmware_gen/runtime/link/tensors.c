#include "tensors.h"

#include <string.h>
#include "bytes.h"
#include "field_commands.h"

/* The tensor that the request's first field names; NULL after having refused the request. */
static const ft_tensor_t *named_tensor(ft_firmware_t *firmware, const ft_request_t *request) {
    uint16_t index = ft_get_u16(request->payload);
    if (index < firmware->model->tensor_count) {
        return &firmware->model->tensors[index];
    }
    ft_refuse(firmware, request, FT_REFUSED_NO_TENSOR, firmware->model->tensor_count);
    return NULL;
}

void ft_answer_tensor(ft_firmware_t *firmware, const ft_request_t *request) {
    if (request->bytes != FT_TENSOR_REQUEST_SIZE) {
        ft_refuse(firmware, request, FT_REFUSED_BAD_LENGTH, FT_TENSOR_REQUEST_SIZE);
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
    ft_send_with_text(firmware, request, fixed, sizeof fixed, tensor->name);
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

void ft_answer_write(ft_firmware_t *firmware, const ft_request_t *request) {
    if (request->bytes < FT_WRITE_REQUEST_SIZE) {
        ft_refuse(firmware, request, FT_REFUSED_BAD_LENGTH, FT_WRITE_REQUEST_SIZE);
        return;
    }
    const ft_tensor_t *tensor = named_tensor(firmware, request);
    if (tensor == NULL) {
        return;
    }
    uint32_t offset = ft_get_u32(request->payload + FT_WRITE_REQUEST_OFFSET);
    uint32_t count = request->bytes - (uint32_t)FT_WRITE_REQUEST_SIZE;
    if (ft_at_work(firmware)) {
        ft_refuse(firmware, request, FT_REFUSED_AT_WORK, 0);
    } else if (!writable(tensor)) {
        ft_refuse(firmware, request, FT_REFUSED_READ_ONLY, 0);
    } else if (!inside(tensor, offset, count)) {
        ft_refuse(firmware, request, FT_REFUSED_OUT_OF_RANGE, tensor->bytes);
    } else {
        memcpy(tensor->data + offset, request->payload + FT_WRITE_REQUEST_DATA, count);
        ft_send(firmware, FT_MSG_WRITE | FT_MSG_REPLY, request->seq, NULL, 0);
    }
}

void ft_answer_read(ft_firmware_t *firmware, const ft_request_t *request) {
    if (request->bytes != FT_READ_REQUEST_SIZE) {
        ft_refuse(firmware, request, FT_REFUSED_BAD_LENGTH, FT_READ_REQUEST_SIZE);
        return;
    }
    const ft_tensor_t *tensor = named_tensor(firmware, request);
    if (tensor == NULL) {
        return;
    }
    uint32_t offset = ft_get_u32(request->payload + FT_READ_REQUEST_OFFSET);
    uint16_t count = ft_get_u16(request->payload + FT_READ_REQUEST_COUNT);
    if (count > FT_MAX_PAYLOAD) {
        ft_refuse(firmware, request, FT_REFUSED_BAD_VALUE, 0);
    } else if (!inside(tensor, offset, count)) {
        ft_refuse(firmware, request, FT_REFUSED_OUT_OF_RANGE, tensor->bytes);
    } else {
        ft_send(firmware, FT_MSG_READ | FT_MSG_REPLY, request->seq, tensor->data + offset, count);
    }
}
