/* Emulated flash cuts the power by itself. What is kept lies in the last sector of its area, which no set
 * reaches. */
#include "emulated_flash.h"
#include "power.h"

static uint32_t kept_bytes;

const ft_flash_t *flash_that_is_cut(void) {
    return ft_port_flash();
}

void cut_power_at(uint32_t countdown, uint32_t done) {
    ft_flash_memory()->cut = (ft_flash_cut_t){countdown, done};
    ft_flash_keep(FT_PORT_STORE_BYTES, sizeof(ft_flash_cut_t));
}

void *kept(uint32_t bytes) {
    kept_bytes = bytes;
    return ft_flash_memory()->data + FT_PORT_STORE_BYTES - bytes;
}

void kept_has_changed(void) {
    ft_flash_keep(FT_PORT_STORE_BYTES - kept_bytes, kept_bytes);
}
