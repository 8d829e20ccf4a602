/* What ends the program when the chip would do something undefined. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "pmsis.h"
#include "shim.h"

#define FAULT 70

const char *shim_who(int core) {
    static const char *const cores[] = {"core 0", "core 1", "core 2", "core 3",
                                        "core 4", "core 5", "core 6", "core 7"};
    return core == SHIM_FC ? "the fabric controller" : core == SHIM_MASTER ? "the master core" : cores[core];
}

void shim_fault(const char *format, ...) {
    static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER; /* of two at once only one is told */
    char text[512];
    pthread_mutex_lock(&first);
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    fprintf(stderr, "pmsis: %s: %s\n", shim_who(shim_core()), text);
    _exit(FAULT);
}

void shim_die(const char *what) {
    perror(what);
    exit(1);
}

#if SHIM_THREAD
/* A race ends the program, as an address outside an array does. The sanitizer asks by this name. */
const char *__tsan_default_options(void);

const char *__tsan_default_options(void) {
    return "halt_on_error=1:exitcode=66:atexit_sleep_ms=0";
}
#endif
