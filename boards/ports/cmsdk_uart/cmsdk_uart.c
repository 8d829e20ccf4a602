/* The UART of Arm's Cortex-M System Design Kit (Arm DDI 0479, chapter 4.3). */
#include "board.h"
#include "cortex_m.h"
#include "hardware.h"
#include "port_config.h"

#define UART_DATA      FT_REGISTER(FT_UART_BASE + 0x0u)
#define UART_STATE     FT_REGISTER(FT_UART_BASE + 0x4u)
#define UART_CTRL      FT_REGISTER(FT_UART_BASE + 0x8u)
#define UART_INTERRUPT FT_REGISTER(FT_UART_BASE + 0xCu)
#define UART_BAUD_DIV  FT_REGISTER(FT_UART_BASE + 0x10u)
#define STATE_TX_FULL  (1u << 0)
#define STATE_RX_FULL  (1u << 1)
#define STATE_RX_LOST  (1u << 3)
#define CTRL_TX        (1u << 0)
#define CTRL_RX        (1u << 1)
#define CTRL_RX_IRQ    (1u << 3)
#define INTERRUPT_RX   (1u << 1)

void ft_uart_init(void) {
    UART_BAUD_DIV = FT_PORT_CLOCK_HZ / FT_PORT_BAUD;
    UART_CTRL = CTRL_TX | CTRL_RX | CTRL_RX_IRQ;
    (void)UART_DATA; /* a byte from before; the emulator takes the read as a sign to look for more */
    ft_nvic_enable(FT_UART_IRQ);
}

void ft_uart_handler(void) {
    /* Cleared before draining: a byte that arrives in between would otherwise never interrupt. */
    UART_INTERRUPT = INTERRUPT_RX;
    ft_hw_receive();
}

void ft_hw_send(uint8_t byte) {
    while (UART_STATE & STATE_TX_FULL) {
    }
    UART_DATA = byte;
}

void ft_hw_receive(void) {
    UART_CTRL = CTRL_TX | CTRL_RX | CTRL_RX_IRQ;
    while (UART_STATE & STATE_RX_FULL) {
        if (ft_rx_full()) {
            UART_CTRL = CTRL_TX | CTRL_RX;
            return;
        }
        ft_rx_put((uint8_t)UART_DATA);
    }
    if (UART_STATE & STATE_RX_LOST) {
        UART_STATE = STATE_RX_LOST;
        ft_rx_lost();
    }
}
