/* The link on UART 0. */
#include <driver/uart.h>
#include <esp_system.h>
#include <esp_timer.h>
#include <fieldtune.h>
#include <freertos/FreeRTOS.h>

static void send(const uint8_t *data, size_t count) {
    uart_write_bytes(UART_NUM_0, data, count);
}

static uint64_t ticks(void) {
    return (uint64_t)esp_timer_get_time();
}

static uint32_t ticks_hz(void) {
    return 1000000;
}

static const ft_link_port_t port = {
    .write = send,
    .ticks = ticks,
    .ticks_hz = ticks_hz,
    .reset = esp_restart,
    .window = FT_LINK_WINDOW,
};

void app_main(void) {
    const uart_config_t line = {
        .baud_rate = 115200,
        .data_bits = UART_DATA_8_BITS,
        .parity = UART_PARITY_DISABLE,
        .stop_bits = UART_STOP_BITS_1,
        .flow_ctrl = UART_HW_FLOWCTRL_DISABLE,
        .source_clk = UART_SCLK_DEFAULT,
    };
    uint8_t bytes[64];
    uart_param_config(UART_NUM_0, &line);
    uart_driver_install(UART_NUM_0, FT_LINK_WINDOW, 0, 0, NULL, 0);
    ft_link_open(&ft_model, &port);
    for (;;) {
        int count = uart_read_bytes(UART_NUM_0, bytes, 1, portMAX_DELAY);
        size_t waiting = 0;
        uart_get_buffered_data_len(UART_NUM_0, &waiting);
        if (count == 1 && waiting > 0) {
            const size_t room = sizeof bytes - 1;
            count += uart_read_bytes(UART_NUM_0, bytes + 1, waiting < room ? waiting : room, 0);
        }
        if (count > 0) {
            ft_link_feed(bytes, (size_t)count);
        }
    }
}
