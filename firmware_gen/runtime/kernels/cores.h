/* Work that several cores do on one operand: each makes parts of its own, and they meet where one reads what
 * another has made. A core that is alone makes all and waits for nobody. */
#ifndef FT_CORES_H
#define FT_CORES_H

#include "map.h"

/* The cores that call a kernel, all with the same other arguments. own: from 0 to before `count`, of the one
 * that calls. meet: returns when all of them have called it; NULL where there is one. */
typedef struct {
    int own, count;
    void (*meet)(void);
} ft_cores_t;

#define FT_ALONE ((ft_cores_t){0, 1, NULL})

FT_INLINE void ft_meet(ft_cores_t cores) {
    if (cores.count > 1)
        cores.meet();
}

/* This core's part of [0, count): neighbours; the parts of all cores differ by one at most. */
FT_INLINE ft_range_t ft_part(ft_cores_t cores, int count) {
    const ft_range_t part = {count * cores.own / cores.count, count * (cores.own + 1) / cores.count};
    return part;
}

#endif
