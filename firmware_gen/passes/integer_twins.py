"""Which integer operator does what a float operator does between int8 tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Constant, Graph, Op, Quantization, Tensor
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d
from firmware_gen.operators.elementwise_i8 import binary_twin
from firmware_gen.operators.layout import Border, Concat, Move, Positions, Reshape, Stack
from firmware_gen.operators.lookup import RealFunction, onnx_function
from firmware_gen.operators.pool import PoolAttrs
from firmware_gen.operators.pool_i8 import lower_mean, lower_pool
from firmware_gen.operators.resize import ResizeAttrs, positions
from firmware_gen.operators.resize_i8 import ONE, Bilinear
from firmware_gen.operators.softmax_i8 import lower_softmax
from firmware_gen.window import Activation, Window

# (operator, graph, int8 inputs, int8 output) -> the integer operator, None where there is none.
Twin = Callable[[Op, Graph, tuple[Tensor, ...], Tensor], Lowered | None]

FUSED_ACTIVATIONS = ("linear", "relu", "clip", "leaky_relu")  # that the integer kernel applies to its sums


def commutes(op: Op) -> bool:
    """Tell whether `op` only moves or selects values: rounding them before or after is the same."""
    nearest = isinstance(op.attrs, ResizeAttrs) and op.attrs.mode == "nearest"
    moves = isinstance(OPERATORS[op.kind], Move | Concat | Stack | Reshape)
    return moves or nearest or op.kind in ("gather", "max_pool")


def integer_twin(op: Op, graph: Graph, inputs: tuple[Tensor, ...], output: Tensor) -> Lowered | None:
    """Return the operator that makes `output` from `inputs` as `op` does in float, None if there is none."""
    if commutes(op) and {x.quantization for x in inputs} != {output.quantization}:
        return None
    if op.kind in TWINS:
        return TWINS[op.kind](op, graph, inputs, output)
    return Lowered(op.kind, op.attrs) if commutes(op) else None


def twin_output(op: Op, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Return `output`, or what stands for it, to be requantized, where the twin cannot change the scale."""
    keeps = op.kind == "resize" or (op.kind == "average_pool" and not _rescales(op))
    if not keeps or output.quantization == inputs[0].quantization:
        return output
    return Tensor(f"{output.name}.before", output.shape, "i8", inputs[0].quantization)


def _quantization(tensor: Tensor) -> Quantization:
    assert tensor.quantization is not None
    return tensor.quantization


def _conv2d(op: Op, graph: Graph, inputs: tuple[Tensor, ...], output: Tensor) -> Lowered | None:
    attrs = op.attrs
    assert isinstance(attrs, ConvAttrs)
    weight = _integer_weight(graph.constants[op.constants[0]], attrs)
    if weight is None or attrs.activation.kind not in FUSED_ACTIVATIONS:
        return None
    x = _quantization(inputs[0])
    bias = None
    if len(op.constants) > 1:
        real = graph.constants[op.constants[1]].value.astype(np.float64)
        steps = np.rint(real / (np.float64(x.scale) * np.asarray(weight.scales)))
        bias = np.clip(steps, -(1 << 31), (1 << 31) - 1).astype(np.int32)
    return quantized_conv2d(op.name, attrs, x, weight, bias, _quantization(output))


def _integer_weight(weight: Constant, attrs: ConvAttrs) -> Constant | None:
    """Return the integers behind a float weight, None where there are none.

    A scale of channels (1x1, depthwise) has them always: one weight a scale is 127 of its 127ths.
    """
    scales = np.asarray(weight.scales, np.float32)
    if not scales.size and attrs.window == Window((1, 1)) and weight.value.shape[2:] == (1, attrs.groups):
        scales = np.maximum(np.abs(weight.value.ravel()) / np.float32(127), np.float32(1e-30))
    if not scales.size:
        return None
    steps = np.rint(weight.value / scales)
    if np.abs(steps).max(initial=0) > 128:
        return None
    integers = np.clip(steps, -128, 127).astype(np.int8)
    return replace(weight, value=integers, scales=tuple(float(scale) for scale in scales))


def _activation(op: Op, graph: Graph, inputs: tuple[Tensor, ...], output: Tensor) -> Lowered | None:
    assert isinstance(op.attrs, Activation)
    return onnx_function(_real_function(op.attrs), inputs[0], output)


def _real_function(activation: Activation) -> RealFunction:
    """Return the activation in numpy."""

    def value(x: NDArray[np.float64]) -> NDArray[np.float64]:
        a, b = activation.a, activation.b
        if activation.kind == "relu":
            return np.maximum(x, 0)
        if activation.kind == "leaky_relu":
            return np.where(x > 0, x, x * a)
        if activation.kind == "clip":
            return np.clip(x, a, b)
        if activation.kind == "tanh":
            return np.tanh(x)
        if activation.kind == "elu":
            return np.where(x > 0, x, a * np.expm1(x))
        if activation.kind == "hard_swish":
            return x * np.clip(x + 3, 0, 6) / 6
        assert activation.kind == "sigmoid", activation.kind
        return 1 / (1 + np.exp(-x))

    return value


def _max_pool(op: Op, graph: Graph, inputs: tuple[Tensor, ...], output: Tensor) -> Lowered | None:
    assert isinstance(op.attrs, PoolAttrs)
    return lower_pool("max", op.attrs.window, _quantization(output))


def _rescales(op: Op) -> bool:
    """Tell whether the average of this window can be one with another scale."""
    assert isinstance(op.attrs, PoolAttrs)
    window = op.attrs.window
    padded = any((*window.pad, *window.pad_end))
    return not padded or op.attrs.count_padding


def _average_pool(op: Op, graph: Graph, inputs: tuple[Tensor, ...], output: Tensor) -> Lowered | None:
    assert isinstance(op.attrs, PoolAttrs)
    window, (x,) = op.attrs.window, inputs
    height, width, channels = x.shape
    padded = any((*window.pad, *window.pad_end))
    if not padded and window.kernel == (height, width):
        return lower_mean(height * width, _quantization(x), _quantization(output))
    if x.quantization == output.quantization and not (padded and op.attrs.count_padding):
        return lower_pool("average", window, _quantization(output))
    # A pooling that also rescales is a depthwise convolution whose weights are all one part of the window.
    ones = np.ones((*window.kernel, 1, channels), np.int8)
    weight = Constant(f"{op.name}.ones", ones, scales=(float(np.float32(1 / window.taps)),))
    conv = ConvAttrs(window, channels)
    return quantized_conv2d(op.name, conv, _quantization(x), weight, None, _quantization(output))


def _pad(op: Op, graph: Graph, inputs: tuple[Tensor, ...], output: Tensor) -> Lowered | None:
    assert isinstance(op.attrs, Border)
    q = _quantization(output)
    value = np.clip(np.rint(op.attrs.value / q.scale) + q.zero_point, -128, 127)
    return Lowered(op.kind, replace(op.attrs, value=float(value)))


def _resize(op: Op, graph: Graph, inputs: tuple[Tensor, ...], output: Tensor) -> Lowered | None:
    attrs = op.attrs
    assert isinstance(attrs, ResizeAttrs)
    rows, columns = (positions(attrs, k, inputs[0].shape[k], output.shape[k]) for k in (0, 1))
    if attrs.mode == "nearest":
        return Lowered("gather", Positions(tuple(at for at, _, _ in rows), tuple(at for at, _, _ in columns)))
    fixed = [
        tuple((low, high, round(weight * ONE)) for low, high, weight in table) for table in (rows, columns)
    ]
    return Lowered("resize_i8", Bilinear(*fixed))


def _softmax(op: Op, graph: Graph, inputs: tuple[Tensor, ...], output: Tensor) -> Lowered | None:
    return lower_softmax(inputs[0], output)


TWINS: dict[str, Twin] = {
    "activation": _activation,
    "add": binary_twin,
    "average_pool": _average_pool,
    "conv2d": _conv2d,
    "max_pool": _max_pool,
    "maximum": binary_twin,
    "minimum": binary_twin,
    "mul": binary_twin,
    "pad": _pad,
    "prelu": binary_twin,
    "resize": _resize,
    "softmax": _softmax,
    "sub": binary_twin,
}
