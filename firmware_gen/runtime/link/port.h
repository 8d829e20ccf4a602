/* What a board gives to the firmware: bytes, time, a painted stack and a restart.
 *
 * A port implements these nine functions, ft_port_flash where its board's description has a [store],
 * ft_port_mark where it has [marks], and ft_port_start where its kit asks for it. All are called from the
 * main program only, never from an interrupt, and ft_port_init comes before all others but ft_port_start.
 */
#ifndef FT_PORT_H
#define FT_PORT_H

#include <stddef.h>
#include <stdint.h>

/* The stack is filled with this word at reset; the words that still hold it were never used. */
#define FT_STACK_PAINT 0xC0DEC0DEu

/* Clocks, UART, timer and interrupts. */
void ft_port_init(void);

/* Starts the system of a kit that runs main before it, with `run` as its main task; returns only when it
 * cannot. Of ports whose port_config.h defines FT_PORT_START; the others run from main. */
int ft_port_start(void (*run)(void));

/* Copies at most `max` bytes that have arrived to `data` and returns how many; 0 when there are none. */
size_t ft_port_read(uint8_t *data, size_t max);

/* Sends `count` bytes; returns when all are handed over to the transmitter, so `data` may be reused. */
void ft_port_write(const uint8_t *data, size_t count);

/* Sleeps until a byte may have arrived. May return early; never sleeps while a byte waits to be read. */
void ft_port_idle(void);

/* Free-running counter; does not wrap in practice. */
uint64_t ft_port_ticks(void);

/* Ticks in a second; 0 when unknown. */
uint32_t ft_port_ticks_hz(void);

/* How often the receiver lost bytes since start: at least one byte each time. */
uint32_t ft_port_overruns(void);

/* The painted stack: words in [*low, *high). It grows down from *high. */
void ft_port_stack(const uint32_t **low, const uint32_t **high);

/* Starts the firmware anew, as after power-on: nothing that was in RAM is used again. Does not return. */
void ft_port_reset(void);

/* What the board does: all but the first is work. */
typedef enum {
    FT_MARK_REST,
    FT_MARK_FORWARD,  /* inference, of a training step too */
    FT_MARK_BACKWARD, /* losses and gradients */
    FT_MARK_UPDATE    /* whatever changes weights or collects their gradients */
} ft_mark_t;

/* Shows it on the board's pins, until the next call. The model calls it before each of its layers, whether
 * the phase has changed or not. */
void ft_port_mark(ft_mark_t mark);

/* Flash pages that keep what is learned: see store.h. Offsets count from the start of the area. */
typedef struct {
    uint32_t bytes;        /* two slots, each a whole number of sectors */
    uint32_t sector_bytes; /* what an erase sets to 0xFF */
    uint32_t unit_bytes;   /* what is programmed and read at once: 1, 2, 4, 8, 16 or 32 */
    /* Erases the sector that begins at `offset`; returns 0 when it could not. */
    int (*erase)(uint32_t offset);
    /* Programs the erased unit at `offset`, a multiple of unit_bytes; returns 0 when it could not. `unit` is
     * aligned to 4 bytes and never in flash. */
    int (*program)(uint32_t offset, const uint8_t *unit);
    /* Reads the unit at `offset` as it is now; `unit` is aligned to 4 bytes. Returns 0 when the part reports
     * that it cannot tell what it holds, as of one whose programming was cut. */
    int (*read)(uint32_t offset, uint8_t *unit);
} ft_flash_t;

/* The board's; never NULL. What it points to stays. */
const ft_flash_t *ft_port_flash(void);

#endif
