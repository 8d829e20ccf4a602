/* The Arm MPS2 FPGA images AN385, AN386 and AN500, which share a memory map (QEMU hw/arm/mps2.c). */
#ifndef FT_BOARD_H
#define FT_BOARD_H

#define FT_UART_BASE  0x40004000u
#define FT_UART_IRQ   0 /* UART 0, receive */
#define FT_TIMER_BASE 0x40000000u
#define FT_TIMER_IRQ  8

#endif
