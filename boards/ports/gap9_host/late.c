/* Copies that are as late as they may be: what one brings is there when it has been waited for, and not
 * before.
 *
 * Until then the target holds SHIM_PATTERN, and the address sanitizer guards it; the source is compared, when
 * the copy is waited for, with what it was. For the thread sanitizer a thread of its own copies at some
 * time, which nothing orders but the copy's begin and its wait: whoever touches the target meanwhile, or
 * changes the source, races.
 */
#define _GNU_SOURCE
#include "pmsis.h"
#include <stdlib.h>
#include <string.h>
#include "shim.h"

#define LATE_US 50

static uint8_t *target(const late_t *copy, uint32_t line) {
    return copy->to + line * copy->to_stride;
}

static const uint8_t *source(const late_t *copy, uint32_t line) {
    return copy->from + line * copy->from_stride;
}

#if SHIM_THREAD

static void *run(void *given) {
    late_t *const copy = given;
    for (;;) {
        sem_wait(&copy->begin);
        pi_time_wait_us(LATE_US);
        for (uint32_t line = 0; line < copy->lines; line++) {
            memcpy(target(copy, line), source(copy, line), copy->length);
        }
        sem_post(&copy->end);
    }
    return NULL;
}

void shim_late_begin(late_t *copy) {
    if (copy->thread == 0) {
        sem_init(&copy->begin, 0, 0);
        sem_init(&copy->end, 0, 0);
        if (pthread_create(&copy->thread, NULL, run, copy) != 0) {
            shim_die("copy");
        }
    }
    sem_post(&copy->begin);
}

void shim_late_end(late_t *copy) {
    while (sem_wait(&copy->end) != 0) {
    }
}

#else

static uint32_t address_of(const void *pointer) {
    return (uint32_t)(uintptr_t)pointer;
}

void shim_late_begin(late_t *copy) {
    copy->before = malloc(copy->lines * copy->length);
    if (copy->before == NULL) {
        shim_die("copy");
    }
    for (uint32_t line = 0; line < copy->lines; line++) {
        memcpy(copy->before + line * copy->length, source(copy, line), copy->length);
    }
    for (uint32_t line = 0; line < copy->lines; line++) {
        memset(target(copy, line), SHIM_PATTERN, copy->length);
        shim_poison(address_of(target(copy, line)), copy->length);
    }
}

static int is_pattern(const uint8_t *bytes, uint32_t size) {
    while (size > 0 && *bytes == SHIM_PATTERN) {
        bytes++;
        size--;
    }
    return size == 0;
}

void shim_late_end(late_t *copy) {
    for (uint32_t line = 0; line < copy->lines; line++) {
        const uint8_t *const before = copy->before + line * copy->length;
        uint8_t *const to = target(copy, line);
        shim_unpoison(address_of(to), copy->length);
        if (memcmp(before, source(copy, line), copy->length) != 0) {
            shim_fault("the source of %s was changed before it was waited for", copy->what);
        }
        if (!is_pattern(to, copy->length)) {
            shim_fault("the target of %s was written before it was waited for", copy->what);
        }
        memcpy(to, before, copy->length);
    }
    free(copy->before);
}

#endif
