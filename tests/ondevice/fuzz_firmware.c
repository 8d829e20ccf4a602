/* Throws frames at the firmware library: right ones, right ones with wild values, mutated ones and noise.
 *
 * Usage: fuzz FRAMES SEED; with an even seed the model has a sample buffer and the board sensors. Exits with
 * 1 when a canary is broken, or a tensor changed that a host may not write; the sanitizers end it when
 * anything else is touched.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "field/field.h"
#include "link/firmware.h"

static ft_firmware_t firmware;
static uint32_t state;
static uint64_t bytes_sent;
static uint32_t resets;

static uint8_t line[4 * FT_FRAME_BYTES]; /* what the frame that is being made looks like on the line */
static size_t line_bytes;

static uint32_t random_u32(void) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static uint32_t below(uint32_t limit) {
    return random_u32() % limit;
}

static void port_write(const uint8_t *data, size_t count) {
    bytes_sent += count + (data[0] == 0); /* reads, so that the sanitizer sees an area that is not there */
}

static uint64_t port_ticks(void) {
    return bytes_sent;
}
static uint32_t port_ticks_hz(void) {
    return 1000;
}
static uint32_t port_overruns(void) {
    return 0;
}
static void port_reset(void) {
    resets++;
}

static void port_stack(const uint32_t **low, const uint32_t **high) {
    static const uint32_t stack[4] = {0xC0DEC0DE, 0xC0DEC0DE, 1, 0xC0DEC0DE};
    *low = stack;
    *high = stack + 4;
}

#define SECTOR 256
#define UNIT   8

/* Small enough for a set of the model and its header, with canaries. */
static struct { uint8_t before[16], data[4 * SECTOR], after[16]; } flash_memory;
static uint32_t saves;

static int flash_erase(uint32_t offset) {
    if (offset % SECTOR != 0 || offset >= sizeof flash_memory.data) {
        fprintf(stderr, "erase at %lu\n", (unsigned long)offset);
        exit(1);
    }
    memset(flash_memory.data + offset, 0xFF, SECTOR);
    return below(64) != 0;
}

static int flash_program(uint32_t offset, const uint8_t *unit) {
    if (offset % UNIT != 0 || offset >= sizeof flash_memory.data) {
        fprintf(stderr, "program at %lu\n", (unsigned long)offset);
        exit(1);
    }
    memcpy(flash_memory.data + offset, unit, UNIT);
    flash_memory.data[offset] ^= (uint8_t)(below(256) == 0);
    saves++;
    return 1;
}

static int flash_read(uint32_t offset, uint8_t *unit) {
    memcpy(unit, flash_memory.data + offset, UNIT);
    return 1;
}

static const ft_flash_t flash = {
    sizeof flash_memory.data, SECTOR, UNIT, flash_erase, flash_program, flash_read,
};

static const ft_flash_t *port_flash(void) {
    return &flash;
}

static int flash_intact(void) {
    static const uint8_t zeros[16];
    return memcmp(flash_memory.before, zeros, 16) == 0 && memcmp(flash_memory.after, zeros, 16) == 0;
}

#define SIDE     4 /* of input and label */
#define CAPACITY 3 /* of the sample buffer */

static int port_camera(ft_picture_t *picture) {
    static uint8_t pixels[5 * 7 * 3];
    pixels[below(sizeof pixels)] = (uint8_t)random_u32();
    *picture = (ft_picture_t){pixels, 5, 7};
    return below(4) != 0;
}

static int port_tof(ft_tof_t *tof) {
    for (int k = 0; k < FT_ZONES * FT_ZONES; k++) {
        tof->distance_mm[k] = (int16_t)(below(8) ? 1 + below(4000) : random_u32());
        tof->target_status[k] = (uint8_t)(below(8) ? 5 : random_u32());
    }
    return below(4) != 0;
}

static void port_tof_power(int on) {
    bytes_sent += (uint64_t)on;
}

static float label[SIDE * SIDE];
static uint8_t mask[SIDE * SIDE], input[3 * SIDE * SIDE];
static uint8_t images[CAPACITY * 3 * SIDE * SIDE], target_status[CAPACITY * 64];
static int16_t distance_mm[CAPACITY * 64];
static uint8_t changes[10], kept[12];
static ft_field_state_t field_state;
static const uint16_t loss_parts[] = {0};
static const ft_block_t blocks[] = {{changes, sizeof changes}};
static const ft_between_t between[SIDE] = {
    {{0.0, 0.0}, {0, 1}}, {{0.5, 0.5}, {0, 1}}, {{0.25, 0.75}, {6, 7}}, {{0.0, 1.0}, {6, 7}}};
static const ft_tof_label_t labels[] = {{label, mask, between, between, SIDE, SIDE, 80.0}};
static const ft_field_t field = {
    .valid = {{1u << 5}, 4000},
    .input = input,
    .height = SIDE,
    .width = SIDE,
    .labels = labels,
    .label_count = 1,
    .loss_parts = loss_parts,
    .loss_count = 1,
    .capacity = CAPACITY,
    .images = images,
    .distance_mm = distance_mm,
    .target_status = target_status,
    .blocks = blocks,
    .block_count = 1,
    .kept = kept,
    .state = &field_state,
};

static const ft_link_port_t port = {
    .write = port_write,
    .ticks = port_ticks,
    .ticks_hz = port_ticks_hz,
    .overruns = port_overruns,
    .stack = port_stack,
    .reset = port_reset,
    .camera = port_camera,
    .tof = port_tof,
    .tof_power = port_tof_power,
    .window = 4096,
    .flash = port_flash,
};

static void line_write(const uint8_t *data, size_t count) {
    memcpy(line + line_bytes, data, count);
    line_bytes += count;
}

/* Small numbers, numbers near the limits of the tensors and of 32 bits, anything. */
static uint32_t wild(void) {
    static const uint32_t edges[] = {0,    1,    255,        256,        6911,       6912,      6913,
                                     9215, 9216, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF};
    switch (below(3)) {
    case 0:
        return below(16);
    case 1:
        return edges[below(sizeof edges / sizeof edges[0])] + below(3) - 1;
    default:
        return random_u32();
    }
}

/* Half of the payloads have the length that their type wants, and small indices. */
static size_t wild_payload(uint8_t *payload, size_t right) {
    const size_t bytes = below(2) && right <= FT_MAX_PAYLOAD ? right : below(FT_MAX_PAYLOAD + 1);
    for (size_t i = 0; i < bytes; i++) {
        payload[i] = (uint8_t)random_u32();
    }
    for (size_t i = below(4) ? 2 : 0; i + 4 <= bytes && i < 24; i += 4) {
        const uint32_t value = wild();
        memcpy(payload + i, &value, 4);
    }
    if (bytes >= 2 && below(4)) {
        payload[0] = (uint8_t)below(13);
        payload[1] = 0;
    }
    return bytes;
}

static uint16_t next_seq(uint16_t seq) {
    switch (below(40)) {
    case 0:
        return (uint16_t)random_u32();
    case 1:
    case 2:
        return seq;
    default:
        return (uint16_t)(seq + 1);
    }
}

static void make_frame(uint16_t *seq) {
    static const struct {
        uint8_t type, bytes;
    } kinds[] = {
        {FT_MSG_HELLO, FT_HELLO_REQUEST_SIZE},
        {FT_MSG_TENSOR, FT_TENSOR_REQUEST_SIZE},
        {FT_MSG_WRITE, FT_WRITE_REQUEST_SIZE},
        {FT_MSG_WRITE, FT_WRITE_REQUEST_SIZE + 8},
        {FT_MSG_WRITE, 200},
        {FT_MSG_READ, FT_READ_REQUEST_SIZE},
        {FT_MSG_READ, FT_READ_REQUEST_SIZE},
        {FT_MSG_INFER, FT_INFER_REQUEST_SIZE},
        {FT_MSG_STEP, FT_STEP_REQUEST_SIZE},
        {FT_MSG_HYPER, FT_HYPER_REQUEST_SIZE},
        {FT_MSG_RESET_WEIGHTS, 0},
        {FT_MSG_SET_STEP, FT_SET_STEP_REQUEST_SIZE},
        {FT_MSG_MEMORY, 0},
        {FT_MSG_SYNC, 0},
        {FT_MSG_REBOOT, 0},
        {FT_MSG_SLOT, FT_SLOT_REQUEST_SIZE},
        {FT_MSG_SAVE, 0},
        {FT_MSG_LOAD, FT_LOAD_REQUEST_SIZE},
        {FT_MSG_ERASE, 0},
        {FT_MSG_KEEP, FT_KEEP_REQUEST_SIZE},
        {FT_MSG_TAKE, 0},
        {FT_MSG_SET_SAMPLES, FT_SET_SAMPLES_REQUEST_SIZE},
        {FT_MSG_WORK, FT_WORK_REQUEST_SIZE},
        {FT_MSG_REST, 0},
        {FT_MSG_REST, 0},
        {FT_MSG_FIELD, 0},
        {FT_MSG_WRITE | FT_MSG_REPLY, 0},
        {0x55, 0},
    };
    const uint32_t kind = below(sizeof kinds / sizeof kinds[0]);
    uint8_t payload[FT_MAX_PAYLOAD];
    ft_encoder_t encoder = {.write = line_write};
    line_bytes = 0;
    *seq = next_seq(*seq);
    ft_encoder_begin(&encoder, kinds[kind].type, *seq);
    const size_t bytes = wild_payload(payload, kinds[kind].bytes);
    if (kinds[kind].type == FT_MSG_STEP && below(2)) {
        memcpy(payload, &firmware.step, sizeof firmware.step);
    }
    ft_encoder_put(&encoder, payload, bytes);
    ft_encoder_end(&encoder);
}

static void mutate_line(void) {
    switch (below(16)) {
    case 0: /* a flipped bit */
        line[below((uint32_t)line_bytes)] ^= (uint8_t)(1u << below(8));
        break;
    case 1: /* the end is missing */
        line_bytes = below((uint32_t)line_bytes);
        break;
    case 2: /* noise, longer than any frame at times */
        line_bytes = below(sizeof line);
        for (size_t i = 0; i < line_bytes; i++) {
            line[i] = (uint8_t)(below(below(2) ? 255 : 256) + 1);
        }
        break;
    default:
        break;
    }
}

static void feed_line(void) {
    size_t done = 0;
    while (done < line_bytes) {
        const size_t piece = 1 + below((uint32_t)(line_bytes - done));
        done += ft_firmware_feed(&firmware, line + done, piece);
        ft_firmware_poll(&firmware);
    }
}

/* A session with the number after the board's, so that frames are not only refused. */
static void say_hello(uint16_t seq) {
    ft_encoder_t encoder = {.write = line_write};
    uint8_t payload[FT_HELLO_REQUEST_SIZE] = {FT_PROTOCOL_VERSION};
    const uint32_t session = firmware.session + 1 ? firmware.session + 1 : 1;
    memcpy(payload + FT_HELLO_REQUEST_SESSION, &session, 4);
    line_bytes = 0;
    line_write((const uint8_t[]){0}, 1);
    ft_encoder_begin(&encoder, FT_MSG_HELLO, seq);
    ft_encoder_put(&encoder, payload, sizeof payload);
    ft_encoder_end(&encoder);
    feed_line();
}

static uint32_t read_only_crc(void) {
    uint32_t crc = FT_CRC_START;
    for (int i = 0; i < ft_model.tensor_count; i++) {
        const ft_tensor_t *tensor = &ft_model.tensors[i];
        if (tensor->role == FT_OUTPUT || tensor->role == FT_GRADIENT || tensor->role == FT_ARENA) {
            crc = ft_crc32(crc, tensor->data, tensor->bytes);
        }
    }
    return crc;
}

/* The model computes nothing here: whatever changes, a frame has changed it. */
static void nothing(void) {}
static void no_inference(uint32_t first, uint32_t end) {
    (void)first;
    (void)end;
}
static void no_step(uint32_t first, uint32_t end, const ft_hyper_t *hyper, float *losses) {
    (void)first;
    (void)end;
    losses[0] = losses[1] = hyper->lr;
}

int main(int argc, char **argv) {
    const long frames = argc > 2 ? atol(argv[1]) : 0;
    ft_model_t model = ft_model;
    uint16_t seq = 0;
    uint32_t learned = 0;
    state = argc > 2 ? (uint32_t)atol(argv[2]) : 1;
    model.reset();
    model.reset = nothing;
    model.infer = no_inference;
    model.step = no_step;
    model.field = state % 2 ? NULL : &field;
    ft_firmware_init(&firmware, &model, &port);
    const uint32_t crc = read_only_crc();
    for (long frame = 0; frame < frames; frame++) {
        if (frame % 50 == 25) {
            say_hello(++seq);
        }
        make_frame(&seq);
        mutate_line();
        feed_line();
        for (uint32_t k = below(20); k > 0; k--) {
            ft_firmware_work(&firmware);
            learned += field_state.phase == FT_LEARNING && field_state.learned > 0;
        }
        if (frame % 16 == 0 && (!model.intact() || !flash_intact() || read_only_crc() != crc)) {
            fprintf(stderr, "frame %ld has written outside of its tensor\n", frame);
            return 1;
        }
    }
    printf("%ld frames, %lu bad, %u resets, %lu bytes answered\n", frames, (unsigned long)firmware.bad_frames,
           resets, (unsigned long)bytes_sent);
    if (model.field != NULL && learned == 0) {
        fprintf(stderr, "the board has never learned on its own\n");
        return 1;
    }
    return firmware.bad_frames == 0 || resets == 0 || saves == 0 || !flash_intact() || !model.intact() ||
           read_only_crc() != crc;
}
