/* Keeps emulated flash in a file: FT_NATIVE_FLASH names it, else it lies beside the program. It comes into
 * being with the first erase or program.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "emulated_flash.h"

static ft_flash_memory_t *memory;

static void find_file(char path[PATH_MAX]) {
    const char *named = getenv("FT_NATIVE_FLASH");
    if (named != NULL) {
        snprintf(path, PATH_MAX, "%s", named);
        return;
    }
    const char *const suffix = ".flash";
    const ssize_t count = readlink("/proc/self/exe", path, PATH_MAX - sizeof ".flash");
    strcpy(path + (count < 0 ? 0 : count), suffix);
}

static int open_file(int flags) {
    char path[PATH_MAX];
    find_file(path);
    return open(path, flags | O_CLOEXEC, 0666);
}

/* What a file that is not there, or too short, does not have is erased. */
static void read_file(void) {
    memset(memory->data, 0xFF, sizeof memory->data);
    const int file = open_file(O_RDONLY);
    if (file < 0) {
        return;
    }
    uint8_t *at = (uint8_t *)memory;
    const uint8_t *const end = at + sizeof *memory;
    ssize_t count = 1;
    while (at < end && count > 0) {
        count = read(file, at, (size_t)(end - at));
        at += count > 0 ? count : 0;
    }
    close(file);
}

ft_flash_memory_t *ft_flash_memory(void) {
    if (memory == NULL) {
        void *pages = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED) {
            perror("flash");
            exit(1);
        }
        memory = pages;
        read_file();
    }
    return memory;
}

static int write_all(int file, uint32_t offset, uint32_t count) {
    const uint8_t *at = (const uint8_t *)memory + offset;
    while (count > 0) {
        const ssize_t written = pwrite(file, at, count, (off_t)offset);
        if (written <= 0) {
            return 0;
        }
        at += written;
        offset += (uint32_t)written;
        count -= (uint32_t)written;
    }
    return 1;
}

int ft_flash_keep(uint32_t offset, uint32_t count) {
    const int file = open_file(O_WRONLY | O_CREAT);
    if (file < 0) {
        return 0;
    }
    /* A hole in a file reads as zeros, and erased flash is ones: the file is filled up before it is used. */
    const off_t size = lseek(file, 0, SEEK_END);
    const int kept = (size >= (off_t)sizeof *memory ||
                      write_all(file, (uint32_t)size, (uint32_t)(sizeof *memory - (size_t)size))) &&
                     write_all(file, offset, count);
    close(file);
    return kept;
}
