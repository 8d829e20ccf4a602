"""Random convolutions and fully connected layers as TFLite has them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tflite_writer import Operation, Value, tflite_bytes

Random = np.random.Generator

ACTIVATIONS = (0, 0, 1, 2, 3)  # none, ReLU, ReLU N1 to 1, ReLU6
EXTREMES = (-(1 << 31), (1 << 31) - 1, 1 << 30, -(1 << 30) - 1, 0)


def draw_scale(random: Random) -> float:
    """Return a scale between 2^-12 and 2^2, all bits random."""
    return float(np.float32(2.0 ** random.uniform(-12, 2)))


def _weights(random: Random, shape: tuple[int, ...], axis: int) -> Value:
    per_channel = random.random() < 0.7
    scales = [draw_scale(random) for _ in range(shape[axis] if per_channel else 1)]
    data = random.choice(np.array([-127, 127]), shape) if random.random() < 0.2 else None
    return Value(
        "w", scale=scales, axis=axis, data=random.integers(-127, 128, shape) if data is None else data
    )


def _bias(random: Random, channels: int, x: Value, w: Value) -> Value:
    assert isinstance(w.scale, list)
    wild = random.random() < 0.3
    data = random.choice(EXTREMES, channels) if wild else random.integers(-20000, 20000, channels)
    scales = np.float32(x.scale) * np.array(w.scale, np.float32)
    return Value("b", dtype="i32", scale=scales, data=data)


def _map(random: Random, name: str, shape: tuple[int, ...], scale: float | None = None) -> Value:
    zero_point = int(random.choice([-128, 127, 0, random.integers(-128, 128)]))
    return Value(name, shape, scale=draw_scale(random) if scale is None else scale, zero_point=zero_point)


def _output(
    random: Random, shape: tuple[int, ...], x: Value, w: Value, terms: int, wild: tuple[int, ...] = (-14, 14)
) -> Value:
    """Return an output whose scale suits the sums, or, some times, is far too fine or too coarse."""
    assert isinstance(w.scale, list)
    assert isinstance(x.scale, float)
    suitable = x.scale * max(w.scale) * 74 * 74 * np.sqrt(terms) / 60
    return _map(random, "y", shape, float(np.float32(suitable * 2.0 ** random.choice([0, 0, 0, *wild]))))


@dataclass(frozen=True)
class Layer:
    """An operation from x to y, with all its tensors."""

    operation: Operation
    values: tuple[Value, ...]


def model(layers: Sequence[Layer]) -> bytes:
    """Return a file in which the layers lie side by side, so that many are compiled at once."""
    values, operations = [], []
    for k, layer in enumerate(layers):
        values += [replace(value, name=f"{value.name}{k}") for value in layer.values]
        inputs = [None if name is None else f"{name}{k}" for name in layer.operation.inputs]
        operations.append(replace(layer.operation, inputs=inputs, outputs=[f"y{k}"]))
    count = range(len(layers))
    return tflite_bytes(values, operations, [f"x{k}" for k in count], [f"y{k}" for k in count])


def _window(
    random: Random, dilated: bool = True
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """Return kernel, strides, dilations (rows, columns) and padding (0 SAME, 1 VALID)."""
    kernel = tuple(int(k) for k in random.integers(1, 5, 2))
    stride = tuple(int(k) for k in random.integers(1, 4, 2))
    dilation = tuple(int(k) for k in random.integers(1, 4, 2)) if dilated and stride == (1, 1) else (1, 1)
    return kernel, stride, dilation, int(random.integers(2))


def _size(
    random: Random, kernel: tuple[int, ...], dilation: tuple[int, ...], padding: int
) -> tuple[int, ...]:
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    return tuple(int(random.integers(span if padding else 1, span + 12)) for span in spans)


def _out(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: int,
) -> tuple[int, ...]:
    spans = [(k - 1) * d * padding for k, d in zip(kernel, dilation, strict=True)]
    return tuple(-(-(n - span) // s) for n, span, s in zip(size, spans, stride, strict=True))


def fields(
    stride: tuple[int, ...], dilation: tuple[int, ...], padding: int, activation: int
) -> dict[str, int]:
    return {
        "strideH": stride[0],
        "strideW": stride[1],
        "dilationHFactor": dilation[0],
        "dilationWFactor": dilation[1],
        "padding": padding,
        "fusedActivationFunction": activation,
    }


def conv(random: Random) -> Layer:
    kernel, stride, dilation, padding = _window(random)
    size = _size(random, kernel, dilation, padding)
    groups = int(random.choice([1, 1, 2, 3]))
    inner, outer = int(random.integers(1, 7)), int(random.integers(1, 22))
    x = _map(random, "x", (1, *size, inner * groups))
    w = _weights(random, (outer * groups, *kernel, inner), axis=0)
    out = _out(size, kernel, stride, dilation, padding)
    y = _output(random, (1, *out, outer * groups), x, w, inner * kernel[0] * kernel[1])
    options = fields(stride, dilation, padding, int(random.choice(ACTIVATIONS)))
    operation = Operation("CONV_2D", ["x", "w", "b"], ["y"], "Conv2DOptions", options)
    return Layer(operation, (x, w, _bias(random, outer * groups, x, w), y))


def depthwise(random: Random) -> Layer:
    kernel, stride, dilation, padding = _window(random)
    stride = (stride[0], stride[0])
    size = _size(random, kernel, dilation, padding)
    channels, multiplier = int(random.integers(1, 20)), int(random.choice([1, 1, 2, 3]))
    outer = channels * multiplier
    x = _map(random, "x", (1, *size, channels))
    w = _weights(random, (1, *kernel, outer), axis=3)
    out = _out(size, kernel, stride, dilation, padding)
    y = _output(random, (1, *out, outer), x, w, kernel[0] * kernel[1])
    options = {
        **fields(stride, dilation, padding, int(random.choice(ACTIVATIONS))),
        "depthMultiplier": multiplier,
    }
    operation = Operation("DEPTHWISE_CONV_2D", ["x", "w", "b"], ["y"], "DepthwiseConv2DOptions", options)
    return Layer(operation, (x, w, _bias(random, outer, x, w), y))


def transpose_conv(random: Random) -> Layer:
    kernel, stride, _, padding = _window(random, dilated=False)
    size = tuple(int(n) for n in random.integers(1, 9, 2))
    # Several output sizes lead back to one input size: the operator says which is meant.
    largest = [n * s + (k - 1) * padding for n, k, s in zip(size, kernel, stride, strict=True)]
    out = tuple(int(n - random.integers(s)) for n, s in zip(largest, stride, strict=True))
    inner, outer = int(random.integers(1, 7)), int(random.integers(1, 20))
    x = _map(random, "x", (1, *size, inner))
    w = _weights(random, (outer, *kernel, inner), axis=0)
    y = _output(random, (1, *out, outer), x, w, inner * kernel[0] * kernel[1] // (stride[0] * stride[1]) + 1)
    shape = Value("s", dtype="i32", data=np.array([1, *out, outer]))
    biased = random.random() < 0.7
    options = {"strideH": stride[0], "strideW": stride[1], "padding": padding}
    if biased:
        options["fusedActivationFunction"] = int(random.choice(ACTIVATIONS))
    inputs = ["s", "w", "x", "b"] if biased else ["s", "w", "x"]
    operation = Operation("TRANSPOSE_CONV", inputs, ["y"], "TransposeConvOptions", options)
    return Layer(operation, (shape, w, x, *([_bias(random, outer, x, w)] if biased else []), y))


def fully_connected(random: Random) -> Layer:
    inner, outer = int(random.integers(1, 40)), int(random.integers(1, 40))
    rows = int(random.choice([1, 1, 3]))
    keep, map_like = bool(random.integers(2)), bool(random.integers(2))
    dims = (1, rows, 2, inner) if map_like else (1, rows, inner) if rows > 1 else (1, inner)
    count = int(np.prod(dims)) // inner
    x = _map(random, "x", dims)
    w = _weights(random, (outer, inner), axis=0)
    # LiteRT multiplies in double precision here; what does not fit into 32 bits then is undefined.
    y = _output(random, (*dims[:-1], outer) if keep else (count, outer), x, w, inner, wild=(14,))
    options = {"keepNumDims": keep, "fusedActivationFunction": int(random.choice(ACTIVATIONS))}
    biased = random.random() < 0.7
    inputs = ["x", "w", "b"] if biased else ["x", "w", None]
    operation = Operation("FULLY_CONNECTED", inputs, ["y"], "FullyConnectedOptions", options)
    return Layer(operation, (x, w, *([_bias(random, outer, x, w)] if biased else []), y))


def as_float(layer: Layer, random: Random) -> Layer:
    """Return the same layer on float32."""

    def one(value: Value) -> Value:
        if value.name == "s":
            return value
        data = None if value.data is None else random.standard_normal(value.data.shape)
        return Value(value.name, value.shape, "f32", data=data)

    return replace(layer, values=tuple(one(value) for value in layer.values))


DRAWS = (conv, depthwise, transpose_conv, fully_connected)
