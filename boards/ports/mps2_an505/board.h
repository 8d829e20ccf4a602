/* The Arm MPS2 FPGA image AN505 (QEMU hw/arm/mps2-tz.c and armsse.c). The core starts in the Secure state and
 * stays there: all addresses are the Secure aliases. */
#ifndef FT_BOARD_H
#define FT_BOARD_H

#define FT_UART_BASE  0x50200000u
#define FT_UART_IRQ   32 /* UART 0, receive: the first behind the subsystem's own */
#define FT_TIMER_BASE 0x50000000u
#define FT_TIMER_IRQ  3

#endif
