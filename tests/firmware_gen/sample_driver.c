/* Answers on stdout, for the tests of runtime/field/sample.c:
 *     label  HEIGHT WIDTH FB END_MM: tables and a reading on stdin -> label f32, mask u8
 *     input  HEIGHT WIDTH OUT_HEIGHT OUT_WIDTH: pixels on stdin -> the network's input
 */
#include "field/sample.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *take(size_t count) {
    void *data = malloc(count);
    if (fread(data, 1, count, stdin) != count)
        exit(2);
    return data;
}

static ft_between_t *take_between(int count) {
    ft_between_t *between = calloc((size_t)count, sizeof *between);
    for (int k = 0; k < count; k++)
        if (fread(between[k].weights, 8, 2, stdin) != 2 || fread(between[k].zones, 1, 2, stdin) != 2)
            exit(2);
    return between;
}

static void label(int height, int width, double fb, int end_mm) {
    ft_valid_t *valid = take(32 + 4);
    ft_between_t *rows = take_between(height), *columns = take_between(width);
    ft_tof_t tof;
    uint8_t *zones = take(192);
    const size_t count = (size_t)(height * width);
    float *values = calloc(count, 4);
    uint8_t *mask = calloc(count, 1);
    memcpy(tof.distance_mm, zones, 128);
    memcpy(tof.target_status, zones + 128, 64);
    valid->end_mm = end_mm;
    const ft_tof_label_t out = {values, mask, rows, columns, (uint16_t)height, (uint16_t)width, fb};
    const uint32_t known = ft_label(&tof, valid, &out);
    fwrite(values, 4, count, stdout);
    fwrite(mask, 1, count, stdout);
    fwrite(&known, 4, 1, stdout);
    free(valid), free(rows), free(columns), free(zones), free(values), free(mask);
}

static void input(int height, int width, int out_height, int out_width) {
    uint8_t *pixels = take((size_t)(3 * height * width));
    uint8_t *out = malloc((size_t)(3 * out_height * out_width));
    const ft_picture_t picture = {pixels, (uint16_t)height, (uint16_t)width};
    ft_network_input(&picture, out, (uint16_t)out_height, (uint16_t)out_width);
    fwrite(out, 3, (size_t)(out_height * out_width), stdout);
    free(pixels), free(out);
}

int main(int count, char **words) {
    if (count != 6)
        return 2;
    if (strcmp(words[1], "label") == 0)
        label(atoi(words[2]), atoi(words[3]), atof(words[4]), atoi(words[5]));
    else
        input(atoi(words[2]), atoi(words[3]), atoi(words[4]), atoi(words[5]));
    return 0;
}
