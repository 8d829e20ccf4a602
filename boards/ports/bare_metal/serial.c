/* The port's serial functions on top of a ring that the receive interrupt fills.
 *
 * When the ring is full the interrupt is switched off and the bytes stay in the UART: where there is flow
 * control (every emulator, USB) nothing is lost, and elsewhere the UART's own overrun flag says so.
 */
#include "port.h"
#include "hardware.h"
#include "port_config.h"

_Static_assert((FT_PORT_RX_RING & (FT_PORT_RX_RING - 1)) == 0, "the ring's size must be a power of two");

static uint8_t ring[FT_PORT_RX_RING];
static volatile uint32_t received; /* bytes put and taken since start, modulo 2^32; */
static volatile uint32_t taken;    /* the interrupt writes the one, the main program the other */
static volatile uint32_t overruns;
static volatile bool stopped; /* the interrupt found the ring full and is off */

bool ft_rx_full(void) {
    if (received - taken < FT_PORT_RX_RING) {
        return false;
    }
    stopped = true;
    return true;
}

void ft_rx_put(uint8_t byte) {
    ring[received % FT_PORT_RX_RING] = byte;
    received = received + 1;
}

void ft_rx_lost(void) {
    overruns = overruns + 1;
}

void ft_port_init(void) {
    ft_hw_init();
#ifdef FT_PORT_MARK_WORK
    ft_marks_init();
#endif
    ft_cpu_interrupts_on();
}

size_t ft_port_read(uint8_t *data, size_t max) {
    const uint32_t waiting = received - taken;
    const uint32_t count = waiting < max ? waiting : (uint32_t)max;
    for (uint32_t i = 0; i < count; i++) {
        data[i] = ring[(taken + i) % FT_PORT_RX_RING];
    }
    taken = taken + count;
    if (stopped && count > 0) {
        ft_cpu_interrupts_off();
        stopped = false;
        ft_hw_receive();
        ft_cpu_interrupts_on();
    }
    return count;
}

void ft_port_write(const uint8_t *data, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ft_hw_send(data[i]);
    }
}

void ft_port_idle(void) {
    ft_cpu_interrupts_off();
    if (received == taken) {
        ft_cpu_wait();
    }
    ft_cpu_interrupts_on();
}

uint32_t ft_port_overruns(void) {
    return overruns;
}
