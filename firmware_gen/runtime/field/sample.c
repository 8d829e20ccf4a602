#include "sample.h"

#define KNOWN_SHARE 0.999 /* as in zoo/tof.py */
#define NEAREST_M   0.05  /* as in zoo/prepare.py */

/* What each zone says in the label's unit, and whether it says anything; 0 where it does not. */
typedef struct {
    double value[FT_ZONES * FT_ZONES];
    double known[FT_ZONES * FT_ZONES];
} zones_t;

static int is_valid(const ft_valid_t *valid, uint8_t status, int32_t distance) {
    return (valid->status[status / 32] >> status % 32 & 1u) != 0 && distance > 0 && distance < valid->end_mm;
}

static double in_unit(int32_t distance_mm, double fb) {
    const double metres = (double)distance_mm / 1000.0;
    if (fb == 0.0) {
        return metres;
    }
    return fb / (metres > NEAREST_M ? metres : NEAREST_M);
}

static void read_zones(const ft_tof_t *tof, const ft_valid_t *valid, double fb, zones_t *zones) {
    for (int k = 0; k < FT_ZONES * FT_ZONES; k++) {
        const int known = is_valid(valid, tof->target_status[k], tof->distance_mm[k]);
        zones->known[k] = known ? 1.0 : 0.0;
        zones->value[k] = known ? in_unit(tof->distance_mm[k], fb) : 0.0;
    }
}

static double mixed(const double *zones, int stride, const ft_between_t *between) {
    const double first = zones[between->zones[0] * stride] * between->weights[0];
    const double second = zones[between->zones[1] * stride] * between->weights[1];
    return first + second;
}

uint32_t ft_label(const ft_tof_t *tof, const ft_valid_t *valid, const ft_tof_label_t *out) {
    zones_t zones;
    uint32_t count = 0;
    read_zones(tof, valid, out->fb, &zones);
    for (uint32_t y = 0; y < out->height; y++) {
        double value[FT_ZONES];
        double known[FT_ZONES];
        for (int k = 0; k < FT_ZONES; k++) {
            value[k] = mixed(zones.value + k, FT_ZONES, &out->rows[y]);
            known[k] = mixed(zones.known + k, FT_ZONES, &out->rows[y]);
        }
        for (uint32_t x = 0; x < out->width; x++) {
            const int counts = mixed(known, 1, &out->columns[x]) > KNOWN_SHARE;
            out->label[y * out->width + x] = counts ? (float)mixed(value, 1, &out->columns[x]) : 0.0f;
            out->mask[y * out->width + x] = (uint8_t)counts;
            count += (uint32_t)counts;
        }
    }
    return count;
}

static uint32_t smaller(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

/* How much of source cell s lies in target cell t, in units of 1 / (source * target) of the side. */
static uint32_t overlap(uint32_t s, uint32_t source, uint32_t t, uint32_t target) {
    return smaller((t + 1) * source, (s + 1) * target) - larger(t * source, s * target);
}

static uint8_t rounded(uint32_t sum, uint32_t area) {
    const uint32_t down = sum / area;
    const uint32_t twice = sum % area * 2;
    return (uint8_t)(down + (twice > area || (twice == area && down % 2 == 1)));
}

/* The exact sums over the source cells [y0, y1) x [x0, x1) that overlap with the target cell. */
static void mean_of_cell(const ft_picture_t *from, uint32_t y, uint32_t height, uint32_t x, uint32_t width,
                         uint8_t *out) {
    const uint32_t y0 = y * from->height / height;
    const uint32_t y1 = ((y + 1) * from->height + height - 1) / height;
    const uint32_t x0 = x * from->width / width;
    const uint32_t x1 = ((x + 1) * from->width + width - 1) / width;
    uint32_t sums[3] = {0, 0, 0};
    for (uint32_t row = y0; row < y1; row++) {
        const uint32_t high = overlap(row, from->height, y, height);
        for (uint32_t column = x0; column < x1; column++) {
            const uint32_t area = high * overlap(column, from->width, x, width);
            const uint8_t *pixel = from->pixels + 3 * (row * from->width + column);
            for (int c = 0; c < 3; c++) {
                sums[c] += area * pixel[c];
            }
        }
    }
    for (int c = 0; c < 3; c++) {
        out[c] = rounded(sums[c], (uint32_t)from->height * from->width);
    }
}

void ft_network_input(const ft_picture_t *picture, uint8_t *out, uint16_t height, uint16_t width) {
    for (uint32_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < width; x++) {
            mean_of_cell(picture, y, height, x, width, out + 3 * (y * width + x));
        }
    }
}
