/* What is learned, kept in flash: two slots, of which a power cut leaves one whole.
 *
 * A *set* is the learning weights and moving ranges of a model, all of its tensors of role WEIGHT and RANGE
 * in the table's order without gaps, and the number of training steps behind them. What an optimizer keeps is
 * not in it: after a load it begins anew. A set is taken only by the firmware whose model and plan hash it
 * has.
 *
 * Format. The area is two slots of bytes / 2, each a header and, behind it, the payload, both filled up to
 * whole units with 0xFF. The header is ten little-endian words, FT_STORE_HEADER_BYTES:
 *
 *      0 magic       8 model hash   16 step           24 payload's CRC-32   32 0 bits in bytes 0 to 31
 *      4 sequence   12 plan hash    20 payload bytes  28 payload's 0 bits   36 CRC-32 of bytes 0 to 35
 *
 * Sequence counts the saves from 1 and wraps past 0; of two sets the newer one has the larger number, as a
 * signed 32-bit difference.
 *
 * Why a cut at any instruction leaves the old set or the new one. A save
 *   1. picks the slot that does NOT hold the newest set, and erases it, the header's sector first;
 *   2. programs the payload, and reads back each unit, then the whole against the CRC;
 *   3. programs the header, the commit record.
 * The newest set is not touched by any of these. Until the header's last bit is programmed the new one does
 * not exist, from then on it is whole. What a cut leaves of the header is refused for certain, not just
 * probably: NOR flash programs 1 to 0, so a torn header has some 0 bits too few; then it has fewer 0 bits
 * than it should while the count of them, torn itself, can only read larger; and a CRC torn alone is not the
 * CRC of what it follows. An erase that is cut sets some bits of an old slot to 1: the same count refuses the
 * header, the payload's count the payload. Should a part leave other patterns (some program all bits to 0
 * before they erase), the CRCs refuse them, and the slot being erased is the older one in any case, which
 * loses against the newest. Instructions between two flash operations change no flash: a cut there is a cut
 * before the next one.
 *
 * Erasing all (ft_store_erase) takes the older slot first, so that a cut leaves the newest set or none.
 *
 * Each erase wears a sector out a little; a save erases one slot, the two by turns.
 *
 * No allocation, no recursion, no static data; the stack holds two units and a header. Functions must not be
 * called while the model computes, nor from interrupts.
 */
#ifndef FT_STORE_H
#define FT_STORE_H

#include <stdint.h>
#include "../model_api.h"
#include "port.h"

#define FT_STORE_HEADER_BYTES 40
#define FT_STORE_LARGEST_UNIT 32

typedef enum {
    FT_SLOT_EMPTY,   /* erased */
    FT_SLOT_BROKEN,  /* no set: a save or an erase was cut, or the flash has failed */
    FT_SLOT_FOREIGN, /* a set of another model or plan */
    FT_SLOT_OLDER,   /* this firmware's; the other slot has a newer one */
    FT_SLOT_NEWEST   /* this firmware's, taken at start */
} ft_slot_state_t;

typedef struct {
    ft_slot_state_t state;
    uint32_t sequence, model_hash, plan_hash, step, bytes; /* 0 when empty or broken */
} ft_slot_t;

typedef enum {
    FT_STORE_DONE,
    FT_STORE_TOO_SMALL, /* a slot has no room for the model's set */
    FT_STORE_NOTHING,   /* no such set is stored for this firmware */
    FT_STORE_FAILED /* the flash did not take what was erased or programmed: the newest set is still there;
                     * or a set could be read once and not again: the model is reset */
} ft_store_result_t;

/* Bytes of the model's set; 0 when nothing learns. */
uint32_t ft_store_set_bytes(const ft_model_t *model);

/* Bytes of the largest set that a slot has room for. */
uint32_t ft_store_room(const ft_flash_t *flash);

/* What both slots hold. Reads them whole. */
void ft_store_look(const ft_flash_t *flash, const ft_model_t *model, ft_slot_t slots[2]);

/* Stores the model's weights and ranges as they are. `sequence` is set when done. */
ft_store_result_t ft_store_save(const ft_flash_t *flash, const ft_model_t *model, uint32_t step,
                                uint32_t *sequence);

/* Resets the model, then puts the newest set, or the older one, in place; `found` tells which. Without such a
 * set nothing changes. */
ft_store_result_t ft_store_load(const ft_flash_t *flash, const ft_model_t *model, int older,
                                ft_slot_t *found);

/* Erases both slots. */
ft_store_result_t ft_store_erase(const ft_flash_t *flash, const ft_model_t *model);

/* Whether to keep weights whose mean loss on validation samples is `after` in place of a set with `before`:
 * when it is smaller. A loss that is no number is worse than all others. */
int ft_store_is_better(float before, float after);

#endif
