"""Operators that are computed when the file is read, because all their inputs are known.

Converters write the sizes of tensors as operators (Keras' Flatten, Reshape), and float16 weights as constants
that are unpacked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_gen.importers.tflite.node import Node

Array = NDArray[Any]

MAX_SHAPE_VALUES = 64  # what computes shapes is small


def _shape(node: Node) -> Array:
    return np.array(node.tensor(0).dims, np.int32)


def _strided_slice(node: Node) -> Array:
    value, begin, end, strides = (node.value(k) for k in range(4))
    options = node.options
    if options.EllipsisMask() or options.NewAxisMask() or options.Offset():
        raise node.error("an ellipsis, a new axis or an offset")
    slices: list[slice | int] = []
    for axis in range(begin.size):
        low, high, step = int(begin[axis]), int(end[axis]), int(strides[axis])
        bit = 1 << axis
        if options.ShrinkAxisMask() & bit:
            slices.append(low)
            continue
        slices.append(
            slice(None if options.BeginMask() & bit else low, None if options.EndMask() & bit else high, step)
        )
    return np.asarray(value[tuple(slices)])


def _pack(node: Node) -> Array:
    return np.stack([node.value(k) for k in range(len(node.inputs))], node.options.Axis())


def _concatenation(node: Node) -> Array:
    return np.concatenate([node.value(k) for k in range(len(node.inputs))], node.options.Axis())


def _gather(node: Node) -> Array:
    if node.options is not None and node.options.BatchDims():
        raise node.error("batch dimensions")
    axis = 0 if node.options is None else node.options.Axis()
    return np.take(node.value(0), node.value(1), axis)


def _slice(node: Node) -> Array:
    value, begin, size = (node.value(k) for k in range(3))
    ranges = zip(begin.ravel().tolist(), size.ravel().tolist(), strict=True)
    return value[tuple(slice(at, None if count < 0 else at + count) for at, count in ranges)]


def _product(node: Node) -> Array:
    axes = tuple(int(axis) for axis in node.value(1).ravel())
    return np.asarray(np.prod(node.value(0), axis=axes, keepdims=node.options.KeepDims()))


def _arithmetic(function: Callable[[Array, Array], Array]) -> Callable[[Node], Array]:
    def fold(node: Node) -> Array:
        return np.asarray(function(node.value(0), node.value(1)))

    return fold


def _reshape(node: Node) -> Array:
    shape = node.value(1).ravel().tolist() if node.has(1) else node.outputs[0].dims
    return node.value(0).reshape(shape)


def _same_values(node: Node) -> Array:
    """Return the values in the shape that the file gives: SQUEEZE, EXPAND_DIMS, CAST."""
    return node.value(0).reshape(node.outputs[0].dims)


def _small(fold: Callable[[Node], Array]) -> Callable[[Node], Array]:
    """Restrict `fold` to integers that can be a shape; other constants are a network's own."""

    def folded(node: Node) -> Array:
        for tensor in node.inputs:
            if tensor is None or tensor.value is None:
                continue
            if tensor.dtype not in ("i32", "i64") or tensor.value.size > MAX_SHAPE_VALUES:
                raise node.error(f"all its inputs are constants, but '{tensor.name}' is no shape")
        result = fold(node)
        if result.size > MAX_SHAPE_VALUES:
            raise node.error(f"it computes {result.size} constants")
        return result.astype(np.int32)

    return folded


def _dequantize(node: Node) -> Array:
    """Return float32 weights from float16 or int8 ones."""
    tensor, value = node.tensor(0), node.value(0)
    if tensor.dtype == "f16":
        return value.astype(np.float32)
    if not tensor.scales.size:
        raise node.error(f"'{tensor.name}' is of type {tensor.dtype} without quantization")
    sizes = [1] * tensor.rank
    if tensor.scales.size > 1:
        sizes[tensor.axis] = tensor.scales.size
    centred = value.astype(np.float32) - tensor.zero_points.reshape(sizes).astype(np.float32)
    return centred * tensor.scales.reshape(sizes)


FOLDERS: dict[str, Callable[[Node], Array]] = {
    "ADD": _small(_arithmetic(np.add)),
    "CAST": _small(_same_values),
    "CONCATENATION": _small(_concatenation),
    "DEQUANTIZE": _dequantize,
    "EXPAND_DIMS": _small(_same_values),
    "GATHER": _small(_gather),
    "MAXIMUM": _small(_arithmetic(np.maximum)),
    "MINIMUM": _small(_arithmetic(np.minimum)),
    "MUL": _small(_arithmetic(np.multiply)),
    "PACK": _small(_pack),
    "REDUCE_PROD": _small(_product),
    "RESHAPE": _small(_reshape),
    "SHAPE": _small(_shape),
    "SLICE": _small(_slice),
    "SQUEEZE": _small(_same_values),
    "STRIDED_SLICE": _small(_strided_slice),
    "SUB": _small(_arithmetic(np.subtract)),
}
