/* Requests about tensors: the same however often asked. Inside the library only. */
#ifndef FT_TENSORS_H
#define FT_TENSORS_H

#include "reply.h"

void ft_answer_tensor(ft_firmware_t *firmware, const ft_request_t *request);
void ft_answer_write(ft_firmware_t *firmware, const ft_request_t *request);
void ft_answer_read(ft_firmware_t *firmware, const ft_request_t *request);

#endif
