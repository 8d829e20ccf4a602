/* The least firmware around a component: its link on standard input and output. */
#include <fieldtune.h>
#include <unistd.h>

static void send(const uint8_t *data, size_t count) {
    while (count > 0) {
        const ssize_t sent = write(1, data, count);
        if (sent <= 0) {
            _exit(1);
        }
        data += sent;
        count -= (size_t)sent;
    }
}

static const ft_link_port_t port = {.write = send, .window = FT_LINK_WINDOW};

int main(void) {
    uint8_t bytes[100];
    ssize_t count;
    ft_link_open(&ft_model, &port);
    while ((count = read(0, bytes, sizeof bytes)) > 0) {
        ft_link_feed(bytes, (size_t)count);
    }
    return 0;
}
