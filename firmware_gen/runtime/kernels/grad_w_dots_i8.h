/* Weight gradients of int8 layers as scalar products over pixels: of a row of x values for each input channel
 * and one of dy for each output channel, which are gathered in scratch, some rows of the map at a time. The
 * sums of ft_conv2d_grad_w_i8, and so its bits.
 *
 * Included by the header of an instruction set, which says before how values are gathered and multiplied:
 *     ft_dot_t, FT_DOT_STEP: type of a gathered value; how many a product takes at once
 *     ft_dots_gather(to, pitch, from, channels, ys, xs): row c of `to`, `pitch` apart, gets channel c
 *     ft_dots_sum(row, count): the sum of a row
 *     ft_dots_2x2(x0, x1, dy0, dy1, count, sums): the four scalar products of two rows and two
 * `count` is a multiple of FT_DOT_STEP. */
#ifndef FT_GRAD_W_DOTS_I8_H
#define FT_GRAD_W_DOTS_I8_H

/* The gradients of group n of a tap, see ft_conv2d_grad_w_dots_i8; `at`: of its first weight in the sink.
 * Cores gather channels of their own, sum blocks of 2 x 2 weights of their own, and finish vectors of weights
 * of their own: between these they meet. */
FT_INLINE void ft_group_grad_w_dots_i8(ft_tap_i8_t tap, int n, int32_t zero, float unit, ft_sink_t to, int at,
                                       int pitch, ft_conv_t conv, int height, int row_length, int8_t *scratch,
                                       ft_cores_t cores) {
    const int in = conv.in, out = conv.out, outs = (out + 1) / 2, vectors = (out + FT_LANES - 1) / FT_LANES;
    int32_t *acc = (int32_t *)(void *)scratch, *totals = acc + in * out;
    ft_dot_t *x = (ft_dot_t *)(void *)(totals + outs * 2), *dy = x + in * row_length;
    const ft_range_t taken = ft_part(cores, in), given = ft_part(cores, out);
    const ft_range_t blocks = ft_part(cores, (in + 1) / 2 * outs), finished = ft_part(cores, in * vectors);
    const ft_range_t zeroed = ft_part(cores, (in + 1) * out); /* the totals, too */
    const ft_steps_over_t from = {tap.x.at + n * in + taken.from, tap.x.row, tap.x.pixel};
    const ft_steps_over_t gradient = {tap.dy.at + n * out + given.from, tap.dy.row, tap.dy.pixel};
    memset(acc + zeroed.from, 0, (size_t)(zeroed.to - zeroed.from) * sizeof *acc);
    ft_meet(cores);
    for (int row = tap.ys.from; row < tap.ys.to; row += height) {
        const ft_range_t ys = {row, row + height < tap.ys.to ? row + height : tap.ys.to};
        const int pixels = (ys.to - ys.from) * (tap.xs.to - tap.xs.from);
        const int count = (pixels + FT_DOT_STEP - 1) / FT_DOT_STEP * FT_DOT_STEP;
        ft_dots_gather(x + taken.from * row_length, row_length, from, taken.to - taken.from, ys, tap.xs);
        ft_dots_gather(dy + given.from * row_length, row_length, gradient, given.to - given.from, ys, tap.xs);
        for (int o = given.from; o < given.to; o++) {
            for (int k = pixels; k < count; k++)
                dy[o * row_length + k] = 0; /* so that it does not matter what x has there */
            totals[o] += ft_dots_sum(dy + o * row_length, count);
        }
        ft_meet(cores);
        for (int k = blocks.from; k < blocks.to; k++) {
            const int c = k / outs * 2, o = k % outs * 2;
            const int more_in = c + 1 < in, more_out = o + 1 < out;
            const ft_dot_t *x_row = x + c * row_length, *dy_row = dy + o * row_length;
            int32_t sums[4];
            ft_dots_2x2(x_row, x_row + more_in * row_length, dy_row, dy_row + more_out * row_length, count,
                        sums);
            int32_t *a = acc + c * out + o;
            a[0] += sums[0];
            if (more_out)
                a[1] += sums[1];
            if (more_in)
                a[out] += sums[2];
            if (more_in && more_out)
                a[out + 1] += sums[3];
        }
        ft_meet(cores);
    }
    for (int k = finished.from; k < finished.to; k++) {
        const int c = k / vectors, o = k % vectors * FT_LANES;
        const int count = out - o < FT_LANES ? out - o : FT_LANES;
        for (int i = 0; i < count; i++)
            acc[c * out + o + i] -= zero * totals[o + i];
        ft_ints_finish(to, at + c * pitch + o, ft_ints_of(acc + c * out + o, count), unit, count);
    }
    ft_meet(cores);
}

/* As ft_conv2d_grad_w_i8, for layers that are not depthwise. height: rows of the map that the window steps
 * over that are gathered at once; row_length: at least their pixels, a multiple of FT_DOT_STEP. scratch,
 * aligned to 8, one for all cores: a sum for each weight of a group's tap, one an output (up to an even
 * number), then row_length values for each channel in and out of a group. */
FT_INLINE void ft_conv2d_grad_w_dots_i8(const int8_t *x, ft_map_t xm, ft_grid_t from, const int8_t *dy,
                                        ft_map_t dym, float scale, ft_sink_t to, ft_conv_t conv,
                                        int transposed, int height, int row_length, int8_t *scratch,
                                        ft_cores_t cores) {
    const float unit = from.scale * scale;
    const int pitch = transposed ? conv.out : conv.groups * conv.out;
    _Pragma("GCC unroll 1") for (int ky = 0; ky < conv.window.kernel_y; ky++)
        _Pragma("GCC unroll 1") for (int kx = 0; kx < conv.window.kernel_x; kx++) {
        const ft_tap_i8_t tap = ft_tap_i8(x, xm, dy, dym, conv.window, ky, kx, transposed);
        const int at = (ky * conv.window.kernel_x + kx) * conv.w_tap;
        _Pragma("GCC unroll 1") for (int n = 0; n < conv.groups; n++) ft_group_grad_w_dots_i8(
            tap, n, from.zero, unit, to, at + (transposed ? n * conv.in * pitch : n * conv.out), pitch, conv,
            height, row_length, scratch, cores);
    }
}

#endif
