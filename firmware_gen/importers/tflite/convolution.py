"""CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV and FULLY_CONNECTED, int8 and float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Constant, Shape, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.importers.tflite.node import Node, TfliteTensor
from firmware_gen.importers.tflite.window import fused_activation, read_window
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d, quantized_fully_connected
from firmware_gen.window import Pair, Window

# The schema's number for weights that lie as the matrix does.
DEFAULT_WEIGHTS_FORMAT = 0


def _conv_2d(node: Node, builder: Builder) -> None:
    weight = node.value(1)
    _expect_rank_4(node)
    _, kernel_y, kernel_x, inner = weight.shape
    channels = node.tensor(0).shape[2]
    window = read_window(node, (kernel_y, kernel_x), node.tensor(0).shape, _dilation(node))
    if inner == 0 or channels % inner or weight.shape[0] % (channels // inner):
        raise node.error(f"weights of shape {weight.shape} for {channels} channels")
    attrs = ConvAttrs(window, channels // inner, activation=fused_activation(node))
    constant = _weight(node, weight.transpose(1, 2, 3, 0), (3, 0, 1, 2), axis=0)
    _add(node, builder, attrs, constant, window.output(*node.tensor(0).shape[:2]), bias=2)


def _depthwise_conv_2d(node: Node, builder: Builder) -> None:
    weight = node.value(1)
    _expect_rank_4(node)
    ones, kernel_y, kernel_x, outer = weight.shape
    channels = node.tensor(0).shape[2]
    window = read_window(node, (kernel_y, kernel_x), node.tensor(0).shape, _dilation(node))
    if ones != 1 or outer == 0 or outer % channels:
        raise node.error(f"depthwise weights of shape {weight.shape} for {channels} channels")
    attrs = ConvAttrs(window, channels, activation=fused_activation(node))
    constant = _weight(node, weight.transpose(1, 2, 0, 3), (2, 0, 1, 3), axis=3)
    _add(node, builder, attrs, constant, window.output(*node.tensor(0).shape[:2]), bias=2)


def _transpose_conv(node: Node, builder: Builder) -> None:
    weight = node.value(1)
    _expect_rank_4(node, position=2)
    sizes = [int(v) for v in node.value(0).ravel()]
    x = node.tensor(2).shape
    outer, kernel_y, kernel_x, inner = weight.shape
    if len(sizes) != 4 or sizes[0] != 1 or sizes[3] != outer or inner != x[2]:
        raise node.error(
            f"weights of shape {weight.shape} from {x[2]} channels to a map of shape {tuple(sizes)}"
        )
    out = (sizes[1], sizes[2])
    # The padding is that of the convolution that would lead back.
    window = read_window(node, (kernel_y, kernel_x), out)
    attrs = ConvAttrs(window, transposed=True, activation=fused_activation(node))
    constant = _weight(node, weight.transpose(1, 2, 3, 0), (3, 0, 1, 2), axis=0)
    _add(node, builder, attrs, constant, out, bias=3, position=2)


def _fully_connected(node: Node, builder: Builder) -> None:
    weight = node.value(1)
    x, y = node.tensor(0), node.outputs[0]
    if node.options is not None and node.options.WeightsFormat() != DEFAULT_WEIGHTS_FORMAT:
        raise node.error("shuffled weights; convert the network anew")
    if weight.ndim != 2 or 0 in weight.shape:
        raise node.error(f"weights of shape {weight.shape}; a matrix is supported")
    outer, inner = weight.shape
    values = builder.tensor(x.name).count
    if values % inner or y.described().count != values // inner * outer:
        raise node.error(f"weights of shape {weight.shape} for maps of shapes {x.dims} and {y.dims}")
    rows = values // inner
    matrix = _weight(node, weight.T.reshape(1, 1, inner, outer), (3, 2, 0, 1), axis=0)
    source = _reshaped(builder, node, x.name, (1, rows, inner))
    activation = fused_activation(node)
    attrs = ConvAttrs(Window((1, 1)), activation=activation)
    if _is_integer(node, x):
        lowered = quantized_fully_connected(
            node.name,
            activation,
            node.quantization(x),
            matrix,
            _integer_bias(node, 2, outer),
            node.quantization(y),
        )
    else:
        lowered = Lowered("conv2d", attrs, (matrix, *_float_bias(node, 2, outer)))
    out, flat = y.described(), (1, rows, outer)
    if out.shape == flat:
        builder.put(lowered, node.name, (source,), out, y.rank)
        return
    wide = dataclasses.replace(out, name=f"{y.name}.rows", shape=flat)
    builder.put(lowered, node.name, (source,), wide, rank=2)
    builder.put(Lowered("reshape"), node.name, (wide.name,), out, y.rank)


def _reshaped(builder: Builder, node: Node, name: str, shape: Shape) -> str:
    """Return the tensor `name`, or one with the same values in another `shape`."""
    tensor = builder.tensor(name)
    if tensor.shape == shape:
        return name
    rows = Tensor(f"{name}.rows.{node.name}", shape, tensor.dtype, tensor.quantization)
    builder.put(Lowered("reshape"), f"{node.name}.rows", (name,), rows, rank=2)
    return rows.name


def _dilation(node: Node) -> Pair:
    if node.options is None:
        raise node.error("its options are missing")
    return node.dilation or (node.options.DilationHFactor(), node.options.DilationWFactor())


def _expect_rank_4(node: Node, position: int = 0) -> None:
    x = node.tensor(position)
    if x.rank != 4 or node.value(1).ndim != 4:
        raise node.error(f"a map of shape {x.dims} with weights of shape {node.value(1).shape}")


def _weight(node: Node, value: NDArray[np.generic], source_axes: tuple[int, ...], axis: int) -> Constant:
    """Return the weight in the kernels' order; `axis` of the file's is that of the output channels."""
    tensor = node.tensor(1)
    if tensor.dtype not in ("i8", "f32"):
        raise node.error(f"weights of type {tensor.dtype}; float32 and int8 are supported")
    scales: tuple[float, ...] = ()
    if tensor.dtype == "i8":
        if not tensor.scales.size:
            raise node.error("its weights are of type i8 without quantization")
        if tensor.zero_points.any():
            raise node.error("weights with a zero point other than 0")
        if tensor.scales.size > 1 and tensor.axis != axis:
            raise node.error(f"weights quantized along axis {tensor.axis}")
        scales = tuple(float(scale) for scale in tensor.scales)
    return Constant(tensor.name, np.ascontiguousarray(value), source_axes, tensor.dims, scales)


def _is_integer(node: Node, x: TfliteTensor) -> bool:
    """Tell whether the layer is an int8 one.

    Raises:
        ModelError: some of it is, or it is neither int8 nor float.
    """
    kinds = {x.dtype, node.tensor(1).dtype, node.outputs[0].dtype}
    if kinds == {"f32", "i8"} and x.dtype == "f32":
        raise node.error(
            "int8 weights with float inputs (dynamic range); convert with full int8 quantization"
        )
    if kinds not in ({"i8"}, {"f32"}):
        raise node.error(f"inputs, weights and outputs of types {', '.join(sorted(kinds))}")
    return kinds == {"i8"}


def _integer_bias(node: Node, position: int, channels: int) -> NDArray[np.int32] | None:
    if not node.has(position):
        return None
    bias = node.value(position)
    if bias.dtype != np.int32 or bias.size != channels:
        raise node.error(f"a bias of type {bias.dtype} and shape {bias.shape} for {channels} channels")
    return bias.ravel()


def _float_bias(node: Node, position: int, channels: int) -> tuple[Constant, ...]:
    if not node.has(position):
        return ()
    bias = node.value(position)
    if bias.dtype != np.float32 or bias.size != channels:
        raise node.error(f"a bias of type {bias.dtype} and shape {bias.shape} for {channels} channels")
    return (Constant(node.tensor(position).name, bias.ravel(), (0,), bias.shape),)


def _add(
    node: Node, builder: Builder, attrs: ConvAttrs, weight: Constant, out: Pair, bias: int, position: int = 0
) -> None:
    """Add a convolution; `bias`, `position`: which inputs are the bias and the map."""
    x, y = node.tensor(position), node.outputs[0]
    groups = attrs.groups if attrs.transposed else 1
    channels = weight.value.shape[3] * groups
    if min(out) < 1 or y.dims != (1, *out, channels) or builder.shape(x.name) != x.shape:
        raise node.error(f"maps of shapes {x.dims} and {y.dims} with weights of shape {weight.source_shape}")
    if _is_integer(node, x):
        lowered = quantized_conv2d(
            node.name,
            attrs,
            node.quantization(x),
            weight,
            _integer_bias(node, bias, channels),
            node.quantization(y),
        )
    else:
        lowered = Lowered("conv2d", attrs, (weight, *_float_bias(node, bias, channels)))
    builder.put(lowered, node.name, (x.name,), y.described(), y.rank)


CONVERTERS: dict[str, Callable[[Node, Builder], None]] = {
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transpose_conv,
}
