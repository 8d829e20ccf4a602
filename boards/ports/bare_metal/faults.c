/* What happens when the firmware faults. */
#include "hardware.h"
#include "port.h"

static void send_text(const char *text) {
    for (; *text != '\0'; text++) {
        ft_hw_send((uint8_t)*text);
    }
}

void ft_fault(const char *what, uint32_t address) {
    ft_hw_send(0); /* zero bytes delimit frames: the host takes what is between them for text */
    send_text("fault: ");
    send_text(what);
    send_text(" at 0x");
    for (int shift = 28; shift >= 0; shift -= 4) {
        ft_hw_send((uint8_t) "0123456789abcdef"[(address >> shift) & 0xF]);
    }
    ft_hw_send('\n');
    ft_hw_send(0);
    ft_port_reset();
    for (;;) {
    }
}
