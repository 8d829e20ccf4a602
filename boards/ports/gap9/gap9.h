/* Between GAP9's port and its board: with port.h's ft_port_stack and ft_port_reset, what task.c brings. */
#ifndef FT_GAP9_H
#define FT_GAP9_H

/* Runs first, in the main task. */
void ft_gap9_task_init(void);

#endif
