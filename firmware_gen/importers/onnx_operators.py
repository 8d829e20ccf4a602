"""What each ONNX operator becomes. Supporting another one means one function and one line in CONVERTERS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fieldtune.errors import ModelError
from firmware_gen.graph import Constant, Shape
from firmware_gen.importers.builder import MAX_AXIS, Builder
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.pool import PoolAttrs
from firmware_gen.operators.resize import COORDINATES, ROUNDINGS, ResizeAttrs
from firmware_gen.window import Activation, Pair, Window


@dataclass(frozen=True)
class Node:
    """One node of the file; `values` are all constants known so far."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    values: dict[str, np.ndarray] = field(repr=False)

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def has(self, position: int) -> bool:
        """Tell whether an optional input is given."""
        return len(self.inputs) > position and self.inputs[position] != ""

    def value(self, position: int) -> np.ndarray:
        """Return an input that must be constant."""
        name = self.inputs[position]
        if name not in self.values:
            raise self.error(f"its input '{name}' must be a constant")
        return self.values[name]

    def is_constant(self, position: int) -> bool:
        """Tell whether an input is constant."""
        return self.inputs[position] in self.values

    def error(self, problem: str) -> ModelError:
        """Return the error that names this node."""
        return ModelError(f"{self.kind} (node '{self.name}') is not supported: {problem}")

    def layer(self, weight: str = "") -> str:
        """Return the name by which users know the layer: its weight's, or the path in the node's name."""
        for ending in (".weight", "_weight", ".kernel", "/kernel"):
            if weight.endswith(ending):
                return weight[: -len(ending)]
        path = self.name.strip("/").split("/")
        return ".".join(path[:-1]) if len(path) > 1 else path[0]


def _pair(values: Any, node: Node, rows: int = 1) -> Pair:
    """Return (rows, columns); `rows` is the neutral value for what has columns only."""
    numbers = [int(v) for v in values]
    if len(numbers) == 1:
        return rows, numbers[0]
    if len(numbers) != 2:
        raise node.error(f"{len(numbers)} spatial axes; at most two can be handled")
    return numbers[0], numbers[1]


def _window(node: Node, kernel: Pair, size: Pair, *, transposed: bool = False) -> Window:
    """Return the node's window; `size` is the input's, which automatic padding looks at."""
    ones = [1] * (1 if len(node.get("kernel_shape", (1, 1))) == 1 else 2)
    stride = _pair(node.get("strides", ones), node)
    dilation = _pair(node.get("dilations", ones), node)
    pads = [int(p) for p in node.get("pads", [0] * 4)]
    if len(pads) == 2:
        pads = [0, pads[0], 0, pads[1]]
    pad, pad_end = (pads[0], pads[1]), (pads[2], pads[3])
    steps = (*kernel, *stride, *dilation)
    if min(pads) < 0 or min(steps) < 1 or max(*pads, *steps) > MAX_AXIS:
        raise node.error(f"kernel {kernel}, strides {stride}, dilations {dilation}, pads {pads}")
    automatic = node.get("auto_pad", "NOTSET")
    if automatic == "VALID":
        pad = pad_end = (0, 0)
    elif automatic in ("SAME_UPPER", "SAME_LOWER"):
        if transposed:
            raise node.error(f"auto_pad {automatic}; export it with explicit pads")
        totals = [
            max((-(-size[k] // stride[k]) - 1) * stride[k] + (kernel[k] - 1) * dilation[k] + 1 - size[k], 0)
            for k in (0, 1)
        ]
        small, large = (totals[0] // 2, totals[1] // 2), (-(-totals[0] // 2), -(-totals[1] // 2))
        pad, pad_end = (small, large) if automatic == "SAME_UPPER" else (large, small)
    return Window(kernel, stride, pad, pad_end, dilation)


def _floats(node: Node, position: int) -> np.ndarray:
    value = node.value(position)
    if value.dtype not in (np.float32, np.float64, np.float16):
        raise node.error(
            f"its constant '{node.inputs[position]}' has type {value.dtype}; floats are supported"
        )
    with np.errstate(over="ignore"):
        single = value.astype(np.float32)
    if not np.isfinite(single).all():
        raise ModelError(f"the weights '{node.inputs[position]}' are not all finite numbers")
    return single


def _bias(node: Node, position: int, channels: int, builder: Builder, scale: float = 1.0) -> list[str]:
    if not node.has(position):
        return []
    value = _floats(node, position)
    if value.size not in (1, channels):
        raise node.error(f"a bias of shape {value.shape} for {channels} channels")
    source = (0,) if value.size == channels and scale == 1.0 else None
    flat = np.ascontiguousarray(np.broadcast_to(value.ravel() * np.float32(scale), (channels,)))
    return [builder.constant(Constant(node.inputs[position], flat, source, value.shape))]


def _conv(node: Node, builder: Builder) -> None:
    weight = _floats(node, 1)
    if weight.ndim not in (3, 4):
        raise node.error(f"weights of shape {weight.shape}; one or two spatial axes can be handled")
    transposed = node.kind == "ConvTranspose"
    wide = weight[:, :, None, :] if weight.ndim == 3 else weight
    height, width, channels = builder.shape(node.inputs[0])
    groups = int(node.get("group", 1))
    kernel = (wide.shape[2], wide.shape[3])
    window = _window(node, kernel, (height, width), transposed=transposed)
    if transposed:
        extra = _pair(node.get("output_padding", [0, 0]), node, rows=0)
        if min(extra) < 0:
            raise node.error(f"the output padding {extra}")
        out_channels, fits = wide.shape[1] * groups, wide.shape[0] == channels
        if node.get("output_shape", None):
            raise node.error("output_shape; export it with explicit pads")
        out = window.transposed_output(height, width, extra)
        value, axes = wide.transpose(2, 3, 0, 1), (2, 3, 0, 1)
    else:
        out_channels, fits = wide.shape[0], wide.shape[1] * groups == channels
        out = window.output(height, width)
        value, axes = wide.transpose(2, 3, 1, 0), (3, 2, 0, 1)
    if not fits or channels % groups or out_channels % groups:
        raise node.error(f"weights of shape {weight.shape} in {groups} groups for {channels} channels")
    name = node.inputs[1]
    constants = [builder.constant(Constant(name, np.ascontiguousarray(value), axes, weight.shape))]
    constants += _bias(node, 2, out_channels, builder)
    builder.add(
        "conv2d",
        node.layer(name),
        node.inputs[:1],
        node.outputs[0],
        (*out, out_channels),
        ConvAttrs(window, groups, transposed),
        constants,
        rank=builder.rank(node.inputs[0]),
    )


def _gemm(node: Node, builder: Builder) -> None:
    if node.get("transA", 0):
        raise node.error("a transposed first operand")
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    _linear(node, builder, bool(node.get("transB", 0)), alpha, beta)


def _matmul(node: Node, builder: Builder) -> None:
    _linear(node, builder, transposed=False, alpha=1.0, beta=1.0)


def _linear(node: Node, builder: Builder, transposed: bool, alpha: float, beta: float) -> None:
    weight = _floats(node, 1)
    height, width, channels = builder.shape(node.inputs[0])
    if weight.ndim != 2 or (height, width) != (1, 1) or builder.rank(node.inputs[0]) != 2:
        raise node.error("operands other than a vector and a constant matrix")
    matrix = weight.T if transposed else weight
    if matrix.shape[0] != channels:
        raise node.error(f"a matrix of shape {weight.shape} for {channels} values")
    name, outputs = node.inputs[1], matrix.shape[1]
    axes = None if alpha != 1.0 else ((0, 1, 3, 2) if transposed else (0, 1, 2, 3))
    value = np.ascontiguousarray(matrix * np.float32(alpha)).reshape(1, 1, channels, outputs)
    constants = [builder.constant(Constant(name, value, axes, weight.shape))]
    constants += _bias(node, 2, outputs, builder, beta)
    attrs = ConvAttrs(Window((1, 1)))
    layer = node.layer(name)
    builder.add("conv2d", layer, node.inputs[:1], node.outputs[0], (1, 1, outputs), attrs, constants, rank=2)


def _affine(node: Node, builder: Builder, x: str, scale: np.ndarray, shift: Constant | np.ndarray) -> None:
    """Add y = x * scale + shift per channel as a 1x1 depthwise convolution; passes fold it where they can."""
    shape, layer = builder.shape(x), builder.free(node.layer())
    channels = shape[2]
    wide = np.broadcast_to(scale, (channels,)).astype(np.float32).reshape(1, 1, 1, channels)
    weight = Constant(f"{layer}.scale", wide)
    if not isinstance(shift, Constant):
        shift = Constant(f"{layer}.shift", np.broadcast_to(shift, (channels,)).astype(np.float32))
    constants = [builder.constant(weight), builder.constant(shift)]
    attrs = ConvAttrs(Window((1, 1)), channels)
    builder.add("conv2d", layer, (x,), node.outputs[0], shape, attrs, constants, builder.rank(x))


def _batch_normalization(node: Node, builder: Builder) -> None:
    gamma, beta, mean, variance = (_floats(node, k).astype(np.float64) for k in (1, 2, 3, 4))
    if node.get("training_mode", 0):
        raise node.error("training mode; export the model in evaluation mode")
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + float(node.get("epsilon", 1e-5)))
        shift = beta - mean * scale
    _affine(node, builder, node.inputs[0], scale, shift)


def _add(node: Node, builder: Builder) -> None:
    constant = [k for k in (0, 1) if node.is_constant(k)]
    if len(constant) == 1:
        value = _floats(node, constant[0])
        name, other = node.inputs[constant[0]], node.inputs[1 - constant[0]]
        rank = builder.rank(other)
        channels = builder.shape(other)[2]
        # Axes are aligned at the end: the channels are axis 1 of `rank`.
        aligned = rank - 1 <= value.ndim <= rank and value.shape[1 - rank] == channels
        one_a_channel = aligned and value.size == channels
        if value.ndim > rank or not (value.size == 1 or one_a_channel):
            raise node.error(
                f"adding a constant of shape {value.shape}; one value or one a channel can be added"
            )
        shift: Constant | np.ndarray = value.ravel()
        if one_a_channel:
            shift = Constant(name, value.ravel(), (0,), value.shape)
        _affine(node, builder, other, np.ones(1), shift)
        return
    a, b = node.inputs
    if builder.shape(a) != builder.shape(b) or builder.rank(a) != builder.rank(b):
        raise node.error(f"adding maps of shapes {builder.shape(a)} and {builder.shape(b)}")
    builder.add("add", node.layer(), (a, b), node.outputs[0], builder.shape(a), rank=builder.rank(a))


def _concat(node: Node, builder: Builder) -> None:
    shapes = [builder.shape(x) for x in node.inputs]
    rank = builder.rank(node.inputs[0])
    axis = int(node.get("axis", 1)) % rank
    if axis != 1 or any(shape[:2] != shapes[0][:2] for shape in shapes):
        raise node.error(
            f"joining maps of shapes {shapes} along axis {axis}; channels (axis 1) can be joined"
        )
    if len(node.inputs) == 1:
        builder.alias(node.outputs[0], node.inputs[0], rank)
        return
    shape = (*shapes[0][:2], sum(s[2] for s in shapes))
    builder.add("concat", node.layer(), node.inputs, node.outputs[0], shape, rank=rank)


def _activation(node: Node, builder: Builder) -> None:
    activation = {
        "Relu": lambda: Activation("relu"),
        "LeakyRelu": lambda: Activation("leaky_relu", _slope(node)),
        "Sigmoid": lambda: Activation("sigmoid"),
        "Clip": lambda: _clip(node),
    }[node.kind]()
    x = node.inputs[0]
    builder.add(
        "activation", node.layer(), (x,), node.outputs[0], builder.shape(x), activation, rank=builder.rank(x)
    )


def _slope(node: Node) -> float:
    slope = float(node.get("alpha", 0.01))
    if slope <= 0:
        # The gradient is derived from the sign of the output, which a slope of 0 or below does not keep.
        raise node.error(f"a slope of {slope}; it must be positive (0 is Relu)")
    return slope


def _clip(node: Node) -> Activation:
    low, high = (
        float(node.value(k).ravel()[0]) if node.has(k) else float(node.get(name, default))
        for k, name, default in ((1, "min", -math.inf), (2, "max", math.inf))
    )
    if low == 0 and high == math.inf:
        return Activation("relu")
    if not low < high:
        raise node.error(f"limits {low} and {high}")
    return Activation("clip", low, high)


def _pool(node: Node, builder: Builder) -> None:
    height, width, channels = builder.shape(node.inputs[0])
    maximum = node.kind == "MaxPool"
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.error("the second output (indices)")
    window = _window(node, _pair(node.get("kernel_shape", ()), node), (height, width))
    out = window.output(height, width, ceil=bool(node.get("ceil_mode", 0)))
    if not all(_meets_map(window, axis, size, out[axis]) for axis, size in enumerate((height, width))):
        raise node.error("padding so large that a window lies outside of the map")
    if maximum and window.taps > 255:
        raise node.error(f"a window of {window.taps} positions; at most 255 can be handled")
    kind = "max_pool" if maximum else "average_pool"
    attrs = PoolAttrs(window, bool(node.get("count_include_pad", 0)))
    rank = builder.rank(node.inputs[0])
    builder.add(kind, node.layer(), node.inputs[:1], node.outputs[0], (*out, channels), attrs, rank=rank)


def _meets_map(window: Window, axis: int, size: int, count: int) -> bool:
    """Tell whether each of `count` windows has a tap on the map."""
    starts = (k * window.stride[axis] - window.pad[axis] for k in range(count))
    taps = range(window.kernel[axis])
    return all(any(0 <= start + tap * window.dilation[axis] < size for tap in taps) for start in starts)


def _global_average_pool(node: Node, builder: Builder) -> None:
    height, width, channels = builder.shape(node.inputs[0])
    attrs = PoolAttrs(Window((height, width)))
    rank = builder.rank(node.inputs[0])
    builder.add(
        "average_pool", node.layer(), node.inputs[:1], node.outputs[0], (1, 1, channels), attrs, rank=rank
    )


def _reduce_mean(node: Node, builder: Builder) -> None:
    rank = builder.rank(node.inputs[0])
    axes = node.value(1).tolist() if node.has(1) else node.get("axes", None)
    if axes is None or rank < 3 or {int(a) % rank for a in axes} != set(range(2, rank)):
        raise node.error("a mean over other axes than rows and columns")
    _global_average_pool(node, builder)
    if not node.get("keepdims", 1):
        builder.declare(node.outputs[0], builder.shape(node.outputs[0]), 2)


def _resize(node: Node, builder: Builder) -> None:
    height, width, channels = builder.shape(node.inputs[0])
    if builder.rank(node.inputs[0]) != 4:
        raise node.error("only maps with rows and columns can be resized")
    sizes = _axis_values(node, 3, (1, channels)) if node.kind == "Resize" else None
    scales = _axis_values(node, 2 if node.kind == "Resize" else 1, (1, 1))
    if sizes is not None:
        out = (int(sizes[0]), int(sizes[1]))
        scale = (out[0] / height, out[1] / width)
    elif scales is not None:
        scale = (scales[0], scales[1])
        out = (math.floor(height * scale[0]), math.floor(width * scale[1]))
    else:
        raise node.error("neither sizes nor scales")
    legacy = node.kind == "Upsample"
    mode = node.get("mode", "nearest")
    coordinates = "asymmetric" if legacy else node.get("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if legacy else node.get("nearest_mode", "round_prefer_floor")
    if mode not in ("nearest", "linear") or coordinates not in COORDINATES or rounding not in ROUNDINGS:
        raise node.error(f"mode {mode} with {coordinates} and {rounding}")
    if node.get("antialias", 0) or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.error("antialiasing or keeping the aspect ratio")
    attrs = ResizeAttrs(mode, coordinates, rounding, scale)
    builder.add("resize", node.layer(), node.inputs[:1], node.outputs[0], (*out, channels), attrs)


def _axis_values(node: Node, position: int, kept: Pair) -> list[float] | None:
    """Return sizes or scales of rows and columns, None when absent; `kept`: those of batch and channels."""
    values = [float(v) for v in node.value(position).ravel()] if node.has(position) else []
    if not values:
        return None
    axes = [int(a) % 4 for a in node.get("axes", range(4))]
    by_axis = {0: float(kept[0]), 1: float(kept[1]), **dict(zip(axes, values, strict=True))}
    if sorted(by_axis) != [0, 1, 2, 3] or any(by_axis[axis] != kept[axis] for axis in (0, 1)):
        raise node.error(f"sizes or scales {values}; rows and columns can be resized")
    if not all(0 < value <= MAX_AXIS for value in values):
        raise node.error(f"sizes or scales {values}")
    return [by_axis[2], by_axis[3]]


def _reshape(node: Node, builder: Builder) -> None:
    x, y = node.inputs[0], node.outputs[0]
    height, width, channels = builder.shape(x)
    dims = _new_dims(node, builder.rank(x), height, width, channels)
    if not 2 <= len(dims) <= 4 or dims[0] != 1 or math.prod(dims) != height * width * channels:
        raise node.error(f"a map of {height} x {width} x {channels} as {tuple(dims)}")
    target: Shape = (
        dims[2] if len(dims) == 4 else 1,
        dims[-1] if len(dims) > 2 else 1,
        dims[1],
    )
    flat = (1, 1, height * width * channels)
    current = x
    if target != (height, width, channels) and (height, width) != (1, 1):
        current = y if target == flat else f"{y}.flat"
        builder.add("channels_first", node.layer(), (x,), current, flat, rank=2)
    if target != builder.shape(current):
        builder.add("from_channels_first", node.layer(), (current,), y, target, rank=len(dims))
    elif current != y:
        builder.alias(y, current, len(dims))


def _new_dims(node: Node, rank: int, height: int, width: int, channels: int) -> list[int]:
    old = [1, channels, height, width][:rank] if rank != 3 else [1, channels, width]
    if node.kind == "Flatten":
        axis = int(node.get("axis", 1)) % (rank + 1)
        return [math.prod(old[:axis]), math.prod(old[axis:])]
    if node.kind in ("Squeeze", "Unsqueeze"):
        raw = node.value(1).ravel().tolist() if node.has(1) else list(node.get("axes", []))
        if node.kind == "Squeeze":
            axes = {int(a) % rank for a in raw} or {k for k in range(1, rank) if old[k] == 1}
            if any(old[axis] != 1 for axis in axes):
                raise node.error(f"squeezing the axes {sorted(axes)} of {tuple(old)}")
            return [d for k, d in enumerate(old) if k not in axes]
        dims = list(old)
        for axis in sorted(int(a) % (rank + len(raw)) for a in raw):
            dims.insert(axis, 1)
        return dims
    wanted = [int(v) for v in node.value(1).ravel()]
    dims = [old[k] if v == 0 and k < rank else v for k, v in enumerate(wanted)]
    if dims.count(-1) == 1:
        rest = math.prod(d for d in dims if d != -1)
        dims[dims.index(-1)] = math.prod(old) // rest if rest else 0
    return dims


def _softmax(node: Node, builder: Builder) -> None:
    rank = builder.rank(node.inputs[0])
    flattens = node.opset < 13  # joins all axes from `axis` on
    axis = int(node.get("axis", 1 if flattens else -1)) % rank
    shape = builder.shape(node.inputs[0])
    if axis != 1:
        raise node.error(f"axis {axis}; the channels (axis 1) can be normalised")
    if flattens and shape[:2] != (1, 1):
        raise node.error(f"a map in opset {node.opset}; export the model with opset 13 or newer")
    builder.add("softmax", node.layer(), node.inputs[:1], node.outputs[0], shape, rank=rank)


def _identity(node: Node, builder: Builder) -> None:
    if node.inputs[0] in node.values:
        node.values[node.outputs[0]] = node.values[node.inputs[0]]
    else:
        builder.alias(node.outputs[0], node.inputs[0], builder.rank(node.inputs[0]))


def _constant(node: Node, builder: Builder) -> None:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            kind = np.int64 if "int" in name else np.float32
            value = node.attributes[name]
            node.values[node.outputs[0]] = value if name == "value" else np.asarray(value, kind)
            return
    raise node.error("a constant that is no number")


CONVERTERS: dict[str, Callable[[Node, Builder], None]] = {
    "Add": _add,
    "AveragePool": _pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _activation,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Dropout": _identity,
    "Flatten": _reshape,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": _identity,
    "LeakyRelu": _activation,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "ReduceMean": _reduce_mean,
    "Relu": _activation,
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _activation,
    "Softmax": _softmax,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Upsample": _resize,
}
