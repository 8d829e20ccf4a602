#include "link.h"
#include "firmware.h"

static ft_firmware_t firmware;

void ft_link_open(const ft_model_t *model, const ft_link_port_t *port) {
    ft_firmware_init(&firmware, model, port);
}

void ft_link_feed(const uint8_t *data, size_t count) {
    while (count > 0) {
        const size_t taken = ft_firmware_feed(&firmware, data, count);
        ft_firmware_poll(&firmware);
        data += taken;
        count -= taken;
    }
}

int ft_link_work(void) {
    return ft_firmware_work(&firmware);
}

void ft_link_log(const char *text) {
    ft_firmware_log(&firmware, text);
}
