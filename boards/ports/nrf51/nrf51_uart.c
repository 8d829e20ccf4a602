/* The UART of the nRF51 series, which the nRF52 series still has beside its UARTE (Nordic nRF51 Series
 * Reference Manual 3.0, chapter 29; nRF52840 Product Specification, UART). */
#include "board.h"
#include "cortex_m.h"
#include "hardware.h"
#include "port_config.h"

#define UART_START_RX  FT_REGISTER(FT_UART_BASE + 0x000u)
#define UART_START_TX  FT_REGISTER(FT_UART_BASE + 0x008u)
#define UART_RX_READY  FT_REGISTER(FT_UART_BASE + 0x108u)
#define UART_TX_READY  FT_REGISTER(FT_UART_BASE + 0x11Cu)
#define UART_IRQ_SET   FT_REGISTER(FT_UART_BASE + 0x304u)
#define UART_IRQ_CLEAR FT_REGISTER(FT_UART_BASE + 0x308u)
#define UART_ERRORS    FT_REGISTER(FT_UART_BASE + 0x480u)
#define UART_ENABLE    FT_REGISTER(FT_UART_BASE + 0x500u)
#define UART_TX_PIN    FT_REGISTER(FT_UART_BASE + 0x50Cu)
#define UART_RX_PIN    FT_REGISTER(FT_UART_BASE + 0x514u)
#define UART_RX_DATA   FT_REGISTER(FT_UART_BASE + 0x518u)
#define UART_TX_DATA   FT_REGISTER(FT_UART_BASE + 0x51Cu)
#define UART_BAUD      FT_REGISTER(FT_UART_BASE + 0x524u)
#define ENABLED        4u
#define IRQ_RX_READY   (1u << 2)
#define ERROR_RX_LOST  (1u << 0)

/* The rate as a fraction of 16 MHz in 2^-32, of which the upper 20 bits count. */
#define BAUD ((uint32_t)((((uint64_t)FT_PORT_BAUD << 32) / 16000000u + 0x800u) & 0xFFFFF000u))

void ft_uart_init(void) {
    UART_TX_PIN = FT_UART_TX_PIN;
    UART_RX_PIN = FT_UART_RX_PIN;
    UART_BAUD = BAUD;
    UART_ENABLE = ENABLED;
    UART_IRQ_SET = IRQ_RX_READY;
    UART_START_TX = 1;
    UART_START_RX = 1;
    ft_nvic_enable(FT_UART_IRQ);
}

void ft_uart_handler(void) {
    ft_hw_receive();
}

void ft_hw_send(uint8_t byte) {
    UART_TX_READY = 0;
    UART_TX_DATA = byte;
    while (!UART_TX_READY) {
    }
}

void ft_hw_receive(void) {
    while (UART_RX_READY) {
        if (ft_rx_full()) {
            UART_IRQ_CLEAR = IRQ_RX_READY;
            return;
        }
        UART_RX_READY = 0; /* before the read, which sets it again when there is another byte */
        ft_rx_put((uint8_t)UART_RX_DATA);
    }
    if (UART_ERRORS & ERROR_RX_LOST) {
        UART_ERRORS = ERROR_RX_LOST;
        ft_rx_lost();
    }
    UART_IRQ_SET = IRQ_RX_READY; /* not before: its edge would pend the interrupt that runs, for ever */
}
