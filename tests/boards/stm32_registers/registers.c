/* The registers of an STM32 as far as a port's set-up and its UART driver see them, and pins as far as any
 * port drives them. Commands come on stdin,
 * one a line, numbers in hexadecimal: set ADDRESS VALUE                 the value after reset ready ADDRESS
 * MASK READY BITS     BITS of READY are set while all of MASK are, and cleared otherwise follow ADDRESS FROM
 * TO MASK       a status field follows the field that asks for it uart ADDRESS                      where the
 * UART is start                             runs the port's set-up receive BYTE                      a byte
 * arrives, and the interrupt runs if it is asked for full YES                          the ring is full, or
 * not send BYTE                         the port sends get ADDRESS                       prints the value
 *   seen                              prints the bytes put into the ring, those lost, those sent
 *   pins ADDRESS SHIFT COUNT FIRST HIGH   ones written to COUNT bits from SHIFT on make pins from FIRST on
 *                                     high, or not
 *   mark PHASE                        the port is told what the board does
 *   infer, step                       the model runs, where one is linked
 *   edges                             prints how pins have changed since it was last asked, decimal
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "board.h"
#include "caches.h"
#include "cortex_m.h"
#include "hardware.h"
#include "model_api.h"
#include "port.h"

#define MOST       256
#define MOST_EDGES 1000
#define MOST_TURNS 100000 /* of accesses: a port that waits for what never comes */

enum { CR1 = 0x00, ISR = 0x1C, ICR = 0x20, RDR = 0x24, TDR = 0x28 };
enum { ORE = 1 << 3, RXNE = 1 << 5, TXE = 1 << 7, RXNEIE = 1 << 5 };

static struct { uint32_t address, value; } registers[MOST];
static struct { uint32_t address, mask, ready, bits; } readies[MOST];
static struct { uint32_t address, from, to, mask; } follows[MOST];
static struct { uint32_t address, shift, count, first, high; } outputs[MOST];
static struct {
    uint32_t pin;
    bool high;
} edges[MOST_EDGES];
static bool levels[MOST];
static int register_count, ready_count, follow_count, output_count, edge_count;
static uint32_t uart, turns;
static bool ring_full, sending, interrupt_on;
static uint8_t in_ring[MOST], sent[MOST];
static int in_ring_count, sent_count, lost;

static volatile uint32_t *slot(uint32_t address) {
    for (int i = 0; i < register_count; i++) {
        if (registers[i].address == address) {
            return &registers[i].value;
        }
    }
    if (register_count == MOST) {
        exit(3);
    }
    registers[register_count].address = address;
    return &registers[register_count++].value;
}

static void set_level(uint32_t pin, bool high) {
    if (levels[pin] == high) {
        return;
    }
    if (edge_count == MOST_EDGES) {
        exit(3);
    }
    levels[pin] = high;
    edges[edge_count].pin = pin;
    edges[edge_count++].high = high;
}

/* What the hardware does with what was written before the access that follows. */
static void settle(void) {
    for (int i = 0; i < ready_count; i++) {
        volatile uint32_t *ready = slot(readies[i].ready);
        const bool on = (*slot(readies[i].address) & readies[i].mask) == readies[i].mask;
        *ready = on ? *ready | readies[i].bits : *ready & ~readies[i].bits;
    }
    for (int i = 0; i < follow_count; i++) {
        volatile uint32_t *value = slot(follows[i].address);
        const uint32_t asked = *value >> follows[i].from & follows[i].mask;
        *value = (*value & ~(follows[i].mask << follows[i].to)) | asked << follows[i].to;
    }
    if (*slot(uart + ICR) & ORE) {
        *slot(uart + ISR) &= ~(uint32_t)ORE;
        *slot(uart + ICR) = 0;
    }
    for (int i = 0; i < output_count; i++) {
        const uint32_t written = *slot(outputs[i].address) >> outputs[i].shift;
        for (uint32_t bit = 0; bit < outputs[i].count; bit++) {
            if (written >> bit & 1u) {
                set_level(outputs[i].first + bit, outputs[i].high);
            }
        }
    }
    for (int i = 0; i < output_count; i++) {
        *slot(outputs[i].address) = 0;
    }
    if (sending) {
        sent[sent_count++] = (uint8_t)*slot(uart + TDR);
        sending = false;
    }
}

volatile uint32_t *simulated_register(uint32_t address) {
    if (++turns > MOST_TURNS) {
        fprintf(stderr, "waits for ever at %08x\n", (unsigned)address);
        exit(2);
    }
    settle();
    sending = address == uart + TDR;
    if (address == uart + RDR) {
        *slot(uart + ISR) &= ~(uint32_t)RXNE;
    }
    return slot(address);
}

void ft_nvic_enable(unsigned interrupt) {
    interrupt_on = interrupt == FT_UART_IRQ;
}

void ft_timer_init(void) {}

void ft_caches_on(void) {}

void ft_timer_handler(void) {}

/* What not every port has. */
void ft_hw_memories(void) __attribute__((weak));
void ft_marks_init(void) __attribute__((weak));
void ft_port_mark(ft_mark_t mark) __attribute__((weak));
extern const ft_model_t ft_model __attribute__((weak));

bool ft_rx_full(void) {
    return ring_full;
}

void ft_rx_put(uint8_t byte) {
    in_ring[in_ring_count++] = byte;
}

void ft_rx_lost(void) {
    lost++;
}

static void interrupt(void) {
    for (int most = 100; interrupt_on && (*slot(uart + CR1) & RXNEIE) && (*slot(uart + ISR) & (RXNE | ORE));
         most--) {
        if (most == 0) {
            fprintf(stderr, "interrupts for ever\n");
            exit(2);
        }
        ft_uart_handler();
        settle();
    }
}

static void receive(uint8_t byte) {
    volatile uint32_t *status = slot(uart + ISR);
    if (*status & RXNE) {
        *status |= ORE;
    } else {
        *slot(uart + RDR) = byte;
        *status |= RXNE;
    }
    interrupt();
}

static void start(void) {
    if (ft_hw_memories) {
        ft_hw_memories();
    }
    ft_hw_init();
    if (ft_marks_init) { /* as serial.c does */
        ft_marks_init();
    }
    settle();
    *slot(uart + ISR) |= TXE;
}

static void print_seen(const char *name, const uint8_t *bytes, int count) {
    printf("%s ", name);
    for (int i = 0; i < count; i++) {
        printf("%02x", bytes[i]);
    }
    printf("\n");
}

static void print_edges(void) {
    settle();
    printf("edges");
    for (int i = 0; i < edge_count; i++) {
        printf(" %c%u", edges[i].high ? '+' : '-', (unsigned)edges[i].pin);
    }
    printf("\n");
    edge_count = 0;
}

static void run_step(void) {
    const ft_hyper_t hyper = {.lr = 1e-3f, .accumulate = 1};
    float losses[8] = {0};
    ft_model.step(0, UINT32_MAX, &hyper, losses);
}

int main(void) {
    char line[200], word[20];
    unsigned a[5];
    while (fgets(line, sizeof line, stdin)) {
        turns = 0;
        sscanf(line, "%19s %x %x %x %x %x", word, &a[0], &a[1], &a[2], &a[3], &a[4]);
        if (!strcmp(word, "set")) {
            *slot(a[0]) = a[1];
        } else if (!strcmp(word, "ready")) {
            memcpy(&readies[ready_count++], a, sizeof a);
        } else if (!strcmp(word, "follow")) {
            memcpy(&follows[follow_count++], a, sizeof a);
        } else if (!strcmp(word, "uart")) {
            uart = a[0];
        } else if (!strcmp(word, "start")) {
            start();
        } else if (!strcmp(word, "receive")) {
            receive((uint8_t)a[0]);
        } else if (!strcmp(word, "full")) {
            ring_full = a[0] != 0;
            ft_hw_receive(); /* as serial.c does when there is room again */
            settle();
        } else if (!strcmp(word, "send")) {
            ft_hw_send((uint8_t)a[0]);
            settle();
        } else if (!strcmp(word, "get")) {
            printf("%08x %08x\n", a[0], (unsigned)*slot(a[0]));
        } else if (!strcmp(word, "seen")) {
            print_seen("ring", in_ring, in_ring_count);
            print_seen("sent", sent, sent_count);
            printf("lost %d\n", lost);
        } else if (!strcmp(word, "pins")) {
            memcpy(&outputs[output_count++], a, sizeof a);
        } else if (!strcmp(word, "mark")) {
            ft_port_mark((ft_mark_t)a[0]);
        } else if (!strcmp(word, "infer")) {
            ft_model.infer(0, UINT32_MAX);
        } else if (!strcmp(word, "step")) {
            run_step();
        } else if (!strcmp(word, "edges")) {
            print_edges();
        }
    }
    return 0;
}
