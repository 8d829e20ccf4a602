/* For drivers of counters that wrap: the interrupt counts the wraps, and here they become ticks. */
#ifndef FT_WRAPS_H
#define FT_WRAPS_H

#include <stdbool.h>
#include <stdint.h>

/* Returns the ticks of a counter of `bits` bits that has wrapped `wraps` times, as its interrupt has it;
 * `value` reads it counting up, `pending` tells that it has wrapped and the interrupt has yet to run. */
static inline uint64_t ft_wrapped_ticks(const volatile uint32_t *wraps, unsigned bits,
                                        uint32_t (*value)(void), bool (*pending)(void)) {
    uint32_t before, now;
    do {
        before = *wraps;
        now = value();
    } while (pending() || before != *wraps);
    return ((uint64_t)before << bits) + now;
}

#endif
