#include "program.h"
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"

uint64_t *program_executed;
uint32_t program_start, program_bytes;

static uint8_t *file;
static size_t file_bytes;

static void *in_file(size_t offset, size_t size) {
    if (offset > file_bytes || size > file_bytes - offset)
        core_fail("the file is cut off");
    return file + offset;
}

static void read_file(const char *path) {
    FILE *stream = fopen(path, "rb");
    if (stream == NULL)
        core_fail("cannot open %s", path);
    fseek(stream, 0, SEEK_END);
    file_bytes = (size_t)ftell(stream);
    rewind(stream);
    file = malloc(file_bytes + 1);
    if (file == NULL || fread(file, 1, file_bytes, stream) != file_bytes)
        core_fail("cannot read %s", path);
    fclose(stream);
}

static void load_segment(const Elf32_Phdr *segment) {
    const uint8_t *const bytes = in_file(segment->p_offset, segment->p_filesz);
    for (uint32_t k = 0; k < segment->p_memsz; k++) {
        uint8_t *const to = machine_memory(segment->p_paddr + k, 1);
        if (to == NULL)
            core_fail("address 0x%08x of the program lies outside memory", segment->p_paddr + k);
        *to = k < segment->p_filesz ? bytes[k] : 0;
    }
}

uint32_t program_load(const char *path) {
    read_file(path);
    const Elf32_Ehdr *header = in_file(0, sizeof *header);
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS32 ||
        header->e_machine != EM_RISCV)
        core_fail("%s is no ELF file for 32-bit RISC-V", path);
    uint32_t end = 0;
    program_start = UINT32_MAX;
    for (int k = 0; k < header->e_phnum; k++) {
        const Elf32_Phdr *segment = in_file(header->e_phoff + (size_t)k * sizeof *segment, sizeof *segment);
        if (segment->p_type != PT_LOAD || segment->p_memsz == 0)
            continue;
        load_segment(segment);
        if (segment->p_paddr < program_start)
            program_start = segment->p_paddr;
        if (segment->p_paddr + segment->p_memsz > end)
            end = segment->p_paddr + segment->p_memsz;
    }
    program_bytes = end > program_start ? end - program_start : 0;
    program_executed = calloc(program_bytes / 2 + 1, sizeof *program_executed);
    if (program_executed == NULL)
        core_fail("no memory");
    return header->e_entry;
}

static uint64_t executed_in(const Elf32_Sym *function) {
    uint64_t count = 0;
    for (uint32_t place = function->st_value; place < function->st_value + function->st_size; place += 2)
        if (place - program_start < program_bytes)
            count += program_executed[(place - program_start) / 2];
    return count;
}

void program_profile(const char *path) {
    FILE *out = fopen(path, "w");
    if (out == NULL)
        core_fail("cannot write %s", path);
    const Elf32_Ehdr *header = in_file(0, sizeof *header);
    const Elf32_Shdr *sections = in_file(header->e_shoff, header->e_shnum * sizeof *sections);
    for (int k = 0; k < header->e_shnum; k++) {
        if (sections[k].sh_type != SHT_SYMTAB)
            continue;
        const Elf32_Shdr names = sections[sections[k].sh_link];
        const Elf32_Sym *symbols = in_file(sections[k].sh_offset, sections[k].sh_size);
        for (uint32_t n = 0; n < sections[k].sh_size / sizeof *symbols; n++) {
            if (ELF32_ST_TYPE(symbols[n].st_info) != STT_FUNC)
                continue;
            const uint64_t count = executed_in(&symbols[n]);
            if (count > 0)
                fprintf(out, "%llu %s\n", (unsigned long long)count,
                        (const char *)in_file(names.sh_offset + symbols[n].st_name, 1));
        }
    }
    fclose(out);
}
