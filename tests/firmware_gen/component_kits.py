"""What the vendors' kits declare, as far as the examples of the layouts use it: enough to find slips in them.

Written from the kits' documentation; it does not prove that the examples build with the kits.
"""

ARDUINO = {
    "Arduino.h": """
#include <stddef.h>
#include <stdint.h>
struct Port {
    void begin(unsigned long baud);
    int available(void);
    int read(void);
    size_t write(const uint8_t *data, size_t count);
};
extern Port Serial;
unsigned long micros(void);
void setup(void);
void loop(void);
"""
}
ESP_IDF = {
    "driver/uart.h": """
#include <stddef.h>
#include <stdint.h>
typedef int esp_err_t;
typedef int uart_port_t;
typedef uint32_t TickType_t;
typedef struct QueueDefinition *QueueHandle_t;
enum { UART_DATA_8_BITS = 3, UART_PARITY_DISABLE = 0, UART_STOP_BITS_1 = 1 };
enum { UART_HW_FLOWCTRL_DISABLE = 0, UART_SCLK_DEFAULT = 1 };
#define UART_NUM_0 0
typedef struct {
    int baud_rate, data_bits, parity, stop_bits, flow_ctrl, source_clk;
} uart_config_t;
esp_err_t uart_param_config(uart_port_t port, const uart_config_t *config);
esp_err_t uart_driver_install(uart_port_t port, int rx, int tx, int queue, QueueHandle_t *handle, int flags);
int uart_read_bytes(uart_port_t port, void *bytes, uint32_t count, TickType_t ticks);
int uart_write_bytes(uart_port_t port, const void *bytes, size_t count);
esp_err_t uart_get_buffered_data_len(uart_port_t port, size_t *count);
""",
    "esp_system.h": "void esp_restart(void) __attribute__((noreturn));\n",
    "esp_timer.h": "#include <stdint.h>\nint64_t esp_timer_get_time(void);\n",
    "freertos/FreeRTOS.h": "#define portMAX_DELAY 0xffffffffu\nvoid app_main(void);\n",
}
PICO_SDK = {
    "hardware/sync.h": "static inline void __wfi(void) {}\n",
    "hardware/watchdog.h": """
#include <stdint.h>
void watchdog_reboot(uint32_t pc, uint32_t sp, uint32_t delay_ms);
""",
    "pico/multicore.h": """
#include <stddef.h>
#include <stdint.h>
void multicore_launch_core1_with_stack(void (*entry)(void), uint32_t *stack_bottom, size_t stack_size_bytes);
""",
    "pico/stdio_usb.h": "typedef struct stdio_driver stdio_driver_t;\nextern stdio_driver_t stdio_usb;\n",
    "pico/stdlib.h": """
#include <stdbool.h>
#include <stdint.h>
bool stdio_init_all(void);
void stdio_flush(void);
int putchar_raw(int c);
int getchar_timeout_us(uint32_t timeout);
void stdio_set_translate_crlf(struct stdio_driver *driver, bool translate);
uint64_t time_us_64(void);
""",
}
ZEPHYR = {
    "zephyr/device.h": """
#include <stddef.h>
#include <stdint.h>
struct device {
    int unit;
};
extern const struct device console;
#define DEVICE_DT_GET(node) (&console)
#define DT_CHOSEN(name) name
#define ARG_UNUSED(name) (void)(name)
""",
    "zephyr/drivers/uart.h": """
typedef void (*uart_irq_callback_user_data_t)(const struct device *device, void *data);
int uart_irq_update(const struct device *device);
int uart_irq_rx_ready(const struct device *device);
void uart_irq_rx_enable(const struct device *device);
int uart_fifo_read(const struct device *device, uint8_t *bytes, const int count);
void uart_poll_out(const struct device *device, unsigned char byte);
int uart_irq_callback_user_data_set(const struct device *d, uart_irq_callback_user_data_t call, void *data);
""",
    "zephyr/kernel.h": """
struct k_sem {
    unsigned count;
};
typedef struct {
    int64_t ticks;
} k_timeout_t;
#define K_SEM_DEFINE(name, first, most) struct k_sem name = {first}
#define K_FOREVER ((k_timeout_t){-1})
#define CONFIG_SYS_CLOCK_TICKS_PER_SEC 10000
void k_sem_give(struct k_sem *sem);
int k_sem_take(struct k_sem *sem, k_timeout_t timeout);
int64_t k_uptime_ticks(void);
""",
    "zephyr/sys/reboot.h": """
#define SYS_REBOOT_COLD 1
void sys_reboot(int type) __attribute__((noreturn));
""",
    "zephyr/sys/ring_buffer.h": """
struct ring_buf {
    uint32_t size;
};
#define RING_BUF_DECLARE(name, bytes) static struct ring_buf name = {bytes}
uint32_t ring_buf_put(struct ring_buf *ring, const uint8_t *bytes, uint32_t count);
uint32_t ring_buf_get(struct ring_buf *ring, uint8_t *bytes, uint32_t count);
""",
}
