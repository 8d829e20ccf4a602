/* The link on USB. It runs on core 1, because there a stack of any size can be had; core 0 keeps the USB
 * awake while the other computes. */
#include <fieldtune.h>
#include <hardware/sync.h>
#include <hardware/watchdog.h>
#include <pico/multicore.h>
#include <pico/stdio_usb.h>
#include <pico/stdlib.h>

static void send(const uint8_t *data, size_t count) {
    for (size_t i = 0; i < count; i++) {
        putchar_raw(data[i]);
    }
    stdio_flush();
}

static uint64_t ticks(void) {
    return time_us_64();
}

static uint32_t ticks_hz(void) {
    return 1000000;
}

static void restart(void) {
    watchdog_reboot(0, 0, 0);
    for (;;) {
    }
}

static const ft_link_port_t port = {
    .write = send,
    .ticks = ticks,
    .ticks_hz = ticks_hz,
    .reset = restart,
    .window = FT_LINK_WINDOW, /* USB waits while nobody reads */
};

static uint32_t stack[FT_STACK_BYTES / sizeof(uint32_t)];

static void serve(void) {
    ft_link_open(&ft_model, &port);
    for (;;) {
        uint8_t bytes[64];
        size_t count = 0;
        for (int byte; count < sizeof bytes && (byte = getchar_timeout_us(0)) >= 0;) {
            bytes[count++] = (uint8_t)byte;
        }
        ft_link_feed(bytes, count);
    }
}

int main(void) {
    stdio_init_all();
    stdio_set_translate_crlf(&stdio_usb, false);
    multicore_launch_core1_with_stack(serve, stack, sizeof stack);
    for (;;) {
        __wfi();
    }
}
