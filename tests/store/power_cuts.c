/* Cuts the power at every flash operation of a save, in every way, and looks each time at what the board has
 * then. A cut is a reset of the board, after which it starts as it always does.
 *
 * Set n is a pattern of the number n. The newest set that is stored is state->set; the next one is saved with
 * a cut at operation state->operation, done in the way state->way. When a save ends before its cut, it has no
 * more operations, and the next way begins.
 */
#include <string.h>
#include "link/store.h"
#include "model_api.h"
#include "power.h"

#define SEEDS 4 /* ways in which half an operation is done */
#define WAYS  (SEEDS + 2)

typedef struct {
    uint32_t begun, set, way, operation;
    uint32_t points, kept_old, kept_new, last_new; /* the last: new ones when nothing or all of it was done */
} state_t;

static float weights[33];
static int8_t small_weights[7];
static float range[2];
static float velocity[5];
static uint8_t input[3];

static const ft_tensor_t tensors[] = {
    {"input", input, sizeof input, {1, 1, 3}, FT_INPUT, FT_U8},
    {"weights", (uint8_t *)weights, sizeof weights, {1, 1, 33}, FT_WEIGHT, FT_F32},
    {"small_weights", (uint8_t *)small_weights, sizeof small_weights, {1, 1, 7}, FT_WEIGHT, FT_I8},
    {"velocity", (uint8_t *)velocity, sizeof velocity, {1, 1, 5}, FT_STATE, FT_F32},
    {"range", (uint8_t *)range, sizeof range, {1, 1, 2}, FT_RANGE, FT_F32},
};

static void fill(uint8_t *data, uint32_t bytes, uint32_t set) {
    for (uint32_t i = 0; i < bytes; i++) {
        data[i] = (uint8_t)((set + 1) * 2654435761u >> (i % 4 * 8)) ^ (uint8_t)(i * 37);
    }
}

static void make_set(uint32_t set) {
    fill((uint8_t *)weights, sizeof weights, set);
    fill((uint8_t *)small_weights, sizeof small_weights, set + 1000);
    fill((uint8_t *)range, sizeof range, set + 2000);
    fill((uint8_t *)velocity, sizeof velocity, set + 3000);
}

static int has_set(uint32_t set) {
    uint8_t expected[sizeof weights];
    fill(expected, sizeof weights, set);
    int same = memcmp(weights, expected, sizeof weights) == 0;
    fill(expected, sizeof small_weights, set + 1000);
    same &= memcmp(small_weights, expected, sizeof small_weights) == 0;
    fill(expected, sizeof range, set + 2000);
    return same & (memcmp(range, expected, sizeof range) == 0);
}

static void reset(void) {
    memset(weights, 0, sizeof weights);
    memset(small_weights, 0, sizeof small_weights);
    memset(range, 0, sizeof range);
    memset(velocity, 0, sizeof velocity);
}

static const ft_model_t model = {
    .model_hash = 0x11223344,
    .plan_hash = 0x55667788,
    .tensors = tensors,
    .tensor_count = sizeof tensors / sizeof tensors[0],
    .reset = reset,
};

static const ft_flash_t *flash;
static state_t *state;

static void say(const char *text) {
    for (; *text != '\0'; text++) {
        ft_port_write((const uint8_t *)text, 1);
    }
}

static void say_number(const char *name, uint32_t value) {
    char digits[11];
    char *at = digits + sizeof digits - 1;
    *at = '\0';
    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    say(name);
    say("=");
    say(at);
    say(" ");
}

static void report(const char *how) {
    say_number("way", state->way);
    say_number("operation", state->operation);
    say_number("points", state->points);
    say_number("old", state->kept_old);
    say_number("new", state->kept_new);
    say_number("whole", state->last_new);
    say(how);
    say("\n");
}

/* Tells what has come out whenever it is asked. */
static void __attribute__((noreturn)) end(const char *how) {
    uint8_t asked;
    for (;;) {
        if (ft_port_read(&asked, 1) == 1) {
            report(how);
        } else {
            ft_port_idle();
        }
    }
}

static void check(int holds, const char *otherwise) {
    if (!holds) {
        end(otherwise);
    }
}

static uint32_t done_in(uint32_t way) {
    return way == 0 ? CUT_NOTHING : way == 1 ? CUT_ALL : way - 1;
}

static ft_store_result_t save(uint32_t set) {
    uint32_t sequence;
    make_set(set);
    return ft_store_save(flash, &model, set, &sequence);
}

/* A newer set can be stored and found, and the one before as well. */
static void go_on_from(uint32_t set) {
    ft_slot_t found;
    check(save(set + 1) == FT_STORE_DONE, "no save after a cut");
    check(ft_store_load(flash, &model, 1, &found) == FT_STORE_DONE && has_set(set), "older set lost");
    check(ft_store_load(flash, &model, 0, &found) == FT_STORE_DONE && has_set(set + 1), "save lost");
    check(found.step == set + 1 && velocity[0] == 0.0f, "wrong step or state");
    state->set = set + 1;
}

static void look_after_a_cut(void) {
    ft_slot_t found;
    reset();
    check(ft_store_load(flash, &model, 0, &found) == FT_STORE_DONE, "nothing there");
    const int is_old = has_set(state->set) && found.step == state->set;
    const int is_new = has_set(state->set + 1) && found.step == state->set + 1;
    check(is_old != is_new, "neither old nor new");
    state->points++;
    state->kept_old += (uint32_t)is_old;
    state->kept_new += (uint32_t)is_new;
    state->last_new += (uint32_t)(is_new && state->way < 2);
    go_on_from(found.step);
    state->operation++;
    kept_has_changed();
}

static void begin(void) {
    ft_slot_t found;
    memset(state, 0, sizeof *state);
    check(ft_store_load(flash, &model, 0, &found) == FT_STORE_NOTHING, "a set out of nothing");
    check(save(1) == FT_STORE_DONE, "no first save");
    state->begun = 1;
    state->set = 1;
    state->operation = 1;
    kept_has_changed();
}

int main(void) {
    ft_port_init();
    flash = flash_that_is_cut();
    state = (state_t *)kept(sizeof *state);
    if (state->begun != 1) {
        begin();
    } else {
        look_after_a_cut();
    }
    while (state->way < WAYS) {
        cut_power_at(state->operation, done_in(state->way));
        check(save(state->set + 1) == FT_STORE_DONE, "save failed");
        cut_power_at(0, 0); /* it ended before the cut */
        state->set++;
        state->way++;
        state->operation = 1;
        kept_has_changed();
    }
    end("done");
}
