/* The registers of an Armv7-M or Armv8-M core that the ports use (Armv7-M Architecture Reference Manual, B3;
 * Armv8-M, D1.2). */
#ifndef FT_CORTEX_M_H
#define FT_CORTEX_M_H

#include <stdint.h>

#define FT_REGISTER(address) (*(volatile uint32_t *)(address))

#define SYSTICK_CTRL  FT_REGISTER(0xE000E010u)
#define SYSTICK_LOAD  FT_REGISTER(0xE000E014u)
#define SYSTICK_VALUE FT_REGISTER(0xE000E018u)
#define NVIC_ENABLE   ((volatile uint32_t *)0xE000E100u)
#define NVIC_DISABLE  ((volatile uint32_t *)0xE000E180u)
#define SCB_ICSR      FT_REGISTER(0xE000ED04u)
#define SCB_VTOR      FT_REGISTER(0xE000ED08u) /* not in every Armv6-M core */
#define SCB_AIRCR     FT_REGISTER(0xE000ED0Cu)
#define SCB_SHCSR     FT_REGISTER(0xE000ED24u)
#define SCB_CPACR     FT_REGISTER(0xE000ED88u)
#define MPU_CTRL      FT_REGISTER(0xE000ED94u)
#define MPU_NUMBER    FT_REGISTER(0xE000ED98u)
#define MPU_BASE      FT_REGISTER(0xE000ED9Cu)
#define MPU_ATTRIBUTE FT_REGISTER(0xE000EDA0u) /* Armv7-M */
#define MPU_LIMIT     FT_REGISTER(0xE000EDA0u) /* Armv8-M, the same place */

typedef void (*ft_handler_t)(void);

static inline void ft_nvic_enable(unsigned interrupt) {
    NVIC_ENABLE[interrupt / 32] = 1u << (interrupt % 32);
}

static inline void ft_nvic_disable(unsigned interrupt) {
    NVIC_DISABLE[interrupt / 32] = 1u << (interrupt % 32);
}

/* Waits until what was written has arrived. */
static inline void ft_barrier(void) {
    __asm volatile("dsb" ::: "memory");
}

/* The vectors after the sixteen of the core; each board's part places its own in section .interrupts. */
#define FT_INTERRUPTS __attribute__((used, section(".interrupts"))) const ft_handler_t

/* Reset: the first code to run. */
void ft_entry(void);

/* SysTick's and the NMI's handlers: where no driver brings them, they are the fault handler. */
void ft_systick_handler(void);
void ft_nmi_handler(void);

/* --- drivers ---------------------------------------------------------------------------------------- */

/* A port has one driver of a UART and one of a timer, each a folder beside this one. They take addresses and
 * interrupts from the board's "board.h": FT_UART_BASE, FT_UART_IRQ; FT_TIMER_BASE, and FT_TIMER_IRQ where the
 * timer has one. The board's ft_hw_init calls both; its interrupt table names the handlers. A UART driver
 * brings ft_hw_send and ft_hw_receive (hardware.h), a timer driver ft_port_ticks and ft_port_ticks_hz
 * (port.h). */
void ft_uart_init(void);
void ft_uart_handler(void);
void ft_timer_init(void);
void ft_timer_handler(void); /* of a timer that interrupts through the NVIC */

#endif
