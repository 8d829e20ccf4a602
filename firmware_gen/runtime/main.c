/* The firmware: the board's bytes go to the link, its answers to the board. */
#include "link/link.h"
#include "link/parts.h"
#include "link/port.h"
#include "port/port_config.h"

static const ft_link_port_t port = {
    .write = ft_port_write,
    .ticks = ft_port_ticks,
    .ticks_hz = ft_port_ticks_hz,
    .overruns = ft_port_overruns,
    .stack = ft_port_stack,
    .reset = ft_port_reset,
#if FT_HAS_FIELD && defined FT_PORT_SENSORS
    .camera = ft_port_camera,
    .tof = ft_port_tof,
    .tof_power = ft_port_tof_power,
#endif
    .window = FT_PORT_RX_RING,
#if FT_HAS_STORE && defined FT_PORT_STORE_BYTES
    .flash = ft_port_flash,
#endif
};

static void __attribute__((noreturn)) run(void) {
    uint8_t data[64];
    ft_port_init();
    ft_link_open(&ft_model, &port);
    for (;;) {
        const size_t count = ft_port_read(data, sizeof data);
        if (count == 0 && !ft_link_work()) {
            ft_port_idle();
        }
        ft_link_feed(data, count);
    }
}

int main(void) {
#ifdef FT_PORT_START
    return ft_port_start(run);
#else
    run();
#endif
}
