#include "store.h"

#include <string.h>
#include "bytes.h"
#include "frame.h"

#define MAGIC 0x31575446u /* "FTW1" */

/* Offsets in the header. */
#define AT_MAGIC    0
#define AT_SEQUENCE 4
#define AT_MODEL    8
#define AT_PLAN     12
#define AT_STEP     16
#define AT_BYTES    20
#define AT_SET_CRC  24
#define AT_SET_ZERO 28
#define AT_ZEROS    32
#define AT_CRC      36

/* --- layout and checks
 * ------------------------------------------------------------------------------------------ */

/* What tells that bytes are those that were meant: the count of 0 bits for damage in one direction, the CRC
 * for all other. */
typedef struct {
    uint32_t crc, zeros;
} digest_t;

static void add_to_digest(digest_t *digest, const uint8_t *data, uint32_t count) {
    digest->crc = ft_crc32(digest->crc, data, count);
    for (uint32_t i = 0; i < count; i++) {
        digest->zeros += 8;
        for (unsigned ones = data[i]; ones != 0; ones &= ones - 1) {
            digest->zeros--;
        }
    }
}

static digest_t digest_of(const uint8_t *data, uint32_t count) {
    digest_t digest = {FT_CRC_START, 0};
    add_to_digest(&digest, data, count);
    digest.crc = ~digest.crc;
    return digest;
}

static uint32_t round_up(uint32_t size, uint32_t multiple) {
    return (size + multiple - 1) / multiple * multiple;
}

static uint32_t header_bytes(const ft_flash_t *flash) {
    return round_up(FT_STORE_HEADER_BYTES, flash->unit_bytes);
}

static uint32_t slot_bytes(const ft_flash_t *flash) {
    return flash->bytes / 2;
}

static int is_stored(const ft_tensor_t *tensor) {
    return tensor->role == FT_WEIGHT || tensor->role == FT_RANGE;
}

uint32_t ft_store_set_bytes(const ft_model_t *model) {
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        bytes += is_stored(&model->tensors[i]) ? model->tensors[i].bytes : 0;
    }
    return bytes;
}

uint32_t ft_store_room(const ft_flash_t *flash) {
    return slot_bytes(flash) - header_bytes(flash);
}

/* --- reading
 * ---------------------------------------------------------------------------------------------------- */

/* Reads bytes one after another, a unit at a time. */
typedef struct {
    const ft_flash_t *flash;
    uint32_t offset; /* of the next unit */
    uint32_t left;   /* bytes at the end of `unit` that are yet to be taken */
    int failed;
    uint32_t unit[FT_STORE_LARGEST_UNIT / 4]; /* words: some parts give no others */
} reader_t;

static reader_t reader_at(const ft_flash_t *flash, uint32_t offset) {
    return (reader_t){flash, offset, 0, 0, {0}};
}

/* The next bytes, at most `most` of them: `count` says how many. */
static const uint8_t *next_bytes(reader_t *reader, uint32_t most, uint32_t *count) {
    const ft_flash_t *flash = reader->flash;
    uint8_t *unit = (uint8_t *)reader->unit;
    if (reader->left == 0) {
        reader->failed |= !flash->read(reader->offset, unit);
        reader->offset += flash->unit_bytes;
        reader->left = flash->unit_bytes;
    }
    const uint8_t *bytes = unit + flash->unit_bytes - reader->left;
    *count = reader->left < most ? reader->left : most;
    reader->left -= *count;
    return bytes;
}

static void get(reader_t *reader, uint8_t *data, uint32_t bytes) {
    for (uint32_t count; bytes > 0; bytes -= count, data += count) {
        const uint8_t *next = next_bytes(reader, bytes, &count);
        memcpy(data, next, count);
    }
}

static int is_blank(const uint8_t *data, uint32_t count) {
    while (count > 0 && *data == 0xFF) {
        data++;
        count--;
    }
    return count == 0;
}

static int header_is_whole(const uint8_t *header) {
    return ft_get_u32(header + AT_MAGIC) == MAGIC &&
           ft_get_u32(header + AT_ZEROS) == digest_of(header, AT_ZEROS).zeros &&
           ft_get_u32(header + AT_CRC) == digest_of(header, AT_CRC).crc;
}

/* The payload in the slot that begins at `start`. */
static int payload_is_whole(const ft_flash_t *flash, const uint8_t *header, uint32_t start) {
    uint32_t bytes = ft_get_u32(header + AT_BYTES);
    if (bytes > ft_store_room(flash)) {
        return 0;
    }
    reader_t reader = reader_at(flash, start + header_bytes(flash));
    digest_t digest = {FT_CRC_START, 0};
    for (uint32_t count; bytes > 0; bytes -= count) {
        const uint8_t *next = next_bytes(&reader, bytes, &count);
        add_to_digest(&digest, next, count);
    }
    return !reader.failed && ~digest.crc == ft_get_u32(header + AT_SET_CRC) &&
           digest.zeros == ft_get_u32(header + AT_SET_ZERO);
}

/* A slot by itself: a set of this firmware's is FT_SLOT_OLDER until the other slot is known. */
static ft_slot_t look_at(const ft_flash_t *flash, const ft_model_t *model, uint32_t start) {
    ft_slot_t slot = {FT_SLOT_BROKEN, 0, 0, 0, 0, 0};
    uint8_t header[FT_STORE_HEADER_BYTES];
    reader_t reader = reader_at(flash, start);
    get(&reader, header, sizeof header);
    if (reader.failed) {
        return slot;
    }
    if (is_blank(header, FT_STORE_HEADER_BYTES)) {
        slot.state = FT_SLOT_EMPTY;
    } else if (header_is_whole(header) && payload_is_whole(flash, header, start)) {
        slot.sequence = ft_get_u32(header + AT_SEQUENCE);
        slot.model_hash = ft_get_u32(header + AT_MODEL);
        slot.plan_hash = ft_get_u32(header + AT_PLAN);
        slot.step = ft_get_u32(header + AT_STEP);
        slot.bytes = ft_get_u32(header + AT_BYTES);
        const int own = slot.model_hash == model->model_hash && slot.plan_hash == model->plan_hash &&
                        slot.bytes == ft_store_set_bytes(model);
        slot.state = own ? FT_SLOT_OLDER : FT_SLOT_FOREIGN;
    }
    return slot;
}

static int is_newer(const ft_slot_t *a, const ft_slot_t *b) {
    return a->sequence - b->sequence < 0x80000000u;
}

void ft_store_look(const ft_flash_t *flash, const ft_model_t *model, ft_slot_t slots[2]) {
    for (uint32_t i = 0; i < 2; i++) {
        slots[i] = look_at(flash, model, i * slot_bytes(flash));
    }
    const int own[2] = {slots[0].state == FT_SLOT_OLDER, slots[1].state == FT_SLOT_OLDER};
    if (own[0] && (!own[1] || is_newer(&slots[0], &slots[1]))) {
        slots[0].state = FT_SLOT_NEWEST;
    } else if (own[1]) {
        slots[1].state = FT_SLOT_NEWEST;
    }
}

ft_store_result_t ft_store_load(const ft_flash_t *flash, const ft_model_t *model, int older,
                                ft_slot_t *found) {
    const ft_slot_state_t wanted = older ? FT_SLOT_OLDER : FT_SLOT_NEWEST;
    ft_slot_t slots[2];
    ft_store_look(flash, model, slots);
    const uint32_t index = slots[1].state == wanted;
    if (slots[index].state != wanted) {
        return FT_STORE_NOTHING;
    }
    reader_t reader = reader_at(flash, index * slot_bytes(flash) + header_bytes(flash));
    model->reset();
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        if (is_stored(&model->tensors[i])) {
            get(&reader, model->tensors[i].data, model->tensors[i].bytes);
        }
    }
    if (reader.failed) {
        model->reset();
        return FT_STORE_FAILED;
    }
    *found = slots[index];
    return FT_STORE_DONE;
}

/* --- writing
 * ---------------------------------------------------------------------------------------------------- */

/* Programs bytes as they come, a unit at a time, and reads each back. */
typedef struct {
    const ft_flash_t *flash;
    uint32_t offset; /* of the next unit */
    uint32_t filled;
    int failed;
    digest_t digest;
    uint32_t unit[FT_STORE_LARGEST_UNIT / 4]; /* words: some parts take no others */
} writer_t;

static writer_t writer_at(const ft_flash_t *flash, uint32_t offset) {
    return (writer_t){flash, offset, 0, 0, {FT_CRC_START, 0}, {0}};
}

static void program_unit(writer_t *writer) {
    const ft_flash_t *flash = writer->flash;
    const uint8_t *unit = (const uint8_t *)writer->unit;
    uint32_t there[FT_STORE_LARGEST_UNIT / 4];
    if (!writer->failed) {
        writer->failed = !flash->program(writer->offset, unit) ||
                         !flash->read(writer->offset, (uint8_t *)there) ||
                         memcmp(there, unit, flash->unit_bytes) != 0;
    }
    writer->offset += flash->unit_bytes;
    writer->filled = 0;
}

static void put(writer_t *writer, const uint8_t *data, uint32_t count) {
    uint8_t *unit = (uint8_t *)writer->unit;
    add_to_digest(&writer->digest, data, count);
    for (uint32_t i = 0; i < count; i++) {
        unit[writer->filled++] = data[i];
        if (writer->filled == writer->flash->unit_bytes) {
            program_unit(writer);
        }
    }
}

/* The last unit is filled up with what it is when erased. */
static void finish(writer_t *writer) {
    uint8_t *unit = (uint8_t *)writer->unit;
    if (writer->filled > 0) {
        memset(unit + writer->filled, 0xFF, writer->flash->unit_bytes - writer->filled);
        program_unit(writer);
    }
    writer->digest.crc = ~writer->digest.crc;
}

static int erase_from(const ft_flash_t *flash, uint32_t offset, uint32_t bytes) {
    for (uint32_t done = 0; done < bytes; done += flash->sector_bytes) {
        if (!flash->erase(offset + done)) {
            return 0;
        }
    }
    return 1;
}

/* The slot that a save may erase: never the newest set's, and none with another plan's set while there is one
 * without. */
static uint32_t slot_to_write(const ft_slot_t slots[2]) {
    if (slots[0].state == FT_SLOT_NEWEST || slots[1].state == FT_SLOT_NEWEST) {
        return slots[0].state == FT_SLOT_NEWEST;
    }
    if (slots[0].state == FT_SLOT_FOREIGN && slots[1].state == FT_SLOT_FOREIGN) {
        return (uint32_t)is_newer(&slots[0], &slots[1]);
    }
    return slots[0].state == FT_SLOT_FOREIGN;
}

static uint32_t next_sequence(const ft_slot_t slots[2]) {
    for (int i = 0; i < 2; i++) {
        if (slots[i].state == FT_SLOT_NEWEST) {
            return slots[i].sequence + 1 != 0 ? slots[i].sequence + 1 : 1;
        }
    }
    return 1;
}

static writer_t write_payload(const ft_flash_t *flash, const ft_model_t *model, uint32_t start) {
    writer_t writer = writer_at(flash, start);
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        if (is_stored(&model->tensors[i])) {
            put(&writer, model->tensors[i].data, model->tensors[i].bytes);
        }
    }
    finish(&writer);
    return writer;
}

static int write_header(const ft_flash_t *flash, uint32_t offset, uint8_t *header) {
    writer_t writer = writer_at(flash, offset);
    ft_put_u32(header + AT_MAGIC, MAGIC);
    ft_put_u32(header + AT_ZEROS, digest_of(header, AT_ZEROS).zeros);
    ft_put_u32(header + AT_CRC, digest_of(header, AT_CRC).crc);
    put(&writer, header, FT_STORE_HEADER_BYTES);
    finish(&writer);
    return !writer.failed;
}

ft_store_result_t ft_store_save(const ft_flash_t *flash, const ft_model_t *model, uint32_t step,
                                uint32_t *sequence) {
    const uint32_t bytes = ft_store_set_bytes(model);
    const uint32_t payload = header_bytes(flash);
    uint8_t header[FT_STORE_HEADER_BYTES];
    ft_slot_t slots[2];
    if (bytes > ft_store_room(flash)) {
        return FT_STORE_TOO_SMALL;
    }
    ft_store_look(flash, model, slots);
    const uint32_t start = slot_to_write(slots) * slot_bytes(flash);
    if (!erase_from(flash, start, payload + bytes)) {
        return FT_STORE_FAILED;
    }
    const writer_t written = write_payload(flash, model, start + payload);
    ft_put_u32(header + AT_SEQUENCE, next_sequence(slots));
    ft_put_u32(header + AT_MODEL, model->model_hash);
    ft_put_u32(header + AT_PLAN, model->plan_hash);
    ft_put_u32(header + AT_STEP, step);
    ft_put_u32(header + AT_BYTES, bytes);
    ft_put_u32(header + AT_SET_CRC, written.digest.crc);
    ft_put_u32(header + AT_SET_ZERO, written.digest.zeros);
    if (written.failed || !payload_is_whole(flash, header, start) || !write_header(flash, start, header)) {
        return FT_STORE_FAILED;
    }
    *sequence = ft_get_u32(header + AT_SEQUENCE);
    return FT_STORE_DONE;
}

ft_store_result_t ft_store_erase(const ft_flash_t *flash, const ft_model_t *model) {
    ft_slot_t slots[2];
    ft_store_look(flash, model, slots);
    const uint32_t last = slots[1].state == FT_SLOT_NEWEST;
    const uint32_t bytes = slot_bytes(flash);
    const int done = erase_from(flash, (1 - last) * bytes, bytes) && erase_from(flash, last * bytes, bytes);
    return done ? FT_STORE_DONE : FT_STORE_FAILED;
}

int ft_store_is_better(float before, float after) {
    return after < before || (after == after && before != before);
}
