"""One operator of a TFLite file, as the converters see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import ModelError
from firmware_gen.graph import DType, Quantization, Shape, Tensor
from firmware_gen.window import Pair


@dataclass(frozen=True)
class TfliteTensor:
    """A tensor of the file. `name` is unique in the file; `value` is None unless it is a constant.

    `scales` and `zero_points` are empty when the tensor is not quantized; they hold one number, or one for
    each position along `axis`.
    """

    index: int
    name: str
    dims: tuple[int, ...]
    dtype: str  # f32, i8, u8, i16, i32, i64, bool
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int = 0
    value: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.dims)

    @property
    def shape(self) -> Shape:
        """Rows, columns, channels: the last three axes.

        Raises:
            ModelError: the axes in front of those are not all 1.
        """
        padded = (1, 1, 1, *self.dims)
        if any(d != 1 for d in padded[:-3]):
            raise ModelError(
                f"the tensor '{self.name}' has shape {self.dims}; firmware computes one sample of at most "
                "three axes at a time"
            )
        return padded[-3], padded[-2], padded[-1]

    @property
    def quantization(self) -> Quantization | None:
        """The quantization of the whole tensor, None when it has none.

        Raises:
            ModelError: it is quantized per channel.
        """
        if not self.scales.size:
            return None
        if self.scales.size != 1:
            raise ModelError(f"the tensor '{self.name}' is quantized per channel; only weights can be")
        return Quantization(float(self.scales[0]), int(self.zero_points[0]))

    def described(self) -> Tensor:
        """Return the graph's description of this activation.

        Raises:
            ModelError: its type, shape or quantization cannot be an activation's.
        """
        if self.dtype not in ("f32", "i8", "u8", "i32"):
            raise ModelError(
                f"the tensor '{self.name}' is of type {self.dtype}; supported are float32, int8 and uint8"
            )
        dtype: DType = self.dtype  # type: ignore[assignment]
        return Tensor(self.name, self.shape, dtype, self.quantization, str(self.index))


@dataclass(frozen=True)
class Node:
    """One operator: `kind` is its name in the schema (CONV_2D), `options` the schema's table, or None.

    `dilation` and `pads` (of rows and columns, before and after) overrule the options of a convolution that
    was put together from several operators.
    """

    kind: str
    name: str
    inputs: tuple[TfliteTensor | None, ...]
    outputs: tuple[TfliteTensor, ...]
    options: Any = None
    dilation: Pair | None = None
    pads: tuple[Pair, Pair] | None = None

    def has(self, position: int) -> bool:
        """Tell whether an optional input is given."""
        return len(self.inputs) > position and self.inputs[position] is not None

    def tensor(self, position: int) -> TfliteTensor:
        """Return an input that must be there."""
        found = self.inputs[position] if len(self.inputs) > position else None
        if found is None:
            raise self.error(f"its input {position} is missing")
        return found

    def value(self, position: int) -> NDArray[Any]:
        """Return an input that must be constant."""
        tensor = self.tensor(position)
        if tensor.value is None:
            raise self.error(f"its input '{tensor.name}' must be a constant")
        return tensor.value

    def quantization(self, tensor: TfliteTensor) -> Quantization:
        """Return the quantization that `tensor` must have."""
        if tensor.quantization is None:
            raise self.error(f"'{tensor.name}' is of type {tensor.dtype} without quantization")
        return tensor.quantization

    def error(self, problem: str) -> ModelError:
        """Return the error that names this operator."""
        return ModelError(f"{self.kind} (layer '{self.name}') is not supported: {problem}")
