/* RAM outside the chip, and the flash that has files for it. What the cluster reads comes as late as it may
 * (late.c). The RAM lies where the system has room: the addresses that the program is given lead nowhere.
 */
#define _GNU_SOURCE
#include "l3_devices.h"
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shim.h"

#ifndef FT_PORT_L3_BYTES
#define FT_PORT_L3_BYTES 0u /* the board has none */
#endif
#define ALIGNMENT 4u /* of addresses and sizes: what the kit promises and what the chip's own DMA wants */
#define PAGE      2048u
#define LEAST     5u /* bytes before the end of a page with which a transfer may begin: see check_place */
#define MOST      8  /* reads at once */

typedef struct {
    pi_cl_ram_req_t *request; /* NULL: free */
    uint32_t to, bytes;
    late_t copy;
} read_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *memory; /* NULL: not open */
static const struct pi_device *opened, *flash, *mounted;
static uint32_t used = ALIGNMENT; /* aligned to 4 and to no more: nobody is promised more */
static read_t *reads;             /* MOST */
static int descriptor = -1;
static pi_fs_file_t opened_file;

static void only_on_fc(const char *call) {
    if (shim_core() != SHIM_FC) {
        shim_fault("%s is for %s alone", call, shim_who(SHIM_FC));
    }
}

/* Returns the address of `data`, which all of `bytes` has to be L2 of the program's. */
static uint32_t check_l2(const char *call, const void *data, uint32_t bytes, int written) {
    const uintptr_t address = (uintptr_t)data;
    if (bytes == 0 || address > UINT32_MAX || !shim_is_usable_l2((uint32_t)address, bytes, written)) {
        shim_fault("%s has %p for its address in L2, and %u bytes there are no static data that it may use, "
                   "and are not allocated",
                   call, data, bytes);
    }
    return (uint32_t)address;
}

/* --- flash and its files */

void pi_default_flash_conf_init(struct pi_default_flash_conf *conf) {
    *conf = (struct pi_default_flash_conf){0};
}

int pi_flash_open(struct pi_device *device) {
    only_on_fc("pi_flash_open");
    flash = device;
    return FT_PORT_L3_BYTES > 0 ? 0 : -1;
}

void pi_readfs_conf_init(struct pi_readfs_conf *conf) {
    *conf = (struct pi_readfs_conf){{NULL}};
}

int pi_fs_mount(struct pi_device *device) {
    const struct pi_readfs_conf *const conf = device->config;
    only_on_fc("pi_fs_mount");
    mounted = conf->fs.flash != NULL && conf->fs.flash == flash ? device : NULL;
    return mounted != NULL ? 0 : -1;
}

/* The project's folder is the one above that of the program. */
static void find(const char *name, char *path, size_t room) {
    char program[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0) {
        shim_die("program");
    }
    program[length] = '\0';
    *strrchr(program, '/') = '\0';
    snprintf(path, room, "%s/../%s", program, name);
}

pi_fs_file_t *pi_fs_open(struct pi_device *device, const char *name, int flags) {
    char path[2 * PATH_MAX];
    struct stat found;
    only_on_fc("pi_fs_open");
    if (device != mounted || flags != 0 || descriptor >= 0) {
        return NULL;
    }
    find(name, path, sizeof path);
    descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &found) != 0) {
        perror(path);
        return NULL;
    }
    opened_file.size = (uint32_t)found.st_size;
    return &opened_file;
}

void pi_fs_close(pi_fs_file_t *file) {
    (void)file;
    close(descriptor);
    descriptor = -1;
}

int32_t pi_fs_read(pi_fs_file_t *file, void *buffer, uint32_t size) {
    only_on_fc("pi_fs_read");
    (void)file;
    check_l2("pi_fs_read", buffer, size, 1);
    return (int32_t)read(descriptor, buffer, size);
}

/* --- RAM */

void pi_default_ram_conf_init(struct pi_default_ram_conf *conf) {
    *conf = (struct pi_default_ram_conf){0};
}

int32_t pi_ram_open(struct pi_device *device) {
    only_on_fc("pi_ram_open");
    if (FT_PORT_L3_BYTES == 0 || memory != NULL) {
        return -1;
    }
    void *const apart = shim_pointer(SHIM_L3_BASE);
    if (mmap(apart, FT_PORT_L3_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) !=
        apart) {
        shim_die("L3");
    }
    memory = mmap(NULL, FT_PORT_L3_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        shim_die("L3");
    }
    opened = device;
    return 0;
}

int pi_ram_alloc(struct pi_device *device, uint32_t *address, uint32_t size) {
    only_on_fc("pi_ram_alloc");
    if (device != opened || size > FT_PORT_L3_BYTES - used) {
        return -1;
    }
    *address = SHIM_L3_BASE + used;
    memset(memory + used, SHIM_PATTERN, size);
    used += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return 0;
}

/* The evaluation kit's part was seen to wrap within a page where a transfer that goes on beyond the page has
 * begun 2 bytes before its end; 5 were enough. */
static void check_place(const char *call, const struct pi_device *device, uint32_t address, uint32_t to,
                        uint32_t bytes) {
    if (device != opened || memory == NULL) {
        shim_fault("%s is given a device that is no open RAM", call);
    }
    if (address < SHIM_L3_BASE || (uint64_t)address + bytes > (uint64_t)SHIM_L3_BASE + used) {
        shim_fault("%s has %#x for its address in L3, and %u bytes there are not allocated", call, address,
                   bytes);
    }
    if (address % ALIGNMENT != 0 || to % ALIGNMENT != 0 || bytes % ALIGNMENT != 0) {
        shim_fault("%s moves %u bytes between %#x in L3 and %#x in L2; all must be multiples of %u", call,
                   bytes, address, to, ALIGNMENT);
    }
    const uint32_t before = PAGE - address % PAGE;
    if (before < LEAST && bytes > before) {
        shim_fault("%s begins %u bytes before the end of a page of L3, and goes on beyond it", call, before);
    }
}

static uint8_t *place(uint32_t address) {
    return memory + (address - SHIM_L3_BASE);
}

void pi_ram_read(struct pi_device *device, uint32_t address, void *data, uint32_t size) {
    only_on_fc("pi_ram_read");
    check_place("pi_ram_read", device, address, check_l2("pi_ram_read", data, size, 1), size);
    memcpy(data, place(address), size);
}

void pi_ram_write(struct pi_device *device, uint32_t address, void *data, uint32_t size) {
    only_on_fc("pi_ram_write");
    check_place("pi_ram_write", device, address, check_l2("pi_ram_write", data, size, 0), size);
    memcpy(place(address), data, size);
}

/* With the lock held: a free one. */
static read_t *take(pi_cl_ram_req_t *request, uint32_t to, uint32_t bytes) {
    read_t *found = NULL;
    if (reads == NULL && (reads = calloc(MOST, sizeof *reads)) == NULL) {
        shim_die("L3");
    }
    for (int i = MOST - 1; i >= 0; i--) {
        read_t *const open = &reads[i];
        if (open->request == NULL) {
            found = open;
            continue;
        }
        if (open->request == request) {
            shim_fault("a read from L3 is given again that was not waited for");
        }
        if (to < open->to + open->bytes && open->to < to + bytes) {
            shim_fault("a read from L3 and one that was not waited for share bytes of L2");
        }
    }
    if (found == NULL) {
        shim_fault("%d reads from L3 are not waited for; the shim has room for no more", MOST);
    }
    found->request = request;
    found->to = to;
    found->bytes = bytes;
    request->id = (int)(found - reads);
    return found;
}

void pi_cl_ram_read(struct pi_device *device, uint32_t address, void *data, uint32_t size,
                    pi_cl_ram_req_t *request) {
    if (shim_core() == SHIM_FC) {
        shim_fault("pi_cl_ram_read is for the cluster's cores");
    }
    const uint32_t to = check_l2("pi_cl_ram_read", data, size, 1);
    check_place("pi_cl_ram_read", device, address, to, size);
    if (shim_dma_moves(to, size)) {
        shim_fault(
            "a read from L3 has bytes of L2 for its target that a DMA command which was not waited for "
            "moves");
    }
    pthread_mutex_lock(&lock);
    read_t *const new = take(request, to, size);
    pthread_mutex_unlock(&lock);
    late_t *const copy = &new->copy;
    snprintf(copy->what, sizeof copy->what, "a read from L3 (%u bytes)", size);
    copy->to = data;
    copy->from = place(address);
    copy->to_stride = copy->from_stride = copy->length = size;
    copy->lines = 1;
    shim_late_begin(copy);
}

void pi_cl_ram_read_wait(pi_cl_ram_req_t *request) {
    pthread_mutex_lock(&lock);
    read_t *const open = reads != NULL && request->id >= 0 && request->id < MOST ? &reads[request->id] : NULL;
    if (open == NULL || open->request != request) {
        shim_fault("a read from L3 is waited for that is not open: waited for twice, or never given");
    }
    pthread_mutex_unlock(&lock);
    shim_late_end(&open->copy);
    pthread_mutex_lock(&lock);
    open->request = NULL;
    request->id = -1;
    pthread_mutex_unlock(&lock);
}

int shim_comes_from_l3(uint32_t address, uint32_t bytes) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; reads != NULL && i < MOST; i++) {
        const read_t *const open = &reads[i];
        found |= open->request != NULL && address < open->to + open->bytes && open->to < address + bytes;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

void shim_check_l3(void) {
    for (int i = 0; reads != NULL && i < MOST; i++) {
        if (reads[i].request != NULL) {
            shim_fault("%s was not waited for when the cluster's task ended", reads[i].copy.what);
        }
    }
}
