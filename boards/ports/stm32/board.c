/* A board with an STM32: its clocks, the pins of its UART, UART and timer. The layout of a GPIO port is the
 * same in all families since the F2 (ST RM0433, GPIO; RM0385, RM0432, RM0455 and RM0456 have the same
 * table). */
#include "board.h"
#include "hardware.h"
#include "stm32.h"

#define GPIO_BYTES     0x400u
#define GPIO_MODE      0x00u /* two bits a pin */
#define GPIO_PULL      0x0Cu /* two bits a pin */
#define GPIO_SET_RESET 0x18u /* the upper half makes pins low */
#define GPIO_FUNCTION  0x20u /* four bits a pin, two registers */
#define MODE_OUTPUT    1u
#define MODE_ALTERNATE 2u
#define PULL_UP        1u

FT_INTERRUPTS interrupts[] = {
    [FT_UART_IRQ] = ft_uart_handler,
};

static void switch_gpio_on(uint32_t port) {
    ft_set_bits(FT_GPIO_ENABLE, 0, 1u << port);
    (void)FT_REGISTER(FT_GPIO_ENABLE); /* the clock takes two cycles to arrive: a read back waits for it */
}

static uint32_t gpio(uint32_t port) {
    return FT_GPIO_BASE + GPIO_BYTES * port;
}

/* Gives `pin` to its alternate function; the pull-up keeps a receiver quiet that nothing drives. */
static void set_pin_up(uint32_t pin) {
    const uint32_t port = pin >> 8, number = pin >> 4 & 15u, function = pin & 15u;
    const uint32_t base = gpio(port);
    switch_gpio_on(port);
    ft_set_bits(base + GPIO_FUNCTION + 4u * (number / 8u), 15u << number % 8u * 4u,
                function << number % 8u * 4u);
    ft_set_bits(base + GPIO_PULL, 3u << 2u * number, PULL_UP << 2u * number);
    ft_set_bits(base + GPIO_MODE, 3u << 2u * number, MODE_ALTERNATE << 2u * number);
}

void ft_hw_init(void) {
    ft_device_init();
    set_pin_up(FT_UART_TX);
    set_pin_up(FT_UART_RX);
    ft_set_bits(FT_UART_ENABLE, 0, 1u << FT_UART_ENABLE_BIT);
    (void)FT_REGISTER(FT_UART_ENABLE);
    ft_timer_init();
    ft_uart_init();
}

void ft_hw_drive_pin(uint32_t pin) {
    switch_gpio_on(pin / 16u);
    ft_hw_set_pin(pin, true);
    ft_set_bits(gpio(pin / 16u) + GPIO_MODE, 3u << 2u * (pin % 16u), MODE_OUTPUT << 2u * (pin % 16u));
}

void ft_hw_set_pin(uint32_t pin, bool high) {
    FT_REGISTER(gpio(pin / 16u) + GPIO_SET_RESET) = 1u << (high ? pin % 16u : pin % 16u + 16u);
}
