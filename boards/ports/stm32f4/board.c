/* STM32F405 as the emulated netduinoplus2 has it: USART1 and SysTick (ST RM0090, chapter 30).
 *
 * The emulator starts the part with its clocks and pins set up. A port for a real part would first set up the
 * RCC and the pins of USART1; this one has never seen a real part and does not pretend to.
 */
#include "cortex_m.h"
#include "hardware.h"
#include "port.h"
#include "port_config.h"

#define USART_SR     FT_REGISTER(0x40011000u)
#define USART_DR     FT_REGISTER(0x40011004u)
#define USART_BRR    FT_REGISTER(0x40011008u)
#define USART_CR1    FT_REGISTER(0x4001100Cu)
#define SR_ORE       (1u << 3)
#define SR_RXNE      (1u << 5)
#define SR_TXE       (1u << 7)
#define CR1_ON       ((1u << 13) | (1u << 5) | (1u << 3) | (1u << 2)) /* UE, RXNEIE, TE, RE */
#define PCLK_DIVIDER 2u /* APB2 runs at half the core's clock at most */

#define IRQ_USART1 37

#define SYSTICK_MAX    0xFFFFFFu
#define SYSTICK_ON     0x7u /* core clock, interrupt, enable */
#define ICSR_PENDSTSET (1u << 26)

static volatile uint32_t systick_wraps;

void ft_systick_handler(void) {
    systick_wraps = systick_wraps + 1;
}

FT_INTERRUPTS interrupts[] = {[IRQ_USART1] = ft_hw_receive};

void ft_hw_init(void) {
    SYSTICK_LOAD = SYSTICK_MAX;
    SYSTICK_VALUE = 0;
    SYSTICK_CTRL = SYSTICK_ON;
    USART_BRR = FT_PORT_CLOCK_HZ / PCLK_DIVIDER / FT_PORT_BAUD;
    USART_CR1 = CR1_ON;
    (void)USART_DR; /* a byte from before; the emulator takes the read as a sign to look for more */
    ft_nvic_enable(IRQ_USART1);
}

void ft_hw_send(uint8_t byte) {
    while (!(USART_SR & SR_TXE)) {
    }
    USART_DR = byte;
}

void ft_hw_receive(void) {
    uint32_t status;
    ft_nvic_enable(IRQ_USART1);
    while ((status = USART_SR) & SR_RXNE) {
        if (ft_rx_full()) {
            /* Not by RXNEIE: QEMU 7.2 leaves the interrupt asserted when that is cleared. */
            ft_nvic_disable(IRQ_USART1);
            return;
        }
        if (status & SR_ORE) { /* cleared by the read of DR that follows */
            ft_rx_lost();
        }
        ft_rx_put((uint8_t)USART_DR);
    }
}

uint64_t ft_port_ticks(void) {
    uint32_t wraps, value, pending;
    do {
        wraps = systick_wraps;
        value = SYSTICK_VALUE;
        pending = SCB_ICSR & ICSR_PENDSTSET;
    } while (wraps != systick_wraps || pending);
    return (uint64_t)wraps * (SYSTICK_MAX + 1u) + (SYSTICK_MAX - value);
}

uint32_t ft_port_ticks_hz(void) {
    return FT_PORT_CLOCK_HZ;
}
