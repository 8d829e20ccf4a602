/* The Arm MPS2 FPGA images: CMSDK UART 0 and timer 0 (Arm DDI 0479, chapters 4.3 and 4.1). */
#include "cortex_m.h"
#include "hardware.h"
#include "port.h"
#include "port_config.h"

#define UART_DATA      FT_REGISTER(0x40004000u)
#define UART_STATE     FT_REGISTER(0x40004004u)
#define UART_CTRL      FT_REGISTER(0x40004008u)
#define UART_INTERRUPT FT_REGISTER(0x4000400Cu)
#define UART_BAUD_DIV  FT_REGISTER(0x40004010u)
#define STATE_TX_FULL  (1u << 0)
#define STATE_RX_FULL  (1u << 1)
#define STATE_RX_LOST  (1u << 3)
#define CTRL_TX        (1u << 0)
#define CTRL_RX        (1u << 1)
#define CTRL_RX_IRQ    (1u << 3)
#define INTERRUPT_RX   (1u << 1)

#define TIMER_CTRL      FT_REGISTER(0x40000000u)
#define TIMER_VALUE     FT_REGISTER(0x40000004u)
#define TIMER_RELOAD    FT_REGISTER(0x40000008u)
#define TIMER_INTERRUPT FT_REGISTER(0x4000000Cu)
#define TIMER_ENABLE    (1u << 0)
#define TIMER_IRQ       (1u << 3)

#define IRQ_UART0_RX 0
#define IRQ_TIMER0   8

static volatile uint32_t timer_wraps;

static void uart_handler(void) {
    /* Cleared before draining: a byte that arrives in between would otherwise never interrupt. */
    UART_INTERRUPT = INTERRUPT_RX;
    ft_hw_receive();
}

static void timer_handler(void) {
    TIMER_INTERRUPT = 1;
    timer_wraps = timer_wraps + 1;
}

FT_INTERRUPTS interrupts[] = {[IRQ_UART0_RX] = uart_handler, [IRQ_TIMER0] = timer_handler};

void ft_hw_init(void) {
    TIMER_RELOAD = UINT32_MAX;
    TIMER_VALUE = UINT32_MAX;
    TIMER_CTRL = TIMER_ENABLE | TIMER_IRQ;
    UART_BAUD_DIV = FT_PORT_CLOCK_HZ / FT_PORT_BAUD;
    UART_CTRL = CTRL_TX | CTRL_RX | CTRL_RX_IRQ;
    (void)UART_DATA; /* a byte from before; the emulator takes the read as a sign to look for more */
    ft_nvic_enable(IRQ_UART0_RX);
    ft_nvic_enable(IRQ_TIMER0);
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
    uint32_t wraps, value, pending;
    do {
        wraps = timer_wraps;
        value = TIMER_VALUE;
        pending = TIMER_INTERRUPT;
    } while (wraps != timer_wraps || pending);
    return ((uint64_t)wraps << 32) + (UINT32_MAX - value);
}

uint32_t ft_port_ticks_hz(void) {
    return FT_PORT_CLOCK_HZ;
}
