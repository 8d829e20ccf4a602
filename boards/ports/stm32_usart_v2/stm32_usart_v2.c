/* The USART and the LPUART of the newer STM32 families, with separate registers for the status and for both
 * directions: F0, F3, F7, G0, G4, H7, L0, L4, L5, U5, WB and others (ST RM0433, chapters 48 and 49). Its
 * FIFO, where there is one, stays off. */
#include "board.h"
#include "cortex_m.h"
#include "hardware.h"
#include "port_config.h"

/* Where the baud rate divider counts in parts of a clock: 256 for an LPUART. */
#ifndef FT_UART_PARTS
#define FT_UART_PARTS 1u
#endif

#define USART_CR1  FT_REGISTER(FT_UART_BASE + 0x00u)
#define USART_BRR  FT_REGISTER(FT_UART_BASE + 0x0Cu)
#define USART_ISR  FT_REGISTER(FT_UART_BASE + 0x1Cu)
#define USART_ICR  FT_REGISTER(FT_UART_BASE + 0x20u)
#define USART_RDR  FT_REGISTER(FT_UART_BASE + 0x24u)
#define USART_TDR  FT_REGISTER(FT_UART_BASE + 0x28u)
#define CR1_ON     ((1u << 3) | (1u << 2) | (1u << 0)) /* TE, RE, UE */
#define CR1_RXNEIE (1u << 5)
#define ISR_ORE    (1u << 3)
#define ISR_RXNE   (1u << 5)
#define ISR_TXE    (1u << 7)
#define ICR_ORECF  (1u << 3)

#define DIVIDER ((uint32_t)(((uint64_t)FT_UART_CLOCK_HZ * FT_UART_PARTS + FT_PORT_BAUD / 2u) / FT_PORT_BAUD))

void ft_uart_init(void) {
    USART_BRR = DIVIDER;
    USART_CR1 = CR1_ON | CR1_RXNEIE;
    ft_nvic_enable(FT_UART_IRQ);
}

void ft_uart_handler(void) {
    ft_hw_receive();
}

void ft_hw_send(uint8_t byte) {
    while (!(USART_ISR & ISR_TXE)) {
    }
    USART_TDR = byte;
}

void ft_hw_receive(void) {
    uint32_t status;
    while ((status = USART_ISR) & ISR_RXNE) {
        if (ft_rx_full()) {
            USART_CR1 = CR1_ON;
            return;
        }
        ft_rx_put((uint8_t)USART_RDR);
    }
    if (status & ISR_ORE) { /* interrupts as well: left standing, it would for ever */
        USART_ICR = ICR_ORECF;
        ft_rx_lost();
    }
    USART_CR1 = CR1_ON | CR1_RXNEIE;
}
