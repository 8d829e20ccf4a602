/* Little-endian numbers at any alignment. */
#ifndef FT_BYTES_H
#define FT_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t ft_get_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t ft_get_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline float ft_get_f32(const uint8_t *p) {
    const uint32_t bits = ft_get_u32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline void ft_put_u16(uint8_t *p, uint16_t value) {
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static inline void ft_put_u32(uint8_t *p, uint32_t value) {
    ft_put_u16(p, (uint16_t)value);
    ft_put_u16(p + 2, (uint16_t)(value >> 16));
}

static inline void ft_put_u64(uint8_t *p, uint64_t value) {
    ft_put_u32(p, (uint32_t)value);
    ft_put_u32(p + 4, (uint32_t)(value >> 32));
}

static inline void ft_put_f32(uint8_t *p, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    ft_put_u32(p, bits);
}

#endif
