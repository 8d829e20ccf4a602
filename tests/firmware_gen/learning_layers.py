"""Layers of every kind that learns, in shapes that meet each loop of the kernels."""

from networks import Net

# Blocks have 1, 2 or 4 rows and 4, 8 or 16 channels, and loops take two products at once.
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 20, 31, 33)


def random_layers(seed: int) -> Net:
    """Return layers of each kind, with odd shapes, all of which learn; below each one more layer learns."""
    net = Net(seed)
    random = net.rng
    for kind in ("conv", "conv", "pointwise", "grouped", "depthwise", "depthwise", "up", "linear"):
        taken, given = random.choice(CHANNELS, 2).tolist()
        height, width = random.integers(3, 12, 2).tolist()
        kernel, stride, dilation = (random.integers(1, most + 1, 2).tolist() for most in (3, 3, 2))
        x = net.conv(net.input(1, height, width), taken)
        reach = [dilation[k] * (kernel[k] - 1) for k in (0, 1)]
        pads = (reach[0], reach[1], random.integers(0, reach[0] + 1), random.integers(0, reach[1] + 1))
        pads = tuple(map(int, pads))
        if kind == "conv":
            y = net.conv(x, given, kernel, stride, pads, dilation)
        elif kind == "pointwise":
            y = net.conv(x, given)
        elif kind == "grouped":
            y = net.conv(net.conv(x, 15), 9, kernel, stride, pads, dilation, groups=3)
        elif kind == "depthwise":
            channels = int(random.choice([6, 16, 20, 33]))
            y = net.conv(net.conv(x, channels), channels, kernel, stride, pads, dilation, groups=channels)
        elif kind == "up":
            y = net.conv_transpose(x, given, kernel, stride, (0, 0, 0, 0), (0, 0), dilation)
        else:
            y = net.linear(net.flatten(x), given, "gemm")
        net.loss(y, "mse")
    return net
