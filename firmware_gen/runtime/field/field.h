/* Learning without a host: samples from the sensors in a ring, and rounds of collecting, tuning and judging.
 *
 * In a round the board takes some frames, computes the loss on those set aside (validation), trains on the
 * others, computes that loss again, and goes back to the weights from before the round unless it has become
 * less. docs/field.md tells more. What a model needs for it is printed by firmware_gen/field.py into model.c.
 */
#ifndef FT_FIELD_H
#define FT_FIELD_H

#include <stdint.h>
#include "../link/link.h"
#include "../link/protocol.h"
#include "../model_api.h"
#include "drift.h"
#include "sample.h"

#define FT_LOGGED_ROUNDS 32

/* Numbers of FT_FIELD_REPLY_PHASE. */
typedef enum {
    FT_AT_REST,
    FT_COLLECTING,
    FT_JUDGING_BEFORE,
    FT_LEARNING,
    FT_JUDGING_AFTER,
    FT_WATCHING /* the depth sensor is off */
} ft_phase_t;

/* Samples are numbered from 0; number k lies in place k % capacity of the ring. Its size is stated in
 * firmware_gen/field.py. */
typedef struct {
    uint32_t samples;                                       /* taken so far */
    uint32_t rounds, frames, validate_every, epochs, steps; /* as the host asked for */
    uint32_t collect_until;                                 /* number of samples at which this round learns */
    uint32_t at;                                            /* number of the sample to look at next */
    uint32_t end;                                           /* number at which the phase ends */
    uint32_t epoch, step;                                   /* done in this round */
    uint32_t round, improved, undone, learned, skipped;     /* since the host asked */
    uint32_t judged;                                        /* samples in `sum` */
    float drift_on, drift_off; /* as the host asked for; 0: the board never watches */
    uint32_t watched;          /* pictures since the host asked, with the depth sensor off */
    ft_drift_t drift;
    float sum;
    float before, after, loss;
    float log[FT_LOGGED_ROUNDS][2]; /* of round k in [k % FT_LOGGED_ROUNDS]: loss before and after */
    uint8_t phase;                  /* ft_phase_t */
    uint8_t reply[FT_FIELD_REPLY_SIZE];
} ft_field_state_t;

typedef struct {
    uint8_t *data;
    uint32_t bytes;
} ft_block_t;

struct ft_field {
    ft_valid_t valid;
    uint8_t *input; /* height x width x 3 */
    uint16_t height, width;
    const ft_tof_label_t *labels;
    uint32_t label_count;
    const uint16_t *loss_parts; /* of a training step */
    uint32_t loss_count;
    uint32_t capacity; /* of the ring, in samples */
    uint8_t *images;
    int16_t *distance_mm;
    uint8_t *target_status;
    const ft_block_t *blocks; /* what a round changes, */
    uint32_t block_count;
    uint8_t *kept; /* and a copy from before */
    ft_field_state_t *state;
};

/* Does the next piece of a round, as long as one training step at most, and counts `step` up if it was one.
 * Returns 0 when there is nothing to do now. */
int ft_field_work(const ft_model_t *model, const ft_link_port_t *port, const ft_hyper_t *hyper,
                  uint32_t *step);

/* Obeys one of the messages about the buffer. Returns 0 and the size of the reply, which is in
 * state->reply; else the code of a refusal. */
uint8_t ft_field_command(const ft_field_t *field, const ft_link_port_t *port, uint8_t type,
                         const uint8_t *payload, uint8_t *bytes);

#endif
