/* A board with an nRF52840: crystal, instruction cache, the pins of its UART, UART and timer (Nordic nRF52840
 * Product Specification 1.1: CLOCK, POWER, NVMC, GPIO; Zephyr dts/arm/nordic/nrf52840.dtsi). The core runs at
 * 64 MHz as it comes. */
#include "board.h"
#include "cortex_m.h"
#include "hardware.h"

#define CLOCK_HF_START   FT_REGISTER(0x40000000u)
#define CLOCK_HF_STARTED FT_REGISTER(0x40000100u)
#define POWER_DCDC       FT_REGISTER(0x40000578u)
#define NVMC_ICACHE      FT_REGISTER(0x4001E540u)
#define GPIO_BASE        0x50000000u
#define GPIO_PORT_BYTES  0x300u
#define GPIO_OUT_SET     0x508u
#define GPIO_OUT_CLEAR   0x50Cu
#define GPIO_PIN_CONFIG  0x700u
#define PIN_INPUT_UP     (3u << 2)               /* input connected, pulled up */
#define PIN_OUTPUT       ((1u << 1) | (1u << 0)) /* input not connected */

FT_INTERRUPTS interrupts[] = {
    [FT_UART_IRQ] = ft_uart_handler,
    [FT_TIMER_IRQ] = ft_timer_handler,
};

static uint32_t port_of(uint32_t pin) {
    return GPIO_BASE + pin / 32u * GPIO_PORT_BYTES;
}

static void configure(uint32_t pin, uint32_t value) {
    FT_REGISTER(port_of(pin) + GPIO_PIN_CONFIG + 4u * (pin % 32u)) = value;
}

void ft_hw_init(void) {
    POWER_DCDC = FT_DCDC;
    NVMC_ICACHE = 1;
    CLOCK_HF_START = 1; /* the crystal: the oscillator inside is too far off for a UART */
    while (!CLOCK_HF_STARTED) {
    }
    ft_hw_drive_pin(FT_UART_TX_PIN); /* idle is high */
    configure(FT_UART_RX_PIN, PIN_INPUT_UP);
    ft_timer_init();
    ft_uart_init();
}

void ft_hw_drive_pin(uint32_t pin) {
    ft_hw_set_pin(pin, true);
    configure(pin, PIN_OUTPUT);
}

void ft_hw_set_pin(uint32_t pin, bool high) {
    FT_REGISTER(port_of(pin) + (high ? GPIO_OUT_SET : GPIO_OUT_CLEAR)) = 1u << pin % 32u;
}
