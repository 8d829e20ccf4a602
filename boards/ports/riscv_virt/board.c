/* QEMU's 32-bit RISC-V machine 'virt' (QEMU 7.2 hw/riscv/virt.c): 16550 UART, PLIC, machine timer, exit
 * device. */
#include "hardware.h"
#include "port.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define BYTE(address)     (*(volatile uint8_t *)(address))

#define UART_DATA      BYTE(0x10000000u)
#define UART_IRQS      BYTE(0x10000001u)
#define UART_FIFO      BYTE(0x10000002u)
#define UART_LINE      BYTE(0x10000003u)
#define UART_STATUS    BYTE(0x10000005u)
#define IRQS_RX        0x01u
#define FIFO_ON        0x07u /* on, and both emptied */
#define LINE_8N1       0x03u
#define STATUS_RX      0x01u
#define STATUS_RX_LOST 0x02u
#define STATUS_TX_ROOM 0x20u

#define PLIC_PRIORITY  ((volatile uint32_t *)0x0C000000u)
#define PLIC_ENABLE    REGISTER(0x0C002000u) /* sources 0 to 31, machine mode of hart 0 */
#define PLIC_THRESHOLD REGISTER(0x0C200000u)
#define PLIC_CLAIM     REGISTER(0x0C200004u)
#define IRQ_UART       10

#define MTIME_LOW  REGISTER(0x0200BFF8u)
#define MTIME_HIGH REGISTER(0x0200BFFCu)
#define MTIME_HZ   10000000u

#define EXIT_DEVICE REGISTER(0x00100000u)
#define EXIT_RESET  0x7777u

#define MCAUSE_EXTERNAL 0x8000000Bu
#define MIE_EXTERNAL    (1u << 11)

#define CSR_WRITE(name, value) __asm volatile("csrw " #name ", %0" ::"r"(value) : "memory")
#define CSR_READ(name)                                                                                       \
    __extension__({                                                                                          \
        uint32_t csr_value;                                                                                  \
        __asm volatile("csrr %0, " #name : "=r"(csr_value));                                                 \
        csr_value;                                                                                           \
    })

/* Read and execute only, locked for machine mode too, up to pmpaddr1 from pmpaddr0. */
#define PMP_READ_ONLY (0x8Du << 8)

extern uint32_t ft_stack_low[], ft_stack_high[], ft_flash_start[], ft_flash_end[];

void ft_entry(void);

void __attribute__((naked, section(".vectors"))) ft_entry(void) {
    __asm volatile("la sp, ft_stack_high\n"
                   "li t0, 0x2000\n" /* mstatus.FS: floating point on */
                   "csrs mstatus, t0\n"
                   "fscsr x0\n"
                   "j ft_prepare\n");
}

static void __attribute__((noreturn, used)) report_overflow(uint32_t stack) {
    ft_fault("stack overflow", stack);
}

static void __attribute__((interrupt("machine"), used)) trap(void) {
    static const char *const names[] = {"misaligned fetch", "fetch fault",     "illegal instruction",
                                        "breakpoint",       "misaligned load", "load fault",
                                        "misaligned store", "store fault"};
    const uint32_t cause = CSR_READ(mcause);
    if (cause != MCAUSE_EXTERNAL) {
        ft_fault(cause < sizeof names / sizeof names[0] ? names[cause] : "unexpected trap", CSR_READ(mepc));
    }
    const uint32_t source = PLIC_CLAIM;
    if (source == IRQ_UART) {
        ft_hw_receive();
    }
    PLIC_CLAIM = source;
}

/* A trap on an overflown stack cannot push its registers there: it goes on with a fresh one. */
static void __attribute__((naked, aligned(4))) trap_entry(void) {
    __asm volatile("csrw mscratch, t0\n"
                   "la t0, ft_stack_low\n"
                   "bltu sp, t0, 1f\n"
                   "csrr t0, mscratch\n"
                   "j trap\n"
                   "1: mv a0, sp\n"
                   "la sp, ft_stack_high\n"
                   "j report_overflow\n");
}

/* The start of RAM plays the flash: read-only, so that an overflowing stack faults there. */
static void __attribute__((noreturn, used)) ft_prepare(void) {
    CSR_WRITE(mtvec, (uint32_t)trap_entry);
    CSR_WRITE(pmpaddr0, (uint32_t)ft_flash_start >> 2);
    CSR_WRITE(pmpaddr1, (uint32_t)ft_flash_end >> 2);
    CSR_WRITE(pmpcfg0, PMP_READ_ONLY);
    ft_start();
}

void ft_cpu_interrupts_off(void) {
    __asm volatile("csrci mstatus, 8" ::: "memory");
}

void ft_cpu_interrupts_on(void) {
    __asm volatile("csrsi mstatus, 8" ::: "memory");
}

void ft_cpu_wait(void) {
    __asm volatile("wfi" ::: "memory");
}

void ft_hw_init(void) {
    UART_LINE = LINE_8N1;
    UART_FIFO = FIFO_ON;
    (void)UART_DATA; /* a byte from before; the emulator takes the read as a sign to look for more */
    PLIC_PRIORITY[IRQ_UART] = 1;
    PLIC_THRESHOLD = 0;
    PLIC_ENABLE = 1u << IRQ_UART;
    CSR_WRITE(mie, MIE_EXTERNAL);
    UART_IRQS = IRQS_RX; /* last: QEMU's PLIC passes on no request that came before its line was enabled */
}

void ft_hw_send(uint8_t byte) {
    while (!(UART_STATUS & STATUS_TX_ROOM)) {
    }
    UART_DATA = byte;
}

void ft_hw_receive(void) {
    uint8_t status;
    UART_IRQS = IRQS_RX;
    while ((status = UART_STATUS) & STATUS_RX) {
        if (status & STATUS_RX_LOST) { /* cleared by the read of the status */
            ft_rx_lost();
        }
        if (ft_rx_full()) {
            UART_IRQS = 0;
            return;
        }
        ft_rx_put(UART_DATA);
    }
}

uint64_t ft_port_ticks(void) {
    uint32_t high, low;
    do {
        high = MTIME_HIGH;
        low = MTIME_LOW;
    } while (high != MTIME_HIGH);
    return (uint64_t)high << 32 | low;
}

uint32_t ft_port_ticks_hz(void) {
    return MTIME_HZ;
}

void ft_port_reset(void) {
    EXIT_DEVICE = EXIT_RESET;
    for (;;) {
    }
}
