/* Clocks, time, counters and the end. */
#define _GNU_SOURCE
#include "pmsis.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "shim.h"

static uint32_t frequencies[3];
static uint32_t counted, since;
static int counting;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void pi_open_from_conf(struct pi_device *device, void *conf) {
    device->config = conf;
}

int32_t pi_freq_set(pi_freq_domain_e domain, uint32_t hz) {
    frequencies[domain] = hz;
    return 0;
}

uint32_t pi_freq_get(pi_freq_domain_e domain) {
    return frequencies[domain];
}

int pi_pmu_voltage_set(pi_pmu_domain_e domain, uint32_t millivolt) {
    (void)domain;
    (void)millivolt;
    return 0;
}

void pi_pad_set_function(pi_pad_e pad, pi_pad_func_e function) {
    (void)pad;
    (void)function;
}

unsigned int pi_time_get_us(void) {
    return (unsigned int)(now_ns() / 1000);
}

void pi_time_wait_us(int us) {
    const struct timespec pause = {us / 1000000, us % 1000000 * 1000L};
    nanosleep(&pause, NULL);
}

int pmsis_kickoff(void *task) {
    ((void (*)(void *))task)(NULL);
    return 0;
}

void pmsis_exit(int status) {
    if (status != 0) {
        fprintf(stderr, "pmsis: %s: ends the program with %d\n", shim_who(shim_core()), status);
    }
    exit(status);
}

void pi_perf_conf(uint32_t events) {
    (void)events;
}

void pi_perf_reset(void) {
    counted = 0;
    since = (uint32_t)now_ns();
}

void pi_perf_start(void) {
    since = (uint32_t)now_ns();
    counting = 1;
}

void pi_perf_stop(void) {
    counted += counting ? (uint32_t)now_ns() - since : 0;
    counting = 0;
}

uint32_t pi_perf_read(int event) {
    if (event != PI_PERF_CYCLES && event != PI_PERF_ACTIVE_CYCLES) {
        return 0;
    }
    return counted + (counting ? (uint32_t)now_ns() - since : 0);
}
