"""Layers in parts: a transposed convolution is one convolution for each phase of its stride.

What a kernel for convolutions needs in order to run transposed ones too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from firmware_gen.fixed_point import wrap_int32
from firmware_gen.graph import Graph, Op, Shape
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.window import Pair, Window

if TYPE_CHECKING:
    from firmware_gen.operators.conv2d_i8 import ConvI8Attrs
    from firmware_gen.schedule import Step

MOST_PHASES = 4  # each is code of its own


@dataclass(frozen=True)
class ConvPart:
    """A convolution, not transposed, that makes every `step`-th row and column of y from `first` on.

    `weight` is (rows, columns, in of a group, out); in `bias`, taps in the padding count as the zero point.
    """

    suffix: str  # of its arrays
    conv: ConvAttrs
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    first: Pair = (0, 0)
    step: Pair = (1, 1)

    def positions(self, axis: int, end: int) -> int:
        """Return how many of its rows or columns lie before row or column `end` of y."""
        return max(0, -(-(end - self.first[axis]) // self.step[axis]))

    def output(self, step: Step, c: Emitter) -> str:
        """Return pointer and map of what it makes of the output of `step`."""
        y = step.op.outputs[0]
        if self.step == (1, 1):
            return f"{c.pointer(y)}, {c.map(y)}"
        height, width, channels = step.graph.shape(y)
        row, pixel = c.strides(y)
        strides = (row * self.step[0], pixel * self.step[1])
        numbers = (self.positions(0, height), self.positions(1, width), channels, *strides)
        offset = row * self.first[0] + pixel * self.first[1]
        return f"{c.pointer(y)} + {offset}, (ft_map_t){{{', '.join(map(str, numbers))}}}"

    def rows(self, step: Step, c: Emitter) -> str:
        """Return first and end of its rows among those of `step`."""
        if self.step[0] == 1:
            return c.rows(step)
        return ", ".join(map(self._position, _arguments(c.rows(step))))

    def _position(self, row: str) -> str:
        """Return how many of its rows lie before row `row` of y, a C expression: as `positions`."""
        if row.isdecimal():
            return str(self.positions(0, int(row)))
        # Nothing is negative, because the first row of a phase is less than a step.
        simple = row if row.isidentifier() else f"({row})"
        return f"({simple} + {self.step[0] - 1 - self.first[0]}) / {self.step[0]}"


def _arguments(text: str) -> list[str]:
    """Return the C expressions of a list of arguments: commas in parentheses separate nothing."""
    found, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [expression.strip() for expression in found]


def splits(conv: ConvAttrs) -> bool:
    """Tell whether `split` takes the layer: not a transposed one with many phases, or empty ones."""
    if not conv.transposed:
        return True
    window = conv.window
    every_phase_has_taps = all(k >= s for k, s in zip(window.kernel, window.stride, strict=True))
    few = window.stride[0] * window.stride[1] <= MOST_PHASES
    return conv.groups == 1 and window.dilation == (1, 1) and every_phase_has_taps and few


def split(
    conv: ConvAttrs, weight: NDArray[np.int8], bias: NDArray[np.int32], x_zero: int, y: Shape
) -> list[ConvPart]:
    """Return the convolutions that make up a layer with output shape `y`; see `splits`."""
    if not conv.transposed:
        return [ConvPart("", conv, weight, bias)]
    stride = conv.window.stride
    phases = itertools.product(range(min(stride[0], y[0])), range(min(stride[1], y[1])))
    return [_phase(conv.window, weight, bias, x_zero, phase) for phase in phases]


def has_parts(op: Op, attrs: ConvI8Attrs, graph: Graph) -> bool:
    """Tell whether `conv_parts` takes the layer."""
    return splits(attrs.conv)


def conv_parts(op: Op, attrs: ConvI8Attrs, graph: Graph) -> list[ConvPart]:
    """Return the convolutions that make up the layer; see `has_parts`."""
    weight, bias = (graph.constants[name].value for name in op.constants[:2])
    return split(attrs.conv, weight, bias, attrs.x_zero, graph.shape(op.outputs[0]))


def _phase(
    window: Window, weight: NDArray[np.int8], bias: NDArray[np.int32], x_zero: int, first: Pair
) -> ConvPart:
    """Return the rows and columns of a transposed convolution from `first` on, a stride apart.

    Output position p = first + n * stride is reached by tap k from input position (p + pad - k) / stride,
    where that is whole: so by every stride-th tap, and one tap further means one position less. Turned
    around, these taps are a window of stride 1.
    """
    axes = list(zip(first, window.pad, window.stride, strict=True))
    taps = weight[tuple(slice((p + pad) % stride, None, stride) for p, pad, stride in axes)][::-1, ::-1]
    rows, columns = (taps.shape[axis] - 1 - (p + pad) // stride for axis, (p, pad, stride) in enumerate(axes))
    start = bias - x_zero * taps.sum(axis=(0, 1, 2), dtype=np.int64)
    conv = ConvAttrs(Window((taps.shape[0], taps.shape[1]), pad=(rows, columns)))
    suffix = f".{first[0]}.{first[1]}"
    return ConvPart(suffix, conv, taps, wrap_int32(start).astype(np.int32), first, window.stride)
