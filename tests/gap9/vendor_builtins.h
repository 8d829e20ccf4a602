/* What the vendor's compiler calls its instructions, with the meaning that its manual gives them: so that the
 * back end of kernels/xpulp/xpulp.h that uses them can be compiled and tested without that compiler. */
#include <stdint.h>

typedef signed char vendor_v4s __attribute__((vector_size(4)));
typedef unsigned char vendor_v4u __attribute__((vector_size(4)));

static inline int32_t __attribute__((unused)) vendor_sdotsp4(vendor_v4s a, vendor_v4s b, int32_t sum) {
    for (int k = 0; k < 4; k++)
        sum = (int32_t)((uint32_t)sum + (uint32_t)(a[k] * b[k]));
    return sum;
}

static inline int32_t __attribute__((unused)) vendor_sdotusp4(vendor_v4u a, vendor_v4s b, int32_t sum) {
    for (int k = 0; k < 4; k++)
        sum = (int32_t)((uint32_t)sum + (uint32_t)(a[k] * b[k]));
    return sum;
}

static inline uint32_t __attribute__((unused)) vendor_sdotup4(vendor_v4u a, vendor_v4u b, uint32_t sum) {
    for (int k = 0; k < 4; k++)
        sum += (uint32_t)(a[k] * b[k]);
    return sum;
}

static inline vendor_v4s __attribute__((unused)) vendor_max4(vendor_v4s a, vendor_v4s b) {
    for (int k = 0; k < 4; k++)
        a[k] = a[k] > b[k] ? a[k] : b[k];
    return a;
}

static inline vendor_v4s __attribute__((unused))
vendor_pack4(signed char a, signed char b, signed char c, signed char d) {
    const vendor_v4s packed = {a, b, c, d};
    return packed;
}

static inline int32_t __attribute__((unused)) vendor_clip_r(int32_t x, int32_t bound) {
    return x < -bound - 1 ? -bound - 1 : x > bound ? bound : x;
}

#define __builtin_pulp_sdotsp4  vendor_sdotsp4
#define __builtin_pulp_sdotusp4 vendor_sdotusp4
#define __builtin_pulp_sdotup4  vendor_sdotup4
#define __builtin_pulp_max4     vendor_max4
#define __builtin_pulp_pack4    vendor_pack4
#define __builtin_pulp_clip_r   vendor_clip_r
