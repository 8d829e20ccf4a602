"""Windows of convolutions and poolings, and activations: attributes that several operators share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A sliding window; every pair is (rows, columns)."""

    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)  # before the first row and column
    pad_end: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def taps(self) -> int:
        """Number of positions in the window."""
        return self.kernel[0] * self.kernel[1]

    def output(self, height: int, width: int, *, ceil: bool = False) -> Pair:
        """Return rows and columns after the window has stepped over a map (ONNX Conv, MaxPool)."""

        def axis(k: int, size: int) -> int:
            padded = size + self.pad[k] + self.pad_end[k]
            span = padded - self.dilation[k] * (self.kernel[k] - 1) - 1
            count = (-(-span // self.stride[k]) if ceil else span // self.stride[k]) + 1
            # A window that would start in the padding behind the map does not count (PyTorch, ONNX).
            if ceil and (count - 1) * self.stride[k] >= size + self.pad[k]:
                count -= 1
            return count

        return axis(0, height), axis(1, width)

    def transposed_output(self, height: int, width: int, extra: Pair = (0, 0)) -> Pair:
        """Return rows and columns of a transposed convolution (ONNX ConvTranspose)."""

        def axis(k: int, size: int) -> int:
            span = self.dilation[k] * (self.kernel[k] - 1) + 1
            return (size - 1) * self.stride[k] + span + extra[k] - self.pad[k] - self.pad_end[k]

        return axis(0, height), axis(1, width)

    def rows_below(self, row: int, height: int) -> Pair:
        """Return the rows of a map that output row `row` sees, the end excluded; empty if none."""
        start = row * self.stride[0] - self.pad[0]
        return max(0, start), min(height, start + self.dilation[0] * (self.kernel[0] - 1) + 1)

    def transposed_rows_below(self, row: int, height: int) -> Pair:
        """Return the rows of a map that row `row` of a transposed convolution sees, the end excluded."""
        last = row + self.pad[0]
        first = last - self.dilation[0] * (self.kernel[0] - 1)
        return max(0, -(-first // self.stride[0])), min(height, last // self.stride[0] + 1)

    def c(self) -> str:
        """Return the ft_window_t literal."""
        numbers = (*self.kernel, *self.stride, *self.pad, *self.dilation)
        return f"(ft_window_t){{{', '.join(map(str, numbers))}}}"


@dataclass(frozen=True)
class Activation:
    """What happens to each output; `a` and `b` as in ft_activation_t."""

    kind: Literal["linear", "relu", "leaky_relu", "clip", "sigmoid", "tanh", "elu", "hard_swish"] = "linear"
    a: float = 0.0
    b: float = 0.0

    @property
    def slope_is_bit(self) -> bool:
        """Tell whether the slope has only two values, so that one bit stands for it."""
        return self.kind in ("relu", "leaky_relu", "clip")

    @property
    def slope_from_output(self) -> bool:
        """Tell whether the output says what the slope is; else the gradient needs the input."""
        return self.kind != "hard_swish"

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest output, where the activation does nothing but clamp; else infinite."""
        if self.kind == "relu":
            return 0.0, math.inf
        return (self.a, self.b) if self.kind == "clip" else (-math.inf, math.inf)

    def c(self) -> str:
        """Return the ft_activation_t literal."""
        from firmware_gen.c_text import c_float

        return f"(ft_activation_t){{FT_{self.kind.upper()}, {c_float(self.a)}, {c_float(self.b)}}}"


LINEAR = Activation()
