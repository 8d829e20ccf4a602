"""Arithmetic of one or two values, softmax, and the borders of quantization; int8 and float32."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from firmware_gen.graph import Constant, Shape, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.importers.tflite.node import Node, TfliteTensor
from firmware_gen.importers.tflite.window import fused_activation
from firmware_gen.operators import lookup
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.binary import BinaryAttrs, as_hwc, broadcast_shape
from firmware_gen.operators.elementwise_i8 import LOWERINGS, Operand
from firmware_gen.operators.quantize import dequantize, quantize
from firmware_gen.operators.softmax_i8 import lower_softmax
from firmware_gen.window import LINEAR, Activation

BINARY = {
    "ADD": "add",
    "MAXIMUM": "maximum",
    "MINIMUM": "minimum",
    "MUL": "mul",
    "PRELU": "prelu",
    "SUB": "sub",
}
WITH_ACTIVATION = ("ADD", "MUL", "SUB")  # the others' options have none
CLAMPS = {
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_0_TO_1": (0.0, 1.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
REAL_FUNCTIONS: dict[str, lookup.RealFunction] = {
    "EXP": np.exp,
    "GELU": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "TANH": np.tanh,
}
FLOAT_ACTIVATIONS = {
    "ELU": Activation("elu", 1.0),
    "HARD_SWISH": Activation("hard_swish"),
    "LOGISTIC": Activation("sigmoid"),
    "RELU": Activation("relu"),
    "TANH": Activation("tanh"),
}


def _binary(node: Node, builder: Builder) -> None:
    operands = node.tensor(0), node.tensor(1)
    y = node.outputs[0]
    constants = [tensor for tensor in operands if tensor.value is not None]
    if len(constants) == 2:
        raise node.error("two constant operands")
    if node.kind == "PRELU" and operands[1].value is None:
        raise node.error("slopes that are computed; constant ones are supported")
    first, second = (_shape(tensor, builder) for tensor in operands)
    if broadcast_shape(first, second, f"the layer '{node.name}'") != y.shape:
        raise node.error(f"operands of shapes {operands[0].dims} and {operands[1].dims} that make {y.dims}")
    kind, activation = BINARY[node.kind], LINEAR
    if node.kind in WITH_ACTIVATION and node.options is not None:
        activation = fused_activation(node)
    inputs = [tensor.name for tensor in operands if tensor.value is None]
    if _is_integer(node, *operands):
        parts = [Operand(node.quantization(t), _constant(t, node, builder)) for t in operands]
        lowered = LOWERINGS[kind](parts[0], parts[1], node.quantization(y), *activation.limits)
        builder.put(lowered, node.name, inputs, y.described(), y.rank)
        return
    found = [_constant(tensor, node, builder) for tensor in operands]
    attrs = BinaryAttrs(constant_first=found[0] is not None)
    lowered = Lowered(kind, attrs, tuple(constant for constant in found if constant is not None))
    _put_float(node, builder, lowered, inputs, activation)


def _shape(tensor: TfliteTensor, builder: Builder) -> Shape:
    return tensor.shape if tensor.value is not None else builder.shape(tensor.name)


def _constant(tensor: TfliteTensor, node: Node, builder: Builder) -> Constant | None:
    """Return a constant operand with three axes, None for an operand that is computed."""
    if tensor.value is None:
        return None
    scales = tuple(float(scale) for scale in tensor.scales)
    return Constant(f"{node.outputs[0].name}.operand", as_hwc(tensor.value), scales=scales)


def _put_float(
    node: Node, builder: Builder, lowered: Lowered, inputs: list[str], activation: Activation = LINEAR
) -> None:
    y = node.outputs[0]
    if activation == LINEAR:
        builder.put(lowered, node.name, inputs, y.described(), y.rank)
        return
    linear = _between(node, builder, lowered, inputs, "linear")
    builder.put(Lowered("activation", activation), node.name, (linear,), y.described(), y.rank)


def _between(node: Node, builder: Builder, lowered: Lowered, inputs: list[str], what: str) -> str:
    """Add a first step towards the output; return its name."""
    y = node.outputs[0]
    step = dataclasses.replace(y.described(), name=f"{y.name}.{what}", source="")
    builder.put(lowered, node.name, inputs, step, y.rank)
    return step.name


def _is_integer(node: Node, *inputs: TfliteTensor) -> bool:
    kinds = {tensor.dtype for tensor in (*inputs, node.outputs[0])}
    if kinds not in ({"i8"}, {"f32"}):
        raise node.error(f"values of types {', '.join(sorted(kinds))}; int8 and float32 are supported")
    return kinds == {"i8"}


def _unary(node: Node, builder: Builder) -> None:
    x, y = node.tensor(0), node.outputs[0]
    if builder.shape(x.name) != y.shape:
        raise node.error(f"a map of shape {x.dims} that becomes {y.dims}")
    if _is_integer(node, x):
        lowered = _table(node, x.described(), y.described())
        builder.put(lowered, node.name, (x.name,), y.described(), y.rank)
    elif node.kind == "ABS":
        negative = _between(node, builder, Lowered("negate"), [x.name], "negative")
        _put_float(node, builder, Lowered("maximum", BinaryAttrs()), [x.name, negative])
    elif node.kind == "SQUARE":
        _put_float(node, builder, Lowered("mul", BinaryAttrs()), [x.name, x.name])
    else:
        _put_float(node, builder, _float_unary(node), [x.name])


def _table(node: Node, x: Tensor, y: Tensor) -> Lowered:
    if node.kind in CLAMPS:
        return lookup.relu(x, y, *CLAMPS[node.kind])
    if node.kind in REAL_FUNCTIONS:
        if node.kind == "GELU" and node.options is not None and node.options.Approximate():
            raise node.error("the approximation of GELU by a tanh")
        return lookup.real_function(REAL_FUNCTIONS[node.kind], x, y)
    if node.kind == "LEAKY_RELU":
        return lookup.leaky_relu(x, y, _alpha(node))
    if node.kind == "HARD_SWISH":
        return lookup.hard_swish(x, y)
    if node.kind == "ABS":
        return lookup.absolute(x, y)
    raise node.error("int8 values; float32 is supported")


def _float_unary(node: Node) -> Lowered:
    if node.kind in FLOAT_ACTIVATIONS:
        return Lowered("activation", FLOAT_ACTIVATIONS[node.kind])
    if node.kind in CLAMPS:
        return Lowered("activation", Activation("clip", *CLAMPS[node.kind]))
    if node.kind == "NEG":
        return Lowered("negate")
    if node.kind == "LEAKY_RELU":
        return _leaky_relu(_alpha(node), f"{node.outputs[0].name}.operand")
    raise node.error("float32 values; int8 is supported")


def _leaky_relu(alpha: float, name: str) -> Lowered:
    """Return y = x above 0, alpha * x below, float32; `name` is the constant's where one is needed."""
    if alpha > 0:
        return Lowered("activation", Activation("leaky_relu", alpha))
    # The kernel of a leaky ReLU derives its gradient from the sign of the output, which such a slope changes.
    slope = Constant(name, np.full((1, 1, 1), alpha, np.float32))
    return Lowered("prelu", BinaryAttrs(), (slope,))


def _alpha(node: Node) -> float:
    return float(node.options.Alpha()) if node.options is not None else 0.0


def _softmax(node: Node, builder: Builder) -> None:
    x, y = node.tensor(0), node.outputs[0]
    beta = float(node.options.Beta()) if node.options is not None else 1.0
    if builder.shape(x.name) != y.shape or not beta > 0:
        raise node.error(f"a map of shape {x.dims} that becomes {y.dims} with beta {beta}")
    if _is_integer(node, x):
        builder.put(
            lower_softmax(x.described(), y.described(), beta), node.name, (x.name,), y.described(), y.rank
        )
        return
    if beta != 1:
        factor = Constant(f"{y.name}.beta", np.full((1, 1, 1), beta, np.float32))
        scaled = _between(node, builder, Lowered("mul", BinaryAttrs(), (factor,)), [x.name], "scaled")
        _put_float(node, builder, Lowered("softmax"), [scaled])
    else:
        _put_float(node, builder, Lowered("softmax"), [x.name])


def _quantize(node: Node, builder: Builder) -> None:
    x, y = node.tensor(0), node.outputs[0]
    if builder.shape(x.name) != y.shape:
        raise node.error(f"a map of shape {x.dims} that becomes {y.dims}")
    node.quantization(y)
    if x.dtype == "f32" and y.dtype == "i8":
        lowered = quantize("away")
    elif {x.dtype, y.dtype} <= {"i8", "u8"}:
        node.quantization(x)
        lowered = lookup.requantize(x.described(), y.described())
    else:
        raise node.error(f"values of type {x.dtype} as {y.dtype}")
    builder.put(lowered, node.name, (x.name,), y.described(), y.rank)


def _dequantize(node: Node, builder: Builder) -> None:
    x, y = node.tensor(0), node.outputs[0]
    if x.dtype not in ("i8", "u8") or y.dtype != "f32" or builder.shape(x.name) != y.shape:
        raise node.error(f"values of type {x.dtype} and shape {x.dims} as {y.dtype} and {y.dims}")
    node.quantization(x)
    builder.put(dequantize(), node.name, (x.name,), y.described(), y.rank)


CONVERTERS: dict[str, Callable[[Node, Builder], None]] = {
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(
        (*CLAMPS, *REAL_FUNCTIONS, *FLOAT_ACTIVATIONS, "ABS", "LEAKY_RELU", "NEG", "SQUARE"), _unary
    ),
    "DEQUANTIZE": _dequantize,
    "QUANTIZE": _quantize,
    "SOFTMAX": _softmax,
}
