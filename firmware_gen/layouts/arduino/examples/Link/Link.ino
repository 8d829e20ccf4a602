// The link on the port that the board is programmed over.
#include <fieldtune.h>

static void send(const uint8_t *data, size_t count) {
  Serial.write(data, count);
}

static uint64_t ticks() {  // micros() has 32 bits; called at least once in 71 minutes
  static uint32_t last, wraps;
  const uint32_t now = micros();
  wraps += now < last;
  last = now;
  return (uint64_t)wraps << 32 | now;
}

static uint32_t ticks_hz() {
  return 1000000;
}

// No function for a restart, for overruns for the stack or for sensors: they differ from core to core.
static const ft_link_port_t port = { send, ticks, ticks_hz, NULL, NULL, NULL, FT_LINK_WINDOW, NULL, NULL, NULL, NULL };

void setup() {
  // USB waits while nobody reads. A plain UART does not: where it is one, give it a buffer of FT_LINK_WINDOW
  // bytes (ESP32: Serial.setRxBufferSize) before it begins.
  Serial.begin(115200);
  ft_link_open(&ft_model, &port);
}

void loop() {
  uint8_t bytes[64];
  size_t count = 0;
  while (count < sizeof bytes && Serial.available() > 0) {
    bytes[count++] = (uint8_t)Serial.read();
  }
  ft_link_feed(bytes, count);
  ticks();
}
