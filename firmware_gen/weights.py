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

    A weight that folding has made stands nowhere; it keeps the kernels' order.
    """
    shaped = value.reshape(constant.value.shape)
    if constant.source_axes is None:
        return shaped
    return np.ascontiguousarray(shaped.transpose(constant.source_axes).reshape(constant.source_shape))


def from_source(constant: Constant, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the model file's array in the kernels' order.

    Raises:
        UserError: the array has another shape.
    """
    axes = constant.source_axes
    if axes is None:
        expected: tuple[int, ...] = constant.value.shape
    else:
        expected = constant.source_shape
    if value.shape != expected:
        raise UserError(f"{constant.name} has shape {expected} in the model, but {value.shape} was given")
    if axes is None:
        return value.astype(np.float32)
    permuted = value.reshape([constant.value.shape[axis] for axis in axes])
    return np.ascontiguousarray(permuted.transpose(np.argsort(axes)).astype(np.float32))
