"""Weights between the board's order and the model file's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import UserError
from firmware_gen.graph import Constant

Weights = Mapping[str, NDArray[Any]]


def to_source(constant: Constant, value: NDArray[Any]) -> NDArray[Any]:
    """Return `value` (of the board, any shape) as the array that stands in the model file.

    A weight that folding has made stands nowhere; it keeps the kernels' order. Where only some of a layer's
    channels learn, the others are as they were.
    """
    shaped = value.reshape(constant.value.shape)
    if constant.slab is not None:
        part, shaped = shaped, constant.slab.whole.copy()
        shaped[constant.slab.index] = part
    if constant.source_axes is None:
        return shaped
    return np.ascontiguousarray(shaped.transpose(constant.source_axes).reshape(constant.source_shape))


def from_source(constant: Constant, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the model file's array in the kernels' order; of a layer's channels those that `constant` has.

    Raises:
        UserError: the array has another shape.
    """
    axes = constant.source_axes
    whole = constant.value if constant.slab is None else constant.slab.whole
    expected: tuple[int, ...] = whole.shape if axes is None else constant.source_shape
    if value.shape != expected:
        raise UserError(f"{constant.name} has shape {expected} in the model, but {value.shape} was given")
    ordered = value
    if axes is not None:
        ordered = value.reshape([whole.shape[axis] for axis in axes]).transpose(np.argsort(axes))
    if constant.slab is not None:
        ordered = ordered[constant.slab.index]
    return np.ascontiguousarray(ordered.astype(np.float32))
