"""ONNX operators that look at one or two values at a time: arithmetic, scales and shifts, activations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from firmware_gen.graph import Array, Constant, Shape, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.importers.onnx_node import Node, floats
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.binary import BinaryAttrs, broadcast_shape
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.window import Activation, Window

BINARY = {"Add": "add", "Div": "div", "Max": "maximum", "Min": "minimum", "Mul": "mul", "Sub": "sub"}


def affine(
    node: Node, builder: Builder, x: str, scale: np.ndarray, shift: Constant | np.ndarray, output: str = ""
) -> None:
    """Add y = x * scale + shift per channel as a 1x1 depthwise convolution; passes fold it where they can."""
    shape, layer = builder.shape(x), builder.free(node.layer())
    channels = shape[2]
    wide = np.broadcast_to(scale, (channels,)).astype(np.float32).reshape(1, 1, 1, channels)
    weight = Constant(f"{layer}.scale", wide)
    if not isinstance(shift, Constant):
        shift = Constant(f"{layer}.shift", np.broadcast_to(shift, (channels,)).astype(np.float32))
    constants = [builder.constant(weight), builder.constant(shift)]
    attrs = ConvAttrs(Window((1, 1)), channels)
    builder.add("conv2d", layer, (x,), output or node.outputs[0], shape, attrs, constants, builder.rank(x))


def _batch_normalization(node: Node, builder: Builder) -> None:
    gamma, beta, mean, variance = (floats(node, k).astype(np.float64) for k in (1, 2, 3, 4))
    if node.get("training_mode", 0):
        raise node.error("training mode; export the model in evaluation mode")
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + float(node.get("epsilon", 1e-5)))
        shift = beta - mean * scale
    affine(node, builder, node.inputs[0], scale, shift)


def _binary(node: Node, builder: Builder) -> None:
    if len(node.inputs) != 2:
        raise node.error(f"{len(node.inputs)} operands; two can be handled")
    constant = [k for k in (0, 1) if node.is_constant(k)]
    if len(constant) == 2:
        raise node.error("two constant operands")
    if node.kind == "Div" and constant != [1]:
        raise node.error("a divisor that is computed; a constant one can be handled")
    if constant:
        _with_constant(node, builder, constant[0])
    else:
        _of_two_maps(node, builder)


def _of_two_maps(node: Node, builder: Builder) -> None:
    a, b = node.inputs
    if builder.rank(a) != builder.rank(b):
        raise node.error(
            f"operands with {builder.rank(a)} and {builder.rank(b)} axes, which do not meet at the channels"
        )
    shape = broadcast_shape(builder.shape(a), builder.shape(b), f"the node '{node.name}'")
    kind = BINARY[node.kind]
    builder.add(kind, node.layer(), (a, b), node.outputs[0], shape, BinaryAttrs(), rank=builder.rank(a))


def _with_constant(node: Node, builder: Builder, position: int) -> None:
    """Add an operator with one constant operand: a scale and shift of channels where it is one."""
    value, x = floats(node, position), node.inputs[1 - position]
    if node.kind == "Div":
        with np.errstate(divide="ignore", over="ignore"):
            value = np.float32(1) / value
    rank, channels = builder.rank(x), builder.shape(x)[2]
    operand = _operand(node, value, rank)
    if node.kind in ("Max", "Min") and operand.size == 1:
        limit = float(operand.item())
        low, high = (limit, math.inf) if node.kind == "Max" else (-math.inf, limit)
        _put_activation(node, builder, x, _clamp(low, high))
    elif node.kind in ("Add", "Div", "Mul", "Sub") and operand.shape in ((1, 1, 1), (1, 1, channels)):
        _scale_and_shift(node, builder, position, operand.ravel())
    else:
        shape = broadcast_shape(_shape(operand), builder.shape(x), f"the node '{node.name}'")
        kind = "mul" if node.kind == "Div" else BINARY[node.kind]
        scales = node.scales(position, axis=-1) if node.kind != "Div" else ()
        constant = Constant(f"{node.outputs[0]}.operand", operand, scales=scales)
        lowered = Lowered(kind, BinaryAttrs(constant_first=position == 0), (constant,))
        target = Tensor(node.outputs[0], shape, source=node.outputs[0])
        builder.put(lowered, node.layer(), (x,), target, rank)


def _shape(operand: Array) -> Shape:
    height, width, channels = operand.shape
    return height, width, channels


def _operand(node: Node, value: Array, rank: int) -> Array:
    """Return a constant operand of a map with `rank` axes as rows, columns, channels."""
    if value.size == 1:
        return value.reshape(1, 1, 1)
    dims = (1,) * (rank - value.ndim) + value.shape  # axes are aligned at the end
    if len(dims) != rank or dims[0] != 1:
        raise node.error(f"a constant of shape {value.shape} and a map with {rank} axes")
    wide = value.reshape(dims)[0]  # (C,), (C, L) or (C, H, W)
    channels_last = np.ascontiguousarray(np.moveaxis(wide, 0, -1))
    return channels_last.reshape((1,) * (3 - wide.ndim) + channels_last.shape)


def _scale_and_shift(node: Node, builder: Builder, position: int, value: Array) -> None:
    x, one, nought = node.inputs[1 - position], np.ones(1, np.float32), np.zeros(1, np.float32)
    if node.kind in ("Mul", "Div"):
        affine(node, builder, x, value, nought)
    elif node.kind == "Sub":
        affine(node, builder, x, *((-one, value) if position == 0 else (one, -value)))
    elif value.size == builder.shape(x)[2] and node.value(position).size == value.size:
        shape = node.value(position).shape
        affine(node, builder, x, one, Constant(node.origin(position), value, (0,), shape))
    else:
        affine(node, builder, x, one, value)


def _negate(node: Node, builder: Builder) -> None:
    x = node.inputs[0]
    builder.add("negate", node.layer(), (x,), node.outputs[0], builder.shape(x), rank=builder.rank(x))


def _prelu(node: Node, builder: Builder) -> None:
    x, slope = node.inputs[0], floats(node, 1)
    rank, shape = builder.rank(x), builder.shape(x)
    operand = _operand(node, slope, rank)
    if operand.size == 1 and operand.item() > 0:
        _put_activation(node, builder, x, Activation("leaky_relu", float(operand.item())))
        return
    if broadcast_shape(shape, _shape(operand), f"the node '{node.name}'") != shape:
        raise node.error(f"slopes of shape {slope.shape} for a map of {shape}")
    constant = Constant(f"{node.outputs[0]}.operand", operand, scales=node.scales(1, axis=-1))
    target = Tensor(node.outputs[0], shape, source=node.outputs[0])
    builder.put(Lowered("prelu", BinaryAttrs(), (constant,)), node.layer(), (x,), target, rank)


def _activation(node: Node, builder: Builder) -> None:
    activation = {
        "Clip": lambda: _clip(node),
        "Elu": lambda: _elu(node),
        "HardSwish": lambda: Activation("hard_swish"),
        "LeakyRelu": lambda: _leaky_relu(node),
        "Relu": lambda: Activation("relu"),
        "Sigmoid": lambda: Activation("sigmoid"),
        "Tanh": lambda: Activation("tanh"),
    }[node.kind]()
    _put_activation(node, builder, node.inputs[0], activation)


def _put_activation(node: Node, builder: Builder, x: str, activation: Activation) -> None:
    shape, rank = builder.shape(x), builder.rank(x)
    builder.add("activation", node.layer(), (x,), node.outputs[0], shape, activation, rank=rank)


def _leaky_relu(node: Node) -> Activation:
    slope = float(node.get("alpha", 0.01))
    if slope <= 0:
        # The gradient is derived from the sign of the output, which a slope of 0 or below does not keep.
        raise node.error(f"a slope of {slope}; it must be positive (0 is Relu)")
    return Activation("leaky_relu", slope)


def _elu(node: Node) -> Activation:
    alpha = float(node.get("alpha", 1.0))
    if alpha <= 0:
        raise node.error(f"alpha {alpha}; it must be positive")
    return Activation("elu", alpha)


def _clip(node: Node) -> Activation:
    low, high = (
        float(node.value(k).ravel()[0]) if node.has(k) else float(node.get(name, default))
        for k, name, default in ((1, "min", -math.inf), (2, "max", math.inf))
    )
    if not low < high:
        raise node.error(f"limits {low} and {high}")
    return _clamp(low, high)


def _clamp(low: float, high: float) -> Activation:
    return Activation("relu") if (low, high) == (0, math.inf) else Activation("clip", low, high)


def _hard_sigmoid(node: Node, builder: Builder) -> None:
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    linear = f"{node.outputs[0]}.linear"
    affine(node, builder, node.inputs[0], np.array([alpha]), np.array([beta]), linear)
    _put_activation(node, builder, linear, Activation("clip", 0.0, 1.0))


CONVERTERS: dict[str, Callable[[Node, Builder], None]] = {
    **dict.fromkeys(BINARY, _binary),
    "BatchNormalization": _batch_normalization,
    "Clip": _activation,
    "Elu": _activation,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation,
    "LeakyRelu": _activation,
    "Neg": _negate,
    "PRelu": _prelu,
    "Relu": _activation,
    "Sigmoid": _activation,
    "Tanh": _activation,
}
