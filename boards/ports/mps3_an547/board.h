/* The Arm MPS3 FPGA image AN547 (QEMU hw/arm/mps2-tz.c and armsse.c). */
#ifndef FT_BOARD_H
#define FT_BOARD_H

#define FT_UART_BASE  0x49303000u
#define FT_UART_IRQ   33 /* UART 0, receive */
#define FT_TIMER_BASE 0x58100000u

#endif
