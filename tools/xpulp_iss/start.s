# Where a program for xpulp_iss begins: the stack pointer is set, memory is zero but for what was loaded.
    .section .text.start, "ax"
    .globl _start
_start:
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    call main
    li a7, 93
    ecall
