/* From reset to main. Symbols come from the generated link.ld. */
#include "start.h"
#include <string.h>
#include "port.h"

typedef struct {
    uint8_t *start, *end;
} range_t;

extern uint32_t ft_stack_low[], ft_stack_high[];
extern uint8_t ft_data_start[], ft_data_end[];
extern const uint8_t ft_data_image[];
extern const range_t ft_zero_table[], ft_zero_table_end[];

int main(void);

void __attribute__((weak)) ft_hw_memories(void) {}

void ft_start(void) {
    ft_hw_memories();
    uint32_t *const live = __builtin_frame_address(0);
    /* Everything from some words below this frame upwards is in use by now. */
    for (volatile uint32_t *word = ft_stack_low; word < live - 32; word++) {
        *word = FT_STACK_PAINT;
    }
    memmove(ft_data_start, ft_data_image, (size_t)(ft_data_end - ft_data_start)); /* or it lies there */
    for (const range_t *range = ft_zero_table; range < ft_zero_table_end; range++) {
        memset(range->start, 0, (size_t)(range->end - range->start));
    }
    main();
    ft_port_reset();
    for (;;) {
    }
}

void ft_port_stack(const uint32_t **low, const uint32_t **high) {
    *low = ft_stack_low;
    *high = ft_stack_high;
}
