#include "cluster/l3.h"
#include <pmsis.h>
#include <stddef.h>
#include "l3_devices.h"

#define ALIGNMENT 16u
#define CHUNK     4096u /* of the copy from flash */
#define NO_PIECE  UINT32_MAX

static const ft_l3_t *l3;
static struct pi_device ram;
static uint32_t base; /* of the pieces in L3 */

/* Of a buffer: the piece that it holds or that is on its way to it, and how to wait for it. */
typedef struct {
    uint32_t piece;
    int coming;
    pi_cl_ram_req_t request;
} room_t;

static PI_L2 room_t rooms[FT_L3_BUFFERS];
static const ft_l3_use_t *next, *end_of_run;

/* --- on the fabric controller */

static void need(int is_right, int code) {
    if (!is_right) {
        pmsis_exit(code);
    }
}

static pi_fs_file_t *open_file(void) {
    static struct pi_default_flash_conf flash_conf;
    static struct pi_readfs_conf files_conf;
    static struct pi_device flash, files;
    pi_default_flash_conf_init(&flash_conf);
    pi_open_from_conf(&flash, &flash_conf);
    need(pi_flash_open(&flash) == 0, -3);
    pi_readfs_conf_init(&files_conf);
    files_conf.fs.flash = &flash;
    pi_open_from_conf(&files, &files_conf);
    need(pi_fs_mount(&files) == 0, -4);
    pi_fs_file_t *const file = pi_fs_open(&files, l3->file, 0);
    need(file != NULL && file->size == l3->bytes, -5);
    return file;
}

static void open_ram(void) {
    static struct pi_default_ram_conf conf;
    pi_default_ram_conf_init(&conf);
    pi_open_from_conf(&ram, &conf);
    need(pi_ram_open(&ram) == 0, -6);
    need(pi_ram_alloc(&ram, &base, l3->bytes + ALIGNMENT) == 0, -6); /* aligned to 4 */
    base = (base + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

typedef struct {
    uint32_t a, b;
} adler_t;

static void add(adler_t *sum, const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        sum->a = (sum->a + bytes[i]) % 65521u;
        sum->b = (sum->b + sum->a) % 65521u;
    }
}

void ft_l3_open(const ft_l3_t *wanted) {
    adler_t sum = {1, 0};
    if (l3 != NULL) {
        return;
    }
    l3 = wanted;
    pi_fs_file_t *const file = open_file();
    open_ram();
    uint8_t *const staging = l3->buffers[0];
    const uint32_t most = l3->first_bytes < CHUNK ? l3->first_bytes : CHUNK;
    for (uint32_t at = 0; at < l3->bytes; at += most) {
        const uint32_t left = l3->bytes - at, some = left < most ? left : most;
        need(pi_fs_read(file, staging, some) == (int32_t)some, -5);
        pi_ram_write(&ram, base + at, staging, some);
        pi_ram_read(&ram, base + at, staging, some); /* what lies there is what counts */
        add(&sum, staging, some);
    }
    pi_fs_close(file);
    need((sum.b << 16 | sum.a) == l3->checksum, -7);
}

/* --- on the master */

/* Has the piece come to its buffer, unless it is there or on its way. */
static void request(uint32_t number) {
    const ft_l3_piece_t *const piece = &l3->pieces[number];
    room_t *const room = &rooms[piece->buffer];
    if (room->piece == number) {
        return;
    }
    room->piece = number;
    room->coming = 1;
    pi_cl_ram_read(&ram, base + piece->from, l3->buffers[piece->buffer], piece->bytes, &room->request);
}

void ft_l3_begin(const ft_l3_use_t *uses, uint32_t count, uint32_t first, uint32_t end) {
    uint32_t from = 0;
    while (from < count && uses[from].part < first) {
        from++;
    }
    uint32_t to = from;
    while (to < count && uses[to].part < end) {
        to++;
    }
    next = uses + from;
    end_of_run = uses + to;
    for (int k = 0; k < FT_L3_BUFFERS; k++) {
        rooms[k].piece = NO_PIECE; /* each run takes the same time */
    }
    if (next != end_of_run) {
        request(next->piece);
    }
}

void ft_l3_bring(uint32_t part) {
    if (next == end_of_run || next->part != part) {
        return;
    }
    const uint32_t piece = next->piece;
    room_t *const room = &rooms[l3->pieces[piece].buffer];
    request(piece);
    if (room->coming) {
        pi_cl_ram_read_wait(&room->request);
        room->coming = 0;
    }
    next++;
    if (next != end_of_run && &rooms[l3->pieces[next->piece].buffer] != room) {
        request(next->piece); /* else it waits until this part is over */
    }
}
