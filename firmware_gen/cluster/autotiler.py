"""Cycles of int8 layers as the vendor's own software makes them, without NE16: for a check of the method.

These are not our kernels: AutoTiler's work on planes (channels first), ours on pixels. What is fitted here is
used for nothing of ours. A convolution costs so much for a multiply-accumulate, an output, an output of a
strided layer, and a weight, whatever the pixels (each is brought from afar once, and starts a pass over a
plane); an addition so much for a layer and a value. Both are fitted on the vendor's log of ResNet8.
"""

from __future__ import annotations

import functools

import numpy as np

from firmware_gen.cluster.fit import Vector, fit, left_out
from firmware_gen.cluster.published import Convolution, Layer, published


def convolution_features(layer: Convolution) -> tuple[float, float, float, float]:
    """Return multiply-accumulates, outputs, outputs of strided layers, weights."""
    strided = layer.outputs if layer.stride > 1 else 0
    return layer.macs, layer.outputs, strided, layer.weights


def addition_features(layer: Layer) -> tuple[float, float]:
    """Return one for the layer, and its values."""
    return 1, layer.values


@functools.cache
def convolution_rates() -> tuple[float, ...]:
    """Return the cycles on 8 cores of each feature of a convolution."""
    rows = published().convolutions
    return _rates(fit([convolution_features(row) for row in rows], [row.cycles for row in rows]))


@functools.cache
def addition_rates() -> tuple[float, ...]:
    """Return the cycles of an addition and of a value."""
    rows = published().additions
    return _rates(fit([addition_features(row) for row in rows], [row.cycles for row in rows]))


def held_out() -> list[tuple[str, int, float]]:
    """Return name, published cycles, and what was said of it unseen, of each layer of ResNet8.

    Convolutions are left out with all that have their shape, additions one at a time. Pooling and softmax
    are in no fit at all: they are taken for additions.
    """
    tables = published()
    said = left_out(tables.convolutions, convolution_features, lambda row: row.cycles, convolution_features)
    added = left_out(tables.additions, addition_features, lambda row: row.cycles)
    others = [float(np.dot(addition_rates(), addition_features(row))) for row in tables.other_layers]
    layers: tuple[Convolution | Layer, ...] = (
        *tables.convolutions,
        *tables.additions,
        *tables.other_layers,
    )
    return [
        (layer.name, layer.cycles, value)
        for layer, value in zip(layers, (*said, *added, *others), strict=True)
    ]


def other_kernel_cycles() -> float:
    """Return what is said of the vendor's 10x4 convolution over one channel, which is in no fit."""
    layer = published().other_kernel
    return float(np.dot(convolution_rates(), (layer.macs, layer.outputs, layer.outputs, layer.weights)))


def _rates(found: Vector) -> tuple[float, ...]:
    return tuple(float(value) for value in found)
