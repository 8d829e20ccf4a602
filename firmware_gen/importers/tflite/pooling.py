"""Poolings, reductions and resizings, int8 and float32."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

from firmware_gen.importers.builder import Builder
from firmware_gen.importers.tflite.layout import BATCH, axis_of, move_to
from firmware_gen.importers.tflite.node import Node
from firmware_gen.importers.tflite.window import fused_activation, read_window
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.pool import PoolAttrs
from firmware_gen.operators.pool_i8 import lower_mean, lower_pool, lower_sum
from firmware_gen.operators.resize import ResizeAttrs
from firmware_gen.operators.resize_i8 import ResizeAttrsI8, lower_bilinear, lower_nearest
from firmware_gen.window import LINEAR, Window

MAX_TAPS = 255  # of a max pooling that may learn: the tap is kept in a byte


def _is_integer(node: Node) -> bool:
    kinds = (node.tensor(0).dtype, node.outputs[0].dtype)
    if kinds not in (("i8", "i8"), ("f32", "f32")):
        raise node.error(f"maps of types {kinds[0]} and {kinds[1]}; int8 and float32 are supported")
    return kinds[0] == "i8"


def _expect_same_scale(node: Node) -> None:
    x, y = node.tensor(0), node.outputs[0]
    if x.quantization != y.quantization:
        raise node.error(f"'{x.name}' and '{y.name}' have different scales; they must be the same")


def _pool(node: Node, builder: Builder) -> None:
    x, y = node.tensor(0), node.outputs[0]
    height, width, channels = builder.shape(x.name)
    if x.rank != 4 or node.options is None:
        raise node.error(f"a map of shape {x.dims}")
    kernel = (node.options.FilterHeight(), node.options.FilterWidth())
    window = read_window(node, kernel, (height, width))
    activation = fused_activation(node)
    out = y.described()
    if min(window.output(height, width)) < 1 or out.shape != (*window.output(height, width), channels):
        raise node.error(f"a window of {kernel} that makes {y.dims} from {x.dims}")
    kind: Literal["max", "average"] = "max" if node.kind == "MAX_POOL_2D" else "average"
    if _is_integer(node):
        lowered = lower_pool(kind, window, node.quantization(y), activation)
        builder.put(lowered, node.name, (x.name,), out, y.rank)
        return
    if kind == "max" and window.taps > MAX_TAPS:
        raise node.error(f"a window of {window.taps} positions; at most {MAX_TAPS} can be handled")
    lowered = Lowered(f"{kind}_pool", PoolAttrs(window))
    if activation == LINEAR:
        builder.put(lowered, node.name, (x.name,), out, y.rank)
        return
    linear = dataclasses.replace(out, name=f"{y.name}.linear", source="")
    builder.put(lowered, node.name, (x.name,), linear, y.rank)
    builder.put(Lowered("activation", activation), node.name, (linear.name,), out, y.rank)


def _reduce(node: Node, builder: Builder) -> None:
    x = node.tensor(0)
    shape = builder.shape(x.name)
    axes = {axis_of(node, int(axis), x.rank) for axis in node.value(1).ravel()} - {BATCH}
    rows, columns, channels = (1 if axis in axes else size for axis, size in enumerate(shape))
    kept = (rows, columns, channels)
    lowered = _lower_reduction(node, kept == (1, 1, shape[2]), math.prod(shape) // math.prod(kept), shape[:2])
    move_to(node, builder, node.outputs[0]).put(lowered, x.name, kept)


def _lower_reduction(node: Node, is_global: bool, count: int, size: tuple[int, int]) -> Lowered:
    """Return the reduction over `count` values; `is_global`: they are all rows and columns, `size`."""
    if not _is_integer(node):
        if is_global and node.kind == "MEAN":
            return Lowered("average_pool", PoolAttrs(Window(size)))
        return Lowered(node.kind.lower())
    if node.kind in ("MEAN", "SUM"):
        lower = lower_mean if node.kind == "MEAN" else lower_sum
        return lower(count, node.quantization(node.tensor(0)), node.quantization(node.outputs[0]))
    _expect_same_scale(node)
    return Lowered(f"{node.kind.lower()}_i8")


def _resize(node: Node, builder: Builder) -> None:
    x, y = node.tensor(0), node.outputs[0]
    height, width, channels = builder.shape(x.name)
    sizes = [int(size) for size in node.value(1).ravel()]
    if x.rank != 4 or len(sizes) != 2 or min(sizes) < 1 or node.options is None:
        raise node.error(f"a map of shape {x.dims} to the size {sizes}")
    attrs = ResizeAttrsI8(node.options.AlignCorners(), node.options.HalfPixelCenters())
    shape = (sizes[0], sizes[1], channels)
    # Checked before tables of that size are made.
    if y.dims != (1, *shape):
        raise node.error(f"a result of shape {y.dims} where {(1, *shape)} was expected")
    integer = _is_integer(node)
    if node.kind == "RESIZE_NEAREST_NEIGHBOR":
        lowered = lower_nearest((height, width, channels), shape[:2], attrs)
    elif attrs.align_corners and attrs.half_pixel_centers:
        raise node.error("aligned corners and half-pixel centers at once")
    elif integer:
        lowered = lower_bilinear((height, width, channels), shape[:2], attrs)
    else:
        coordinates = "half_pixel" if attrs.half_pixel_centers else "asymmetric"
        if attrs.align_corners:
            coordinates = "align_corners"
        scale = (shape[0] / height, shape[1] / width)
        lowered = Lowered("resize", ResizeAttrs("linear", coordinates, "floor", scale))
    builder.put(lowered, node.name, (x.name,), y.described(), y.rank)


CONVERTERS: dict[str, Callable[[Node, Builder], None]] = {
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "MEAN": _reduce,
    "REDUCE_MAX": _reduce,
    "REDUCE_MIN": _reduce,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "SUM": _reduce,
}
