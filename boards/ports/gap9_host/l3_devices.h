/* The vendor's calls for flash, its files and RAM outside the chip that our C for GAP9 uses, and no others:
 * as pmsis.h has those for the chip. In the vendor's kit they are in headers of its own
 * (gap9_evk/l3_devices.h).
 */
#ifndef FT_L3_DEVICES_H
#define FT_L3_DEVICES_H

#include "pmsis.h"

/* --- flash and the file system in it, which can only be read: from the fabric controller -----------------
 */

struct pi_default_flash_conf {
    int unused;
};

void pi_default_flash_conf_init(struct pi_default_flash_conf *conf);
int pi_flash_open(struct pi_device *device);

struct pi_fs_conf {
    struct pi_device *flash;
};

struct pi_readfs_conf {
    struct pi_fs_conf fs;
};

typedef struct pi_fs_file_s {
    uint32_t size;
} pi_fs_file_t;

void pi_readfs_conf_init(struct pi_readfs_conf *conf);
int pi_fs_mount(struct pi_device *device);
/* NULL: there is none of that name. Here it is one beside the folder of the program: in the C project. */
pi_fs_file_t *pi_fs_open(struct pi_device *device, const char *name, int flags);
void pi_fs_close(pi_fs_file_t *file);
/* Returns how many bytes have come to L2: less than `size` at the file's end. */
int32_t pi_fs_read(pi_fs_file_t *file, void *buffer, uint32_t size);

/* --- RAM outside the chip --------------------------------------------------------------------------------
 */

struct pi_default_ram_conf {
    int unused;
};

void pi_default_ram_conf_init(struct pi_default_ram_conf *conf);
int32_t pi_ram_open(struct pi_device *device);
/* Returns 0 when there is room; aligned to 4 bytes. */
int pi_ram_alloc(struct pi_device *device, uint32_t *address, uint32_t size);
/* From the fabric controller, between this RAM and L2. */
void pi_ram_read(struct pi_device *device, uint32_t address, void *data, uint32_t size);
void pi_ram_write(struct pi_device *device, uint32_t address, void *data, uint32_t size);

typedef struct pi_cl_ram_req_s {
    int id;
} pi_cl_ram_req_t;

/* From the cluster, to L2. It is over when pi_cl_ram_read_wait returns: until then the target must not be
 * touched, and `request` must stay where it is. */
void pi_cl_ram_read(struct pi_device *device, uint32_t address, void *data, uint32_t size,
                    pi_cl_ram_req_t *request);
void pi_cl_ram_read_wait(pi_cl_ram_req_t *request);

#endif
