/* The part of <string.h> that generated firmware uses, so that no C library has to be installed. */
#ifndef FT_STRING_H
#define FT_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *left, const void *right, size_t count);

#endif
