/* Between the parts of a bare-metal port: the board's UART and timer, the core, and the code that all share.
 */
#ifndef FT_HARDWARE_H
#define FT_HARDWARE_H

#include <stdbool.h>
#include <stdint.h>
#include "start.h"

/* --- the board's part ------------------------------------------------------------------------------- */

/* Clocks, pins, UART and timer; the receive interrupt is on and its handler calls ft_hw_receive. */
void ft_hw_init(void);

/* Sends one byte as soon as the transmitter has room. Works with interrupts off, as in the fault handler. */
void ft_hw_send(uint8_t byte);

/* Moves what the UART has received to ft_rx_put, and switches the receive interrupt off when the ring is
 * full, on otherwise. Called with interrupts off. */
void ft_hw_receive(void);

/* Only of boards with [marks]: makes a pin an output, high from the first moment; sets its level. Pins are
 * numbered through all GPIO ports (boards/board.py, pin_number). */
void ft_hw_drive_pin(uint32_t pin);
void ft_hw_set_pin(uint32_t pin, bool high);

/* --- the core's part -------------------------------------------------------------------------------- */

void ft_cpu_interrupts_off(void);
void ft_cpu_interrupts_on(void);

/* Sleeps until an interrupt pends; called with interrupts off, so that none is missed just before the sleep.
 */
void ft_cpu_wait(void);

/* --- shared: serial.c, faults.c ---------------------------------------------------------------------- */

bool ft_rx_full(void);        /* true: ft_hw_receive stops here and is called again when there is room */
void ft_rx_put(uint8_t byte); /* only when the ring is not full */
void ft_rx_lost(void);        /* the hardware reports an overrun */

/* marks.c, where the board has [marks]. */
void ft_marks_init(void);

/* Reports a fault as a line of text, then starts anew: the host sees the text and a board that was reset. */
void ft_fault(const char *what, uint32_t address) __attribute__((noreturn));

#endif
