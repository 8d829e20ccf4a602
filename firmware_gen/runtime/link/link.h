/* The link, as a program sees it: bytes that have arrived go in, answers come out of `write`.
 *
 *     ft_link_open(&ft_model, &port);
 *     for (;;) {
 *         ft_link_feed(data, count);              // whatever has arrived
 *     }
 *
 * Which protocol is spoken is decided when the project is generated: that of docs/protocol.md (link.c) or the
 * serial API of MLPerf Tiny (../mlperf/mlperf.c). There is one link in a program.
 */
#ifndef FT_LINK_H
#define FT_LINK_H

#include <stddef.h>
#include <stdint.h>
#include "sensors.h"
#include "../model_api.h"
#include "port.h"

/* What the link needs of a board; port.h says what each function promises. `write` is required; without one
 * of the others (NULL) the host is told that the number is not known, or that the board cannot be started
 * anew. */
typedef struct {
    void (*write)(const uint8_t *data, size_t count);
    uint64_t (*ticks)(void);
    uint32_t (*ticks_hz)(void);
    uint32_t (*overruns)(void);
    void (*stack)(const uint32_t **low, const uint32_t **high);
    void (*reset)(void);
    uint16_t window;                  /* bytes that may arrive while nothing is fed and none is lost */
    const ft_flash_t *(*flash)(void); /* NULL: what is learned is gone with the power */
    int (*camera)(ft_picture_t *picture);
    int (*tof)(ft_tof_t *tof);
    void (*tof_power)(int on); /* NULL: it cannot be switched */
} ft_link_port_t;

/* Resets the model, or takes the newest set that the flash holds for it. `model` and `port` must outlive the
 * link. */
void ft_link_open(const ft_model_t *model, const ft_link_port_t *port);

/* Takes all `count` bytes and answers what is complete; infers or trains when they say so, and then takes as
 * long as that. Not from an interrupt. */
void ft_link_feed(const uint8_t *data, size_t count);

/* Goes on with what the board was asked to do on its own, for as long as a training step at most. Returns 0
 * when there is nothing to do before bytes arrive or a sensor has something new. */
int ft_link_work(void);

/* Sends a line of text to the host's log; MLPerf's API has none, there it does nothing. */
void ft_link_log(const char *text);

#endif
