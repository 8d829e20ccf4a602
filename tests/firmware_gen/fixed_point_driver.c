/* Triples (x, multiplier, shift) of int32 from stdin through ft_requantize, to stdout (host order). */
#include "kernels/fixed_point.h"
#include <stdio.h>

int main(void) {
    int32_t in[3];
    while (fread(in, sizeof in, 1, stdin) == 1) {
        const int32_t y = ft_requantize(in[0], in[1], in[2]);
        fwrite(&y, sizeof y, 1, stdout);
    }
    return 0;
}
