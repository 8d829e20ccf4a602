/* A component without a host, as C and as C++: samples come from standard input, and after two training steps
 * losses and an inference's output go to standard output. */
#include <fieldtune.h>
#include <stdio.h>

static void get(void *to, size_t bytes) {
    if (fread(to, 1, bytes, stdin) != bytes) {
        fprintf(stderr, "too few bytes\n");
    }
}

static void sample(void) {
    get(ft_input_image(), FT_INPUT_IMAGE_COUNT * sizeof *ft_input_image());
    get(ft_label_depth(), FT_LABEL_DEPTH_COUNT * sizeof *ft_label_depth());
    get(ft_mask_depth(), FT_MASK_DEPTH_COUNT * sizeof *ft_mask_depth());
}

int main(void) {
    const ft_hyper_t hyper = ft_hyper(0.0625f);
    float losses[FT_LOSS_COUNT];
    ft_init();
    for (int step = 0; step < 2; step++) {
        sample();
        ft_train_step(&hyper, losses);
        fwrite(losses, sizeof losses, 1, stdout);
    }
    sample();
    ft_infer();
    fwrite(ft_output_depth(), sizeof *ft_output_depth(), FT_OUTPUT_DEPTH_COUNT, stdout);
    return 0;
}
