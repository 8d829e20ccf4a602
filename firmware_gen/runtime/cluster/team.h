/* Layers on a cluster of cores with a memory of its own (L1): GAP9, GAP8.
 *
 * The master core runs layer after layer. It brings a layer's weights and tables to L1, then tile by tile the
 * rows that are read, has the cores work on a tile, each on its share, and has the rows that they made taken
 * away. The DMA brings the next tile's rows and takes the last one's while the cores work: each map has two
 * buffers then. What a layer has not in L1 its cores read and write where it lies, in L2.
 */
#ifndef FT_TEAM_H
#define FT_TEAM_H

#include <pmsis.h>
#include "model_api.h"

/* Maps, weights and tables of a layer that may be in L1. */
#define FT_OPERANDS 16

/* Rows, channels: `end` is excluded. */
typedef struct {
    int16_t first, end;
} ft_rows_t;

/* What the cores know of the tile that they work on. Lies in L1. */
typedef struct {
    uint8_t *at[FT_OPERANDS]; /* each map's row 0, wherever its first row is; each constant */
    uint8_t *scratch;         /* what all have in common, then that of core 0; the others' follow */
    uint8_t *seen;            /* the cores' copies of moving ranges */
    const void *band;         /* of the chain; NULL in a whole layer */
    const ft_hyper_t *hyper;  /* in updates */
    float *losses;            /* in losses */
    int32_t y0, y1;           /* rows to be made */
    uint32_t key;             /* of an update that draws */
} ft_tile_t;

/* A weight or table: `bytes` from `from` in L2 to the offset `to` in L1. */
typedef struct {
    const void *from;
    uint32_t to, bytes;
} ft_constant_t;

/* A map's place in L1, where rows lie densely: offset, bytes to the second buffer (0: there is one). Its rows
 * in L2: `per_row` lines of `length` bytes, `stride` apart. */
typedef struct {
    uint32_t to, other;
    uint32_t length, stride;
    uint32_t per_row;
} ft_buffer_t;

/* `rows` rows of a map from row `first` on, which lies at `at` in L2. */
typedef struct {
    uint8_t *at;
    int16_t first, rows;
} ft_piece_t;

/* One layer. work: what each of `cores` cores runs, with an ft_tile_t; prepare: the same, once before the
 * first tile. before: what the master runs before that; after: after each tile. All but work may be NULL.
 * buffers: `read` maps that are read, then `made` (0 or 1) that is made; pieces: of each tile, one of each of
 * these. scratch, seen: offsets in L1. */
typedef struct {
    void (*work)(void *tile);
    void (*prepare)(void *tile);
    void (*before)(ft_tile_t *tile);
    void (*after)(const ft_tile_t *tile);
    const ft_constant_t *constants;
    const ft_buffer_t *buffers;
    const ft_piece_t *pieces;
    const ft_rows_t *tiles;
    uint32_t scratch, seen;
    uint8_t cores, constant_count, read, made;
} ft_layer_t;

/* What every core knows of an update that waited for all gradients. keys: one for each tensor that draws. */
typedef struct {
    const ft_hyper_t *hyper;
    float factor;
    const uint32_t *keys;
} ft_update_t;

/* On the fabric controller: has the cluster's master run `work(argument)`, and waits for it. The first call
 * opens the cluster. */
void ft_team_run(void (*work)(void *argument), void *argument);

/* On the master: the tiles `first` to before `end` of a layer. Returns when all that was made lies in L2. */
void ft_team_layer(const ft_layer_t *layer, int first, int end, const void *band, const ft_hyper_t *hyper,
                   float *losses);

/* On a core of a layer: returns when all that work on it have called it. */
static inline void ft_team_meet(void) {
    pi_cl_team_barrier();
}

/* The k-th of `parts` shares of [first, end), which begin at multiples of `unit`. The first one is empty only
 * if all are: core 0 knows what every layer has found out. */
static inline ft_rows_t ft_share(int first, int end, int unit, int k, int parts) {
    const int units = (end - first + unit - 1) / unit;
    const int low = first + (units * k + parts - 1) / parts * unit;
    const int high = first + (units * (k + 1) + parts - 1) / parts * unit;
    const ft_rows_t share = {(int16_t)(low < end ? low : end), (int16_t)(high < end ? high : end)};
    return share;
}

#endif
