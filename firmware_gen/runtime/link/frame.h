/* Frames on a byte stream: COBS(type u8, seq u16, payload, crc32 u32), then a zero byte; little endian.
 *
 * Both directions work a byte at a time: the decoder keeps one decoded frame, the encoder one COBS block, so
 * that a reply's payload is read where it lies and never copied as a whole.
 */
#ifndef FT_FRAME_H
#define FT_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include "protocol.h"

#define FT_FRAME_HEADER 3 /* type, seq */
#define FT_FRAME_BYTES  (FT_FRAME_HEADER + FT_MAX_PAYLOAD + 4)

/* CRC-32 as in zlib, IEEE 802.3. Start with FT_CRC_START, hand the result on, invert the last one. */
#define FT_CRC_START 0xFFFFFFFFu
uint32_t ft_crc32(uint32_t crc, const uint8_t *data, size_t count);

typedef enum {
    FT_DECODER_WAITS,   /* for more bytes */
    FT_DECODER_FRAME,   /* bytes[0..length) is a frame whose CRC is right, without the CRC */
    FT_DECODER_DAMAGED, /* something that is no frame has ended */
} ft_decoded_t;

/* All zero is the state between two frames. */
typedef struct {
    uint8_t bytes[FT_FRAME_BYTES];
    uint16_t length; /* decoded so far */
    uint8_t left;    /* bytes that the current COBS block still has */
    uint8_t flags;
} ft_decoder_t;

/* Takes one byte. What it decoded stays in place until the next byte. */
ft_decoded_t ft_decoder_push(ft_decoder_t *decoder, uint8_t byte);

typedef struct {
    uint8_t block[256]; /* code, up to 254 bytes, room for the delimiter */
    uint8_t count;      /* bytes in the block besides the code */
    uint32_t crc;
    void (*write)(const uint8_t *data, size_t count);
} ft_encoder_t;

/* A frame is one begin, any number of puts and one end; write is called with pieces of it. */
void ft_encoder_begin(ft_encoder_t *encoder, uint8_t type, uint16_t seq);
void ft_encoder_put(ft_encoder_t *encoder, const uint8_t *data, size_t count);
void ft_encoder_end(ft_encoder_t *encoder);

#endif
