/* The Arm MPS3 FPGA image AN547: CMSDK UART 0 (Arm DDI 0479, chapter 4.3) and the subsystem's
 * 64-bit system counter (Arm 101370), which runs at the core's clock and interrupts nobody. */
#include "cortex_m.h"
#include "hardware.h"
#include "port.h"
#include "port_config.h"

#define UART_DATA      FT_REGISTER(0x49303000u)
#define UART_STATE     FT_REGISTER(0x49303004u)
#define UART_CTRL      FT_REGISTER(0x49303008u)
#define UART_INTERRUPT FT_REGISTER(0x4930300Cu)
#define UART_BAUD_DIV  FT_REGISTER(0x49303010u)
#define STATE_TX_FULL  (1u << 0)
#define STATE_RX_FULL  (1u << 1)
#define STATE_RX_LOST  (1u << 3)
#define CTRL_TX        (1u << 0)
#define CTRL_RX        (1u << 1)
#define CTRL_RX_IRQ    (1u << 3)
#define INTERRUPT_RX   (1u << 1)

#define IRQ_UART0_RX 33

#define COUNTER_CONTROL FT_REGISTER(0x58100000u)
#define COUNTER_LOW     FT_REGISTER(0x58100008u)
#define COUNTER_HIGH    FT_REGISTER(0x5810000Cu)
#define CONTROL_ENABLE  (1u << 0)

static void uart_handler(void) {
    /* Cleared before draining: a byte that arrives in between would otherwise never interrupt. */
    UART_INTERRUPT = INTERRUPT_RX;
    ft_hw_receive();
}

FT_INTERRUPTS interrupts[] = {[IRQ_UART0_RX] = uart_handler};

void ft_hw_init(void) {
    COUNTER_CONTROL = CONTROL_ENABLE;
    UART_BAUD_DIV = FT_PORT_CLOCK_HZ / FT_PORT_BAUD;
    UART_CTRL = CTRL_TX | CTRL_RX | CTRL_RX_IRQ;
    (void)UART_DATA; /* a byte from before; the emulator takes the read as a sign to look for more */
    ft_nvic_enable(IRQ_UART0_RX);
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

uint64_t ft_port_ticks(void) {
    uint32_t high, low;
    do {
        high = COUNTER_HIGH;
        low = COUNTER_LOW;
    } while (high != COUNTER_HIGH);
    return (uint64_t)high << 32 | low;
}

uint32_t ft_port_ticks_hz(void) {
    return FT_PORT_CLOCK_HZ;
}
