/* What a board has to let its power be cut: beside power_cuts.c a program has one file with these. */
#ifndef POWER_H
#define POWER_H

#include <stdint.h>
#include "port.h"

#define CUT_NOTHING 0u
#define CUT_ALL     0xFFFFFFFFu

/* The flash under test. */
const ft_flash_t *flash_that_is_cut(void);

/* The power goes at the erase or program that takes `countdown` from 1 to 0, 0: never; `done` is how much of
 * it is done: nothing, all, or a part of its bits that is drawn with this number as the seed. */
void cut_power_at(uint32_t countdown, uint32_t done);

/* Memory that a cut leaves alone; does not begin with 1 at first. Changes of it are to be told. */
void *kept(uint32_t bytes);
void kept_has_changed(void);

#endif
