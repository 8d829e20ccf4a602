/* The link on the console's UART. */
#include <fieldtune.h>
#include <zephyr/device.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/reboot.h>
#include <zephyr/sys/ring_buffer.h>

static const struct device *const uart = DEVICE_DT_GET(DT_CHOSEN(zephyr_console));

RING_BUF_DECLARE(received, FT_LINK_WINDOW);
static K_SEM_DEFINE(arrived, 0, 1);
static volatile uint32_t lost;

static void receive(const struct device *device, void *data) {
    ARG_UNUSED(data);
    uint8_t bytes[16];
    while (uart_irq_update(device) && uart_irq_rx_ready(device)) {
        const int count = uart_fifo_read(device, bytes, sizeof bytes);
        if (count <= 0) {
            break;
        }
        lost += ring_buf_put(&received, bytes, (uint32_t)count) != (uint32_t)count;
        k_sem_give(&arrived);
    }
}

static void send(const uint8_t *data, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uart_poll_out(uart, data[i]);
    }
}

static uint64_t ticks(void) {
    return (uint64_t)k_uptime_ticks();
}

static uint32_t ticks_hz(void) {
    return CONFIG_SYS_CLOCK_TICKS_PER_SEC;
}

static uint32_t overruns(void) {
    return lost;
}

static void restart(void) {
    sys_reboot(SYS_REBOOT_COLD);
}

static const ft_link_port_t port = {
    .write = send,
    .ticks = ticks,
    .ticks_hz = ticks_hz,
    .overruns = overruns,
    .reset = restart,
    .window = FT_LINK_WINDOW,
};

int main(void) {
    uint8_t bytes[64];
    ft_link_open(&ft_model, &port);
    uart_irq_callback_user_data_set(uart, receive, NULL);
    uart_irq_rx_enable(uart);
    for (;;) {
        const uint32_t count = ring_buf_get(&received, bytes, sizeof bytes);
        if (count == 0) {
            k_sem_take(&arrived, K_FOREVER);
        }
        ft_link_feed(bytes, count);
    }
}
