/* The bare chip under pmsis: pulp-open as GVSOC plays it, a fabric controller and a cluster of eight cores
 * with a ninth that hands out the work. Addresses and registers are those of gvsoc's models
 * (pulp/chips/pulp_open, pulp/cluster, pulp/mchan). There is no operating system, and nothing interrupts.
 */
#ifndef FT_PULP_OPEN_H
#define FT_PULP_OPEN_H

#include <stdint.h>
#include "port_config.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define L1_START 0x10000000u
#define L1_END   (L1_START + FT_PORT_L1_BYTES)

#define WORKERS FT_PORT_CLUSTER_CORES
#define MASTER  8u

/* At the end of L1: what the cores tell each other. It takes of the master's stack. */
#define TEAM_BYTES 128u

/* --- cluster.c -------------------------------------------------------------------------------------- */

/* Where a core of the cluster begins. */
void pulp_open_core_entry(void);

/* --- uart.c ----------------------------------------------------------------------------------------- */

/* Hands over what the host has sent to whoever has asked for it (pi_uart_read_async). To be called now and
 * then, on the fabric controller. Returns how many bytes have come. */
uint32_t pulp_open_receive(void);

/* --- system.c --------------------------------------------------------------------------------------- */

/* Asks the simulator for service `number` (RISC-V's semihosting). */
uint32_t pulp_open_call(uint32_t number, const void *argument);

/* The fabric controller's cycles since it first asked. */
uint64_t pulp_open_cycles(void);

#endif
