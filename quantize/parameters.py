"""What quantization decides: the scale and zero point of each tensor, the scales of each weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Array, Graph, Quantization
from zoo.task import Task

QMIN, QMAX = -128, 127
WEIGHT_MAX = 127
"""Weights are symmetric, -127..127."""


@dataclass(frozen=True)
class QuantizedGraph:
    """A graph and how it becomes int8.

    Args:
        graph: simplified, in float.
        activations: of every tensor that is int8.
        weights: the scale of each output channel, for every weight that is int8; of a transposed convolution
            with groups, of each output channel of a group.
    """

    graph: Graph
    activations: Mapping[str, Quantization]
    weights: Mapping[str, Array]


def covering(low: float, high: float) -> Quantization:
    """Return the finest quantization for `low` to `high` that represents 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / (QMAX - QMIN))) or 1.0
    return Quantization(scale, int(np.clip(round(QMIN - low / scale), QMIN, QMAX)))


def input_types(task: Task) -> dict[str, Quantization]:
    """Return the quantization of the network's inputs, in which a pixel is stored exactly."""
    return {spec.name: covering(spec.bias, 255 * spec.scale + spec.bias) for spec in task.inputs}


def limits(quantization: Quantization) -> tuple[float, float]:
    """Return the lowest and the highest value that int8 can represent."""
    low, high = ((q - quantization.zero_point) * quantization.scale for q in (QMIN, QMAX))
    return low, high


def nearest(values: Array, quantization: Quantization) -> Array:
    """Return the values that int8 represents, as QuantizeLinear and DequantizeLinear compute them."""
    scale = np.float32(quantization.scale)
    steps = np.clip(np.rint(values / scale) + quantization.zero_point, QMIN, QMAX)
    found: Array = ((steps - quantization.zero_point) * scale).astype(np.float32)
    return found


def weight_scales(value: Array) -> Array:
    """Return one scale for each output channel of a weight, whose last axis they are in the graph."""
    largest = np.abs(value).max((0, 1, 2))
    found: Array = np.where(largest > 0, largest / WEIGHT_MAX, 1).astype(np.float32)
    return found


def integers(value: Array, scales: Array) -> NDArray[np.int8]:
    """Return a weight in the graph's order of axes as int8."""
    found: NDArray[np.int8] = np.clip(np.rint(value / scales), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
    return found
