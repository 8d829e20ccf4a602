#include <Arduino.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

Port Serial;

void Port::begin(unsigned long) {}

int Port::available() {
    int count = 0;
    return ioctl(0, FIONREAD, &count) == 0 ? count : 0;
}

int Port::read() {
    uint8_t byte;
    return ::read(0, &byte, 1) == 1 ? byte : -1;
}

size_t Port::write(const uint8_t *data, size_t count) {
    const ssize_t sent = ::write(1, data, count);
    return sent > 0 ? sent : 0;
}

unsigned long micros() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000ul + now.tv_nsec / 1000;
}

int main() {
    setup();
    for (;;) {
        loop();
    }
}
