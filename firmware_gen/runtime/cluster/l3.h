/* Weights and tables outside the chip, in L3: RAM that no core can address.
 *
 * A file in flash has them, in pieces: the constants of a layer each. They are copied to L3 once; before a
 * layer begins its piece comes to a buffer in L2. The buffers take turns: while the layer runs, the next
 * piece is on its way to the other one.
 */
#ifndef FT_L3_H
#define FT_L3_H

#include <stdint.h>

#define FT_L3_BUFFERS 2

/* `bytes` from `from` in L3; both are multiples of 16. They come to the buffer of that number. */
typedef struct {
    uint32_t from, bytes;
    uint8_t buffer;
} ft_l3_piece_t;

/* Part `part` of a run needs piece `piece`. */
typedef struct {
    uint32_t part, piece;
} ft_l3_use_t;

/* What lies in L3. bytes: of the file, a multiple of 16; checksum: Adler-32 of them. buffers: aligned to 16,
 * each as large as the largest of its pieces (the first: `first_bytes`), or NULL if it has none. */
typedef struct {
    const char *file;
    uint32_t bytes, checksum;
    const ft_l3_piece_t *pieces;
    uint8_t *buffers[FT_L3_BUFFERS];
    uint32_t first_bytes;
} ft_l3_t;

/* On the fabric controller, before all that follows: copies the file to L3. Only the first call does
 * anything. Ends the program (pmsis_exit) with -3 if there is no flash, -4 no file system, -5 no file or one
 * of another size, -6 no RAM or too little, -7 if what was copied is not what was meant. */
void ft_l3_open(const ft_l3_t *l3);

/* On the master, before a run of the parts `first` to before `end`; `uses`: `count` of them, by part. */
void ft_l3_begin(const ft_l3_use_t *uses, uint32_t count, uint32_t first, uint32_t end);

/* On the master, before a part of the run: returns when its piece, if it has one, is in its buffer, and has
 * the next one come. Parts with pieces are run once each, in their order. */
void ft_l3_bring(uint32_t part);

#endif
