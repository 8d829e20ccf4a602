/* Pins that tell an instrument what the board does: low while it works (docs/energy.md). A board has them
 * where its description has [marks]. */
#include "port.h"
#include "hardware.h"
#include "port_config.h"

#ifdef FT_PORT_MARK_WORK

/* The pin of each phase; in the place of FT_MARK_REST that of all work. */
static const uint8_t pins[] = {
    [FT_MARK_REST] = FT_PORT_MARK_WORK,
    [FT_MARK_FORWARD] = FT_PORT_MARK_FORWARD,
    [FT_MARK_BACKWARD] = FT_PORT_MARK_BACKWARD,
    [FT_MARK_UPDATE] = FT_PORT_MARK_UPDATE,
};

void ft_marks_init(void) {
    for (unsigned i = 0; i < sizeof pins; i++) {
        ft_hw_drive_pin(pins[i]);
    }
}

/* Of two phases never both are low, and none while the board is at rest. */
void ft_port_mark(ft_mark_t mark) {
    for (unsigned phase = FT_MARK_FORWARD; phase < sizeof pins; phase++) {
        if (phase != mark) {
            ft_hw_set_pin(pins[phase], true);
        }
    }
    ft_hw_set_pin(pins[FT_MARK_REST], mark == FT_MARK_REST);
    if (mark != FT_MARK_REST) {
        ft_hw_set_pin(pins[mark], false);
    }
}

#endif
