/* The firmware: the board's bytes go to the firmware library, its answers to the board. */
#include "link/firmware.h"
#include "link/port.h"
#include "port/port_config.h"

static const ft_firmware_port_t port = {
    .write = ft_port_write,
    .ticks = ft_port_ticks,
    .ticks_hz = ft_port_ticks_hz,
    .overruns = ft_port_overruns,
    .stack = ft_port_stack,
    .reset = ft_port_reset,
    .window = FT_PORT_RX_RING,
};

static ft_firmware_t firmware;

static void handle(const uint8_t *data, size_t count) {
    while (count > 0) {
        size_t taken = ft_firmware_feed(&firmware, data, count);
        ft_firmware_poll(&firmware);
        data += taken;
        count -= taken;
    }
}

int main(void) {
    uint8_t data[64];
    ft_port_init();
    ft_firmware_init(&firmware, &ft_model, &port);
    for (;;) {
        size_t count = ft_port_read(data, sizeof data);
        if (count == 0) {
            ft_port_idle();
        }
        handle(data, count);
    }
}
