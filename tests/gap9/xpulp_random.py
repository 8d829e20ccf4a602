"""Random int8 layers: kernels, strides, padding, dilation, groups and numbers of channels of all kinds."""

import numpy as np

from firmware_gen.graph import Constant, Quantization, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d
from firmware_gen.window import LINEAR, Activation, Window

LEAKY = Activation("leaky_relu", 0.125)
ACTIVATIONS = (LINEAR, Activation("relu"), Activation("clip", -0.5, 0.75), LEAKY)
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17)

Random = np.random.Generator


def add_random_layer(network: Builder, kind: str, k: int, random: Random) -> None:
    """Add a layer, dense or of another kind, with an input and an output of its own."""
    groups = int(random.integers(2, 4)) if kind == "grouped" else 1
    taken, given = (groups * random.choice(CHANNELS[3:] if groups > 1 else CHANNELS, 2)).tolist()
    if kind == "depthwise":
        taken = given = groups = int(random.choice((2, 3, 4, 7, 8, 12, 16, 17)))
    window, height, width = random_window(kind, random)
    conv = ConvAttrs(window, groups, kind == "transposed", ACTIVATIONS[k % 4])
    unit = Quantization(0.05, int(random.choice((-128, 127, *random.integers(-128, 128, 4)))))
    network.add_input(Tensor(f"x{k}", (height, width, taken), "i8", unit), 4)
    add_convolution(network, f"y{k}", conv, f"x{k}", given, unit, random)
    network.add_output(f"y{k}")


def random_window(kind: str, random: Random) -> tuple[Window, int, int]:
    """Return a window and the size of a map on which it has at least one position."""
    if kind == "transposed":
        stride = random.integers(1, 3, 2)
        kernel = stride + random.integers(0, 3, 2)
        pad = [int(random.integers(0, k)) for k in kernel]
        pad_end = [int(random.integers(0, k - p)) for k, p in zip(kernel, pad, strict=True)]
        pairs = [(int(a), int(b)) for a, b in (kernel, stride, pad, pad_end)]
        return Window(*pairs), int(random.integers(1, 6)), int(random.integers(1, 6))
    largest = {"pointwise": 1, "depthwise": 8}.get(kind, 4)
    kernel, stride, dilation = (random.integers(1, most + 1, 2) for most in (largest, 3, 2))
    span = dilation * (kernel - 1)
    pad, pad_end = random.integers(0, span + 1), random.integers(0, span + 1)
    height, width = np.maximum(1, span + 1 - pad - pad_end) + random.integers(0, 7, 2)
    pairs = [(int(a), int(b)) for a, b in (kernel, stride, pad, pad_end, dilation)]
    return Window(*pairs), int(height), int(width)


def add_convolution(
    network: Builder, y: str, conv: ConvAttrs, x: str, given: int, unit: Quantization, random: Random
) -> None:
    height, width, taken = network.shape(x)
    weight = random_weight(y, (*conv.window.kernel, taken // conv.groups, given), random)
    lowered = quantized_conv2d(y, conv, unit, weight, random_bias(given, random), unit)
    size = conv.window.transposed_output if conv.transposed else conv.window.output
    network.put(lowered, y, [x], Tensor(y, (*size(height, width), given), "i8", unit))


def random_weight(layer: str, shape: tuple[int, ...], random: Random) -> Constant:
    """Return weights whose scales spread the outputs over their range."""
    spread = 64 * np.sqrt(np.prod(shape[:3]))
    scales = tuple((random.uniform(0.5, 1, shape[3]) / spread).tolist())
    return Constant(f"{layer}.w", random.integers(-127, 128, shape).astype(np.int8), scales=scales)


def random_bias(count: int, random: Random) -> np.ndarray:
    return random.integers(-10000, 10001, count).astype(np.int32)
