/* GAP8 and GAP9 seen from their fabric controller, on pmsis, the vendor's calls: UART and time. Voltage,
 * clocks and pads are the chip's (chip.c). What the vendor's kit does not give is in task.c: stack and
 * restart.
 *
 * The UART's DMA tells only when a transfer is complete, not how much of it has come. So the link is read
 * byte by byte into a ring, a few transfers ahead, and goes on while the main program, or the cluster for it,
 * computes: pmsis runs the callbacks in a task of its own.
 */
#include "pmsis.h"
#include <string.h>
#include "gap.h"
#include "port.h"
#include "port_config.h"

#define UART     0    /* its pads: chip.c */
#define AHEAD    4u   /* transfers that wait for their byte */
#define OUTGOING 256u /* bytes */
#define IDLE_US  200  /* between two looks at the ring */
#define TICKS_HZ 1000000u

_Static_assert((FT_PORT_RX_RING & (FT_PORT_RX_RING - 1)) == 0, "the ring's size must be a power of two");

/* The DMA reaches L2 only. */
static PI_L2 uint8_t ring[FT_PORT_RX_RING];
static PI_L2 uint8_t outgoing[OUTGOING];

static struct pi_device uart;
static pi_task_t reads[AHEAD];

/* Bytes since start, modulo 2^32: asked for, come, and taken by the main program. `taken` is the main
 * program's, `received` the callback's; `asked` the callback's as long as a byte is asked for that has not
 * come, else the main program's. */
static uint32_t asked, received, taken;

static uint32_t last_us, wraps;

static uint32_t look(const uint32_t *count) {
    return __atomic_load_n(count, __ATOMIC_ACQUIRE);
}

static void show(uint32_t *count, uint32_t value) {
    __atomic_store_n(count, value, __ATOMIC_RELEASE);
}

static void take_byte(void *unused);

static void ask_for_byte(void) {
    const uint32_t index = look(&asked);
    show(&asked, index + 1); /* before the callback can run */
    pi_uart_read_async(&uart, &ring[index % FT_PORT_RX_RING], 1,
                       pi_task_callback(&reads[index % AHEAD], take_byte, NULL));
}

static int room(uint32_t index) {
    return index - look(&taken) < FT_PORT_RX_RING;
}

/* Runs when the oldest transfer is complete. It shows the byte last: from then on, if none is asked for, the
 * main program asks. */
static void take_byte(void *unused) {
    (void)unused;
    const uint32_t index = look(&received);
    while (look(&asked) - index <= AHEAD && room(look(&asked))) {
        ask_for_byte();
    }
    show(&received, index + 1);
}

static void open_uart(void) {
    struct pi_uart_conf conf;
    pi_uart_conf_init(&conf);
    conf.uart_id = UART;
    conf.baudrate_bps = FT_PORT_BAUD;
    conf.word_size = PI_UART_WORD_SIZE_8_BITS;
    conf.enable_rx = 1;
    conf.enable_tx = 1;
    pi_open_from_conf(&uart, &conf);
    if (pi_uart_open(&uart) != 0) {
        pmsis_exit(-1);
    }
}

void ft_port_init(void) {
    ft_gap_task_init();
    ft_gap_chip_init();
    open_uart();
    ask_for_byte();
}

size_t ft_port_read(uint8_t *data, size_t max) {
    const uint32_t there = look(&received);
    const int stalled = look(&asked) == there;
    const uint32_t waiting = there - taken;
    const uint32_t count = waiting < max ? waiting : (uint32_t)max;
    for (uint32_t i = 0; i < count; i++) {
        data[i] = ring[(taken + i) % FT_PORT_RX_RING];
    }
    show(&taken, taken + count);
    if (stalled && count > 0) {
        ask_for_byte(); /* its callback asks for more */
    }
    return count;
}

void ft_port_write(const uint8_t *data, size_t count) {
    while (count > 0) {
        const uint32_t part = count < OUTGOING ? (uint32_t)count : OUTGOING;
        memcpy(outgoing, data, part);
        pi_uart_write(&uart, outgoing, part);
        data += part;
        count -= part;
    }
}

void ft_port_idle(void) {
    if (look(&received) == taken) {
        pi_time_wait_us(IDLE_US);
    }
}

/* pmsis counts in 32 bits, which wrap after 71 minutes; a wrap in which nobody asks is missed. */
uint64_t ft_port_ticks(void) {
    const uint32_t now = (uint32_t)pi_time_get_us();
    wraps += now < last_us;
    last_us = now;
    return (uint64_t)wraps << 32 | now;
}

uint32_t ft_port_ticks_hz(void) {
    return TICKS_HZ;
}

uint32_t ft_port_overruns(void) {
    return 0;
} /* pmsis does not tell; the link's checksums do */
