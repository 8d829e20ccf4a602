"""Depthwise convolutions on int8 with Helium, one output a channel (C: kernels/mve/depthwise_i8.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.conv2d_i8_mve import bounded, fast_literal, padded_factors

if TYPE_CHECKING:
    from firmware_gen.operators.conv2d_i8 import ConvI8Attrs
    from firmware_gen.schedule import Step

CHANNELS = 16  # a vector
# Channels of the sums that products of 16 bytes are widened to, vector after vector.
ORDER = (0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15)
MOST_TAPS = 64  # FT_MVE_TAPS


def takes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> bool:
    """Tell whether the layer has one input and one output for each of several channels, and bounded sums."""
    weight, bias, *factors = (graph.constants[name].value for name in op.constants)
    conv = attrs.conv
    suits = conv.groups > 1 and not conv.transposed and weight.shape[2:] == (1, conv.groups)
    plain = not attrs.once and not attrs.leaky
    return suits and plain and conv.window.taps <= MOST_TAPS and bounded(weight, bias, factors, once=False)


def scratch_bytes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> int:
    """Return 0."""
    return 0


def emit(step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    """Return the kernel's call."""
    op, window, tables = step.op, attrs.conv.window, step.op.constants
    weight, bias, *factors = (step.graph.constants[name].value for name in tables)
    multipliers, shifts = padded_factors(factors, CHANNELS)
    x, y = op.inputs[0], op.outputs[0]
    names = [f"{name}.mve" for name in tables]
    packed = (c.array(names[2], _ordered(multipliers)), c.array(names[3], _ordered(shifts)))
    padding = "NULL"
    if any((*window.pad, *window.pad_end)):
        padding = c.array(f"{op.name}.padding", np.full(multipliers.size, attrs.x_zero, np.int8))
    return (
        f"ft_mve_depthwise_i8({c.pointer(x)}, {c.map(x)}, {padding},\n"
        f"    {c.array(names[0], _blocks(weight))}, {c.array(names[1], _ordered(_padded(bias)))},\n"
        f"    {c.pointer(y)}, {c.map(y)}, {window.c()}, {_group(weight)},\n"
        f"    {fast_literal(packed, attrs)}, {c.rows(step)});"
    )


def _group(weight: NDArray[np.int8]) -> int:
    """Return how many consecutive taps can be summed in 16 bits, whatever the inputs."""
    sizes = np.abs(weight.reshape(-1, weight.shape[3]).astype(np.int64)) * 128
    taps = len(sizes)
    fits = (
        group
        for group in range(taps, 1, -1)
        if np.add.reduceat(sizes, range(0, taps, group)).max() <= np.iinfo(np.int16).max
    )
    return next(fits, 1)


def _padded(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values with zeros in the last axis up to a multiple of 16 channels."""
    widths = [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % CHANNELS)]
    return np.pad(values, widths)


def _ordered(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values of every 16 channels in the order of the sums."""
    return np.ascontiguousarray(values.reshape(-1, CHANNELS)[:, ORDER])


def _blocks(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the weights as [16 channels][tap][channel]."""
    taps = _padded(weight.reshape(-1, weight.shape[3]))
    return np.ascontiguousarray(taps.reshape(len(taps), -1, CHANNELS).transpose(1, 0, 2))
