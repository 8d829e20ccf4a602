/* Erases and programs the flash of an nRF51 or nRF52 for the weights store (Nordic nRF51 Series Reference
 * Manual 3.0, NVMC; nRF52840 Product Specification, NVMC; nrfx drivers/src/nrfx_nvmc.c). The core stands
 * still while it is written, the controller reports no errors, and no cache has its data: that of the nRF52
 * is for instructions.
 */
#include "cortex_m.h"
#include "port.h"
#include "port_config.h"

#define NVMC_READY   FT_REGISTER(0x4001E400u)
#define NVMC_CONFIG  FT_REGISTER(0x4001E504u)
#define NVMC_ERASE   FT_REGISTER(0x4001E508u) /* takes the page's address */
#define CONFIG_READ  0u
#define CONFIG_WRITE 1u
#define CONFIG_ERASE 2u

_Static_assert(FT_PORT_STORE_UNIT == 4, "the controller takes words");

static void wait(void) {
    while (!(NVMC_READY & 1u)) {
    }
}

static void set_mode(uint32_t mode) {
    wait();
    NVMC_CONFIG = mode;
    (void)NVMC_CONFIG;
}

static int erase(uint32_t offset) {
    if (offset >= FT_PORT_STORE_BYTES || offset % FT_PORT_STORE_SECTOR != 0) {
        return 0;
    }
    set_mode(CONFIG_ERASE);
    NVMC_ERASE = FT_PORT_STORE_START + offset;
    set_mode(CONFIG_READ);
    return 1;
}

static int program(uint32_t offset, const uint8_t *unit) {
    if (offset >= FT_PORT_STORE_BYTES || offset % FT_PORT_STORE_UNIT != 0) {
        return 0;
    }
    set_mode(CONFIG_WRITE);
    FT_REGISTER(FT_PORT_STORE_START + offset) = *(const uint32_t *)(const void *)unit;
    set_mode(CONFIG_READ);
    return 1;
}

static int read(uint32_t offset, uint8_t *unit) {
    *(uint32_t *)(void *)unit = FT_REGISTER(FT_PORT_STORE_START + offset);
    return 1;
}

const ft_flash_t *ft_port_flash(void) {
    static const ft_flash_t flash = {
        .bytes = FT_PORT_STORE_BYTES,
        .sector_bytes = FT_PORT_STORE_SECTOR,
        .unit_bytes = FT_PORT_STORE_UNIT,
        .erase = erase,
        .program = program,
        .read = read,
    };
    return &flash;
}
