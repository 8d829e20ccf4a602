#include "frame.h"

#include "bytes.h"

#define FLAG_INSIDE   1u /* a byte has come since the last delimiter */
#define FLAG_ZERO_DUE 2u /* a zero stands between the last COBS block and the next */
#define FLAG_TOO_LONG 4u

#define FULL_BLOCK 254

uint32_t ft_crc32(uint32_t crc, const uint8_t *data, size_t count) {
    /* A nibble at a time: 64 bytes of flash instead of 1024, and still far faster than a serial port. */
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    for (size_t i = 0; i < count; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

static void append(ft_decoder_t *decoder, uint8_t byte) {
    if (decoder->length < FT_FRAME_BYTES) {
        decoder->bytes[decoder->length++] = byte;
    } else {
        decoder->flags |= FLAG_TOO_LONG;
    }
}

static ft_decoded_t finish(ft_decoder_t *decoder, unsigned flags, unsigned left) {
    if (!(flags & FLAG_INSIDE)) {
        return FT_DECODER_WAITS;
    }
    if (left != 0 || flags & FLAG_TOO_LONG || decoder->length < FT_FRAME_HEADER + 4) {
        return FT_DECODER_DAMAGED;
    }
    decoder->length = (uint16_t)(decoder->length - 4);
    uint32_t crc = ~ft_crc32(FT_CRC_START, decoder->bytes, decoder->length);
    return crc == ft_get_u32(decoder->bytes + decoder->length) ? FT_DECODER_FRAME : FT_DECODER_DAMAGED;
}

ft_decoded_t ft_decoder_push(ft_decoder_t *decoder, uint8_t byte) {
    if (byte == 0) {
        unsigned flags = decoder->flags;
        unsigned left = decoder->left;
        decoder->flags = 0;
        decoder->left = 0;
        return finish(decoder, flags, left);
    }
    if (!(decoder->flags & FLAG_INSIDE)) {
        decoder->flags = FLAG_INSIDE;
        decoder->length = 0;
    }
    if (decoder->left > 0) {
        append(decoder, byte);
        decoder->left--;
        return FT_DECODER_WAITS;
    }
    if (decoder->flags & FLAG_ZERO_DUE) {
        append(decoder, 0);
    }
    decoder->left = (uint8_t)(byte - 1);
    decoder->flags = (uint8_t)((decoder->flags & ~FLAG_ZERO_DUE) | (byte == 0xFF ? 0 : FLAG_ZERO_DUE));
    return FT_DECODER_WAITS;
}

static void flush(ft_encoder_t *encoder) {
    encoder->block[0] = (uint8_t)(encoder->count + 1);
    encoder->write(encoder->block, (size_t)encoder->count + 1);
    encoder->count = 0;
}

static void stuff(ft_encoder_t *encoder, const uint8_t *data, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (data[i] == 0) {
            flush(encoder);
            continue;
        }
        encoder->block[++encoder->count] = data[i];
        if (encoder->count == FULL_BLOCK) {
            flush(encoder);
        }
    }
}

void ft_encoder_begin(ft_encoder_t *encoder, uint8_t type, uint16_t seq) {
    uint8_t header[FT_FRAME_HEADER] = {type};
    ft_put_u16(header + 1, seq);
    encoder->crc = FT_CRC_START;
    encoder->count = 0;
    ft_encoder_put(encoder, header, sizeof header);
}

void ft_encoder_put(ft_encoder_t *encoder, const uint8_t *data, size_t count) {
    encoder->crc = ft_crc32(encoder->crc, data, count);
    stuff(encoder, data, count);
}

void ft_encoder_end(ft_encoder_t *encoder) {
    uint8_t crc[4];
    ft_put_u32(crc, ~encoder->crc);
    stuff(encoder, crc, sizeof crc);
    encoder->block[0] = (uint8_t)(encoder->count + 1);
    encoder->block[encoder->count + 1] = 0;
    encoder->write(encoder->block, (size_t)encoder->count + 2);
}
