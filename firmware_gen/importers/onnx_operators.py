"""What each ONNX operator becomes. Supporting another one means one function and one line in CONVERTERS."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from firmware_gen.graph import Constant
from firmware_gen.importers import onnx_elementwise, onnx_layout, onnx_quantization
from firmware_gen.importers.builder import MAX_AXIS, Builder
from firmware_gen.importers.onnx_layout import our_axis
from firmware_gen.importers.onnx_node import Node, floats
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.pool import PoolAttrs
from firmware_gen.operators.resize import COORDINATES, ROUNDINGS, ResizeAttrs
from firmware_gen.window import Pair, Window


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


def _bias(node: Node, position: int, channels: int, builder: Builder, scale: float = 1.0) -> list[str]:
    if not node.has(position):
        return []
    value = floats(node, position)
    if value.size not in (1, channels):
        raise node.error(f"a bias of shape {value.shape} for {channels} channels")
    source = (0,) if value.size == channels and scale == 1.0 else None
    flat = np.ascontiguousarray(np.broadcast_to(value.ravel() * np.float32(scale), (channels,)))
    return [builder.constant(Constant(node.origin(position), flat, source, value.shape))]


def _conv(node: Node, builder: Builder) -> None:
    weight = floats(node, 1)
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
    name = node.origin(1)
    scales = node.scales(1, axis=1 if transposed else 0)
    if transposed and groups > 1 and len(scales) > 1:
        scales = ()  # the axis runs over the outputs of a group, which the groups would have to share
    weights = Constant(name, np.ascontiguousarray(value), axes, weight.shape, scales)
    constants = [builder.constant(weights)]
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
    weight = floats(node, 1)
    height, width, channels = builder.shape(node.inputs[0])
    if weight.ndim != 2 or (height, width) != (1, 1) or builder.rank(node.inputs[0]) != 2:
        raise node.error("operands other than a vector and a constant matrix")
    matrix = weight.T if transposed else weight
    if matrix.shape[0] != channels:
        raise node.error(f"a matrix of shape {weight.shape} for {channels} values")
    name, outputs = node.origin(1), matrix.shape[1]
    axes = None if alpha != 1.0 else ((0, 1, 3, 2) if transposed else (0, 1, 2, 3))
    value = np.ascontiguousarray(matrix * np.float32(alpha)).reshape(1, 1, channels, outputs)
    scales = node.scales(1, axis=0 if transposed else 1) if alpha == 1.0 else ()
    constants = [builder.constant(Constant(name, value, axes, weight.shape, scales))]
    constants += _bias(node, 2, outputs, builder, beta)
    attrs = ConvAttrs(Window((1, 1)))
    layer = node.layer(name)
    builder.add("conv2d", layer, node.inputs[:1], node.outputs[0], (1, 1, outputs), attrs, constants, rank=2)


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
    kernel, dilation = window.kernel[axis], window.dilation[axis]
    starts = (k * window.stride[axis] - window.pad[axis] for k in range(count))
    first_taps = ((max(-(start // dilation), 0), start) for start in starts)
    return all(tap < kernel and start + tap * dilation < size for tap, start in first_taps)


def _global_average_pool(node: Node, builder: Builder) -> None:
    height, width, channels = builder.shape(node.inputs[0])
    attrs = PoolAttrs(Window((height, width)))
    rank = builder.rank(node.inputs[0])
    builder.add(
        "average_pool", node.layer(), node.inputs[:1], node.outputs[0], (1, 1, channels), attrs, rank=rank
    )


def _reduce(node: Node, builder: Builder) -> None:
    x, y = node.inputs[0], node.outputs[0]
    rank, shape = builder.rank(x), builder.shape(x)
    given = node.value(1).tolist() if node.has(1) else node.get("axes", None)
    if given is None or any(not -rank <= int(axis) < rank for axis in given):
        raise node.error(f"axes {given} of {rank}")
    axes, spatial = {int(axis) % rank for axis in given}, set(range(2, rank))
    if not axes or 0 in axes or (not node.get("keepdims", 1) and axes != spatial):
        raise node.error(f"axes {sorted(axes)}; without keepdims, rows and columns can be handled")
    if node.kind == "ReduceMean" and axes == spatial:
        _global_average_pool(node, builder)
    else:
        reduced = {our_axis(axis, rank) for axis in axes}
        rows, columns, channels = (1 if k in reduced else size for k, size in enumerate(shape))
        kind = {"ReduceMean": "mean", "ReduceSum": "sum"}[node.kind]
        builder.add(kind, node.layer(), (x,), y, (rows, columns, channels), rank=rank)
    if not node.get("keepdims", 1):
        builder.declare(builder.tensor(y), 2)


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
    "AveragePool": _pool,
    "Constant": _constant,
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Dropout": _identity,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": _identity,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Resize": _resize,
    "Softmax": _softmax,
    "Upsample": _resize,
    **onnx_elementwise.CONVERTERS,
    **onnx_layout.CONVERTERS,
    **onnx_quantization.CONVERTERS,
}
