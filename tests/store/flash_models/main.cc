/* Runs a flash driver against its controller's model: "cuts", which is power_cuts.c with a cut at each
 * operation, or "errors", of which the driver and the store have to tell. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "cortex_m.h"
#include "model.h"
#include "port.h"
#include "power.h"

void ft_fault(const char *what, uint32_t address); /* of hardware.h, whose folder has another string.h */
int run_power_cuts(void);
int run_errors(void);

static Model *model;
static const ft_flash_t *driver;
static uint32_t kept_words[64];
static bool asked;

uint32_t model_read(uint32_t address) {
    return model->read(address);
}

void model_write(uint32_t address, uint32_t value) {
    model->write(address, value);
}

void ft_barrier(void) {
    model->barrier();
}

void ft_fault(const char *what, uint32_t) {
    broken(what);
}

/* --- the port ----------------------------------------------------------------------------------------- */

void ft_port_init(void) {}

size_t ft_port_read(uint8_t *, size_t) {
    if (asked) {
        if (!model->untouched_outside()) {
            broken("something outside of the area has changed");
        }
        exit(0);
    }
    asked = true;
    return 1;
}

void ft_port_write(const uint8_t *data, size_t count) {
    fwrite(data, 1, count, stdout);
}

void ft_port_idle(void) {}

/* --- what is cut -------------------------------------------------------------------------------------- */

static int rested(int result) {
    if (!model->at_rest()) {
        broken("not locked, or otherwise left as it should not be");
    }
    return result;
}

static int erase(uint32_t offset) {
    return rested(driver->erase(offset));
}

static int program(uint32_t offset, const uint8_t *unit) {
    return rested(driver->program(offset, unit));
}

static int read(uint32_t offset, uint8_t *unit) {
    return rested(driver->read(offset, unit));
}

const ft_flash_t *flash_that_is_cut(void) {
    static ft_flash_t flash;
    driver = ft_port_flash();
    flash = *driver;
    flash.erase = erase;
    flash.program = program;
    flash.read = read;
    return &flash;
}

void cut_power_at(uint32_t countdown, uint32_t done) {
    model->countdown = countdown;
    model->done = done;
}

void *kept(uint32_t bytes) {
    if (bytes > sizeof kept_words) {
        abort();
    }
    return kept_words;
}

void kept_has_changed(void) {}

/* --- errors ------------------------------------------------------------------------------------------- */

static void check(bool holds, const char *otherwise) {
    if (!holds) {
        broken(otherwise);
    }
}

int run_errors(void) {
    const ft_flash_t *flash = flash_that_is_cut();
    uint32_t unit[8], there[8];
    memset(unit, 0xA5, sizeof unit);
    uint8_t *const bytes = (uint8_t *)unit;
    const uint32_t second = flash->sector_bytes;
    model->leave_open();
    check(flash->erase(0) && flash->program(0, bytes), "no operation");
    check(flash->read(0, (uint8_t *)there), "a unit cannot be read");
    check(memcmp(there, unit, flash->unit_bytes) == 0, "not programmed, or read from a cache");
    check(flash->erase(second) && flash->program(second, bytes), "no operation in the second sector");
    check(!flash->erase(flash->bytes), "an erase behind the area");
    check(!flash->erase(flash->unit_bytes), "an erase within a sector");
    check(!flash->program(flash->bytes, bytes), "a unit behind the area");
    check(!flash->program(flash->bytes - 1, bytes), "a unit at an odd place");
    const uint32_t operations = model->operations;
    if (model->has_banks()) {
        model->swap_banks(true);
        check(!flash->erase(0) && !flash->program(flash->unit_bytes, bytes), "an operation on swapped banks");
        model->swap_banks(false);
    }
    if (model->reports_errors()) {
        model->protected_from_writing = true;
        check(!flash->erase(0), "an erase that was refused and not noticed");
        check(!flash->program(flash->unit_bytes, bytes), "a unit that was refused and not noticed");
        model->protected_from_writing = false;
    }
    check(model->operations == operations, "something was written all the same");
    check(flash->program(flash->unit_bytes, bytes), "an old error that is still there");
    check(flash->erase(0), "an old error that is still there");
    check(flash->read(0, (uint8_t *)there), "an erased unit cannot be read");
    check(there[0] == 0xFFFFFFFFu, "not erased, or read from a cache");
    check(flash->read(second, (uint8_t *)there), "a unit cannot be read");
    check(memcmp(there, unit, flash->unit_bytes) == 0, "the wrong sector was erased");
    check(model->untouched_outside(), "something outside of the area has changed");
    printf("done\n");
    return 0;
}

int main(int, char **arguments) {
    model = make_model();
    if (!strcmp(arguments[1], "errors")) {
        return run_errors();
    }
    for (;;) {
        try {
            return run_power_cuts();
        } catch (PowerCut &) {
            model->countdown = 0;
            model->reset();
        }
    }
}
