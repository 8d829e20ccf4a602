/* Between the port of GAP8 and GAP9 and what differs from chip to chip and from board to board: with port.h's
 * ft_port_stack and ft_port_reset, what chip.c and task.c bring.
 */
#ifndef FT_GAP_H
#define FT_GAP_H

/* Where a kit has no such word, its linker script places all static data in L2. */
#ifndef PI_L2
#define PI_L2
#endif

/* Runs first, in the main task. */
void ft_gap_task_init(void);

/* Voltage, clocks, and the pads of UART 0. */
void ft_gap_chip_init(void);

#endif
