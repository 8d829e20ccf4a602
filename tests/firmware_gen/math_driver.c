/* Values from stdin through the function that the first argument names, to stdout (float32, host order). */
#include "kernels/ft_math.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    float x;
    if (argc != 2)
        return 2;
    while (fread(&x, sizeof x, 1, stdin) == 1) {
        const float y = strcmp(argv[1], "expf") == 0    ? ft_expf(x)
                        : strcmp(argv[1], "logf") == 0  ? ft_logf(x)
                        : strcmp(argv[1], "tanhf") == 0 ? ft_tanhf(x)
                                                        : ft_sigmoidf(x);
        fwrite(&y, sizeof y, 1, stdout);
    }
    return 0;
}
