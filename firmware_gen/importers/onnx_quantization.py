"""QuantizeLinear and DequantizeLinear: the borders of integers in QDQ models, as NNCF, ONNX Runtime and torch
write them.

On constants both are folded: a weight that went through them is a float constant that knows its grid
(`Constant.scales`). On activations they become the graph's own ``quantize`` and ``dequantize``; the pass
:mod:`firmware_gen.passes.integer_layers` turns what lies between them into integer layers. Unsigned
activations become signed ones, with a zero point that is lower by 128.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Quantization, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.importers.onnx_node import Grid, Node
from firmware_gen.operators.quantize import dequantize, quantize

_OUTPUT_TYPES = {3: "int8"}  # TensorProto.INT8, as QuantizeLinear of opset 21 may say without a zero point
_LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int32": (-(1 << 31), (1 << 31) - 1)}


def _parameters(node: Node) -> tuple[NDArray[np.float32], NDArray[np.int64], str]:
    """Return scales, zero points and the integers' type."""
    if node.get("block_size", 0):
        raise node.error("blocked quantization")
    scales = np.atleast_1d(node.value(1)).astype(np.float32)
    zeros = node.value(2) if node.has(2) else None
    if zeros is not None:
        kind = zeros.dtype.name
    elif node.kind == "DequantizeLinear" and node.is_constant(0):
        kind = node.value(0).dtype.name
    else:
        kind = _OUTPUT_TYPES.get(int(node.get("output_dtype", 0)), "uint8")
    if kind not in _LIMITS:
        raise node.error(f"integers of type {kind}; int8 and uint8 can be handled")
    if scales.ndim != 1 or not (np.isfinite(scales).all() and (scales > 0).all()):
        raise node.error("scales that are not positive numbers")
    offsets = np.zeros(scales.size, np.int64) if zeros is None else np.atleast_1d(zeros).astype(np.int64)
    if offsets.shape != scales.shape:
        raise node.error(f"{offsets.size} zero points for {scales.size} scales")
    return scales, offsets, kind


def _aligned(numbers: NDArray[Any], value: NDArray[Any], node: Node) -> NDArray[Any]:
    """Return one number, or one for each position of the axis, in a shape that broadcasts to `value`."""
    if numbers.size == 1:
        return numbers.reshape(())
    axis = int(node.get("axis", 1))
    if not -value.ndim <= axis < value.ndim or value.shape[axis] != numbers.size:
        raise node.error(f"{numbers.size} scales along axis {axis} of a constant of shape {value.shape}")
    return numbers.reshape([-1 if k == axis % value.ndim else 1 for k in range(value.ndim)])


def _grid(node: Node, value: NDArray[Any], scales: NDArray[np.float32]) -> Grid:
    axis = None if scales.size == 1 else int(node.get("axis", 1)) % value.ndim
    return Grid(tuple(float(scale) for scale in scales), axis)


def _activation(node: Node, signed: bool) -> Quantization:
    """Return the node's quantization; `signed`: as that of an int8 tensor, whatever the file has."""
    scales, zeros, kind = _parameters(node)
    if scales.size != 1:
        raise node.error("an activation that is quantized per channel; quantize activations per tensor")
    if kind == "int32":
        raise node.error("activations of type int32; int8 and uint8 can be handled")
    return Quantization(float(scales[0]), int(zeros[0]) - (128 if signed and kind == "uint8" else 0))


def _quantize_linear(node: Node, builder: Builder) -> None:
    x, y = node.inputs[0], node.outputs[0]
    if node.is_constant(0):
        scales, zeros, kind = _parameters(node)
        value = node.value(0).astype(np.float32)
        low, high = _LIMITS[kind]
        with np.errstate(over="ignore", invalid="ignore"):
            steps = np.rint(value / _aligned(scales, value, node)) + _aligned(zeros, value, node)
        if not np.isfinite(steps).all():
            raise node.error("values that are not finite numbers")
        node.values[y] = np.clip(steps, low, high).astype(kind)
        return
    target = Tensor(y, builder.shape(x), "i8", _activation(node, signed=True), source=y)
    builder.put(quantize("even"), node.layer(), [x], target, builder.rank(x))


def _dequantize_linear(node: Node, builder: Builder) -> None:
    x, y = node.inputs[0], node.outputs[0]
    if node.is_constant(0):
        scales, zeros, _ = _parameters(node)
        value = node.value(0)
        offsets = _aligned(zeros, value, node).astype(np.int64)
        steps = (value.astype(np.int64) - offsets).astype(np.float32)
        node.values[y] = np.asarray(steps * _aligned(scales, value, node), np.float32)
        # A grid with the zero in its middle is what integer layers can use; any other is just numbers.
        if (zeros == (128 if value.dtype == np.uint8 else 0)).all():
            node.grids[y] = _grid(node, value, scales)
            node.origins[y] = node.origins.get(x, x)
        return
    known = builder.tensor(x)
    quantization = _activation(node, signed=known.dtype == "i8")
    if known.quantization is None and known.dtype != "f32":
        known = replace(known, quantization=quantization)  # an integer input of the network
        builder.declare(known, builder.rank(x))
    if known.quantization != quantization:
        raise node.error(f"'{x}' was not quantized with this scale and zero point")
    builder.put(dequantize(), node.layer(), [x], Tensor(y, known.shape, source=y), builder.rank(x))


CONVERTERS: dict[str, Callable[[Node, Builder], None]] = {
    "DequantizeLinear": _dequantize_linear,
    "QuantizeLinear": _quantize_linear,
}
