/* The USART of the STM32 families F1, F2 and F4 (ST RM0090, chapter 30). */
#include "board.h"
#include "cortex_m.h"
#include "hardware.h"
#include "port_config.h"

#define USART_SR  FT_REGISTER(FT_UART_BASE + 0x0u)
#define USART_DR  FT_REGISTER(FT_UART_BASE + 0x4u)
#define USART_BRR FT_REGISTER(FT_UART_BASE + 0x8u)
#define USART_CR1 FT_REGISTER(FT_UART_BASE + 0xCu)
#define SR_ORE    (1u << 3)
#define SR_RXNE   (1u << 5)
#define SR_TXE    (1u << 7)
#define CR1_ON    ((1u << 13) | (1u << 5) | (1u << 3) | (1u << 2)) /* UE, RXNEIE, TE, RE */

void ft_uart_init(void) {
    USART_BRR = FT_UART_CLOCK_HZ / FT_PORT_BAUD;
    USART_CR1 = CR1_ON;
    (void)USART_DR; /* a byte from before; the emulator takes the read as a sign to look for more */
    ft_nvic_enable(FT_UART_IRQ);
}

void ft_uart_handler(void) {
    ft_hw_receive();
}

void ft_hw_send(uint8_t byte) {
    while (!(USART_SR & SR_TXE)) {
    }
    USART_DR = byte;
}

void ft_hw_receive(void) {
    uint32_t status;
    ft_nvic_enable(FT_UART_IRQ);
    while ((status = USART_SR) & SR_RXNE) {
        if (ft_rx_full()) {
            /* Not by RXNEIE: QEMU 7.2 leaves the interrupt asserted when that is cleared. */
            ft_nvic_disable(FT_UART_IRQ);
            return;
        }
        if (status & SR_ORE) { /* cleared by the read of DR that follows */
            ft_rx_lost();
        }
        ft_rx_put((uint8_t)USART_DR);
    }
}
