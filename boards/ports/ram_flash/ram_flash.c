/* Keeps emulated flash in RAM that nothing else uses. QEMU leaves RAM as it is at a reset; the content is
 * gone when QEMU ends. */
#include "emulated_flash.h"
#include "port.h"

ft_flash_memory_t *ft_flash_memory(void) {
    return (ft_flash_memory_t *)FT_PORT_STORE_START;
}

int ft_flash_keep(uint32_t offset, uint32_t count) {
    (void)offset;
    (void)count;
    return 1;
}

const ft_flash_t *ft_port_flash(void) {
    static const ft_flash_t flash = {
        .data = (const uint8_t *)FT_PORT_STORE_START,
        .bytes = FT_PORT_STORE_BYTES,
        .sector_bytes = FT_PORT_STORE_SECTOR,
        .unit_bytes = FT_PORT_STORE_UNIT,
        .erase = ft_flash_erase,
        .program = ft_flash_program,
    };
    return &flash;
}
