/* From reset to main, without a C library. */
#ifndef FT_START_H
#define FT_START_H

/* Runs first, before any variable has its value: what the memories need to be used at all. Where nothing is
 * defined, nothing is needed. */
void ft_hw_memories(void);

/* Runs main with a painted stack and initialised memory; called by the core's reset code, once it has set the
 * stack pointer and switched the floating-point unit on. */
void ft_start(void) __attribute__((noreturn));

#endif
