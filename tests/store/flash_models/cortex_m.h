/* In the place of the port's cortex_m.h: compiled as C++, every access of a register and of flash is one of
 * the model's, and a read is told from a write. */
#ifndef FT_CORTEX_M_H
#define FT_CORTEX_M_H

#include <stdint.h>

uint32_t model_read(uint32_t address);
void model_write(uint32_t address, uint32_t value);

struct Access {
    uint32_t address;
    operator uint32_t() const { return model_read(address); }
    void operator=(uint32_t value) const { model_write(address, value); }
};

#define FT_REGISTER(at) (Access{(at)})
#define _Static_assert static_assert

void ft_barrier(void);
void ft_nmi_handler(void);

#endif
