/* What the store says of an area in memory, for Python. */
#include <string.h>
#include "link/store.h"

static uint8_t weights[21];
static float range[2];

static const ft_tensor_t tensors[] = {
    {"weights", weights, sizeof weights, {1, 1, 21}, FT_WEIGHT, FT_U8},
    {"range", (uint8_t *)range, sizeof range, {1, 1, 2}, FT_RANGE, FT_F32},
};

static void reset(void) {
    memset(weights, 0xEE, sizeof weights);
    memset(range, 0xEE, sizeof range);
}

static const ft_model_t model = {
    .model_hash = 0x11223344,
    .plan_hash = 0x55667788,
    .tensors = tensors,
    .tensor_count = 2,
    .reset = reset,
};

/* The area that is read. */
static const uint8_t *area_read;
static uint32_t area_unit;

static int read(uint32_t offset, uint8_t *unit) {
    memcpy(unit, area_read + offset, area_unit);
    return 1;
}

/* The states of both slots, and the set that is taken at start. */
void look(const uint8_t *area, uint32_t bytes, uint32_t unit, uint8_t states[2], uint8_t set[29]) {
    const ft_flash_t flash = {.bytes = bytes, .sector_bytes = bytes / 2, .unit_bytes = unit, .read = read};
    ft_slot_t slots[2], found;
    area_read = area;
    area_unit = unit;
    ft_store_look(&flash, &model, slots);
    reset();
    ft_store_load(&flash, &model, 0, &found);
    for (int i = 0; i < 2; i++) {
        states[i] = (uint8_t)slots[i].state;
    }
    memcpy(set, weights, sizeof weights);
    memcpy(set + sizeof weights, range, sizeof range);
}

/* A flash of which one bit stays 1, as worn cells do. */
static uint8_t worn[2 * 256];
static uint32_t worn_bit;

static int erase(uint32_t offset) {
    memset(worn + offset, 0xFF, 256);
    return 1;
}

static int program(uint32_t offset, const uint8_t *unit) {
    memcpy(worn + offset, unit, 4);
    worn[worn_bit / 8] |= (uint8_t)(1u << worn_bit % 8);
    return 1;
}

/* Saves the set of `weights` that memset makes, to `area` with a worn bit; returns the result. */
int save(uint8_t area[2 * 256], uint32_t bit, uint8_t value) {
    const ft_flash_t flash = {sizeof worn, 256, 4, erase, program, read};
    uint32_t sequence;
    area_read = worn;
    area_unit = 4;
    memcpy(worn, area, sizeof worn);
    memset(weights, value, sizeof weights);
    memset(range, value, sizeof range);
    worn_bit = bit;
    const int result = ft_store_save(&flash, &model, 3, &sequence);
    memcpy(area, worn, sizeof worn);
    return result;
}

int is_better(float before, float after) {
    return ft_store_is_better(before, after);
}
