"""Int8 convolutions and fully connected layers with Cortex-M's SIMD (C: kernels/dsp/conv2d_i8.h).

Weights are repacked in the order in which the inner loop reads them, and the five-instruction rounding is
chosen where the layer's weights and biases prove it exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Graph, Op, Shape
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.conv2d import forward_literal
from firmware_gen.window import Window

if TYPE_CHECKING:
    from firmware_gen.operators.conv2d_i8 import ConvI8Attrs
    from firmware_gen.schedule import Step

CHANNELS = 2  # of y, side by side in the packed weights
PIXELS = 2  # of y, side by side in the scratch
GROUP = 4  # weights in a word
# Values are stored as they lie in memory, and sxtb16 then yields bytes 0 and 2, with ror #8 bytes 1 and 3;
# what is stored value by value is already in the order of the halfwords.
HALFWORDS = (0, 2, 1, 3)


@dataclass(frozen=True)
class _Patch:
    """What one output pixel sums over: `runs` rows of the window, each of `length` values side by side.

    A run's whole words come first; what is left of all runs follows, filled up to whole words.
    """

    runs: int
    length: int

    @property
    def rest(self) -> int:
        """Values of a run behind its whole words."""
        return self.length % GROUP

    @property
    def words(self) -> int:
        """Words of weights for one output channel."""
        return self.runs * (self.length // GROUP) + -(-self.runs * self.rest // GROUP)


def takes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> bool:
    """Tell whether the kernel can run the layer: any convolution that is neither grouped nor transposed."""
    return attrs.conv.groups == 1 and not attrs.conv.transposed


def scratch_bytes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> int:
    """Return the bytes of the widened patch and, where a window may have to be gathered, of one run of it."""
    x, y = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
    patch, window = _patch(graph.constants[op.constants[0]].value.shape), attrs.conv.window
    pixels = min(y[0] * y[1], PIXELS)
    gathers = window.kernel[1] > 1 or _padded(window, x, y)
    return pixels * 2 * GROUP * patch.words + (patch.length if gathers else 0)


def emit(step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    """Return the C statements that run `step`."""
    op = step.op
    weight, bias, *factors = (step.graph.constants[name].value for name in op.constants)
    fast = None if attrs.once else fast_rounding(weight, bias, factors, attrs.y_zero)
    if fast is None:
        tables = f"NULL, 0, {c.weight(op.constants[1])}"
        requantize = attrs.requantize_literal(op.constants[2:], c)
    else:
        tables = f"{c.array(f'{op.constants[1]}.dsp', _pairs(fast))}, {int(attrs.leaky)}, NULL"
        requantize = f"(ft_requantize_t){{.low = {attrs.low}, .high = {attrs.high}}}"
    packed = c.array(f"{op.constants[0]}.dsp", _pack_weights(weight))
    x, y = op.inputs[0], op.outputs[0]
    return (
        f"ft_conv2d_i8_dsp({c.pointer(x)}, {c.map(x)}, {attrs.x_zero}, {packed}, {tables},\n"
        f"    {c.pointer(y)}, {c.map(y)}, {forward_literal(attrs.conv, weight.shape)},\n"
        f"    {requantize},\n"
        f"    {c.scratch(op)}, {step.rows[0]}, {step.rows[1]});"
    )


def _padded(window: Window, x: Shape, y: Shape) -> bool:
    """Tell whether some window reaches beyond the map: ft_padded_dsp."""

    def axis(k: int) -> bool:
        last = (y[k] - 1) * window.stride[k] - window.pad[k] + (window.kernel[k] - 1) * window.dilation[k]
        return window.pad[k] > 0 or last >= x[k]

    return axis(0) or axis(1)


def _patch(shape: tuple[int, ...]) -> _Patch:
    kernel_y, kernel_x, taken, _ = shape
    return _Patch(kernel_y, kernel_x * taken)


def _pack_weights(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return weights (rows, columns, in, out) as (pairs of outputs, words, 2 outputs, 4 bytes)."""
    patch, outputs = _patch(weight.shape), weight.shape[3]
    runs = weight.reshape(patch.runs, patch.length, outputs)
    whole = patch.length - patch.rest
    rests = runs[:, whole:].reshape(-1, outputs)
    rests = np.pad(rests, ((0, -len(rests) % GROUP), (0, 0))).reshape(-1, GROUP, outputs)[:, HALFWORDS]
    words = np.concatenate((runs[:, :whole].reshape(-1, GROUP, outputs), rests))
    words = np.pad(words, ((0, 0), (0, 0), (0, -outputs % CHANNELS)))
    return words.reshape(patch.words, GROUP, -1, CHANNELS).transpose(2, 0, 3, 1)


def fast_rounding(
    weight: NDArray[np.int8], bias: NDArray[np.int32], factors: Sequence[NDArray[Any]], zero: int
) -> NDArray[np.int32] | None:
    """Return bias, multiplier, half and shift (see ft_round_dsp) of each channel.

    `factors`: multipliers and shifts, then, of a leaky layer, those of negative sums, which add three more
    columns. None where the rounding is not exact: it is for sums in [-2^30, 2^30) and right shifts from 1 on.
    `half` is half a unit and the zero point of y, which must not overflow on top of the largest product.
    """
    w = weight.astype(np.int64)
    highest = bias + np.maximum(w * 127, w * -128).sum(axis=(0, 1, 2))
    lowest = bias + np.minimum(w * 127, w * -128).sum(axis=(0, 1, 2))
    exact = (highest < 1 << 30) & (lowest >= -(1 << 30))
    largest = np.maximum(np.abs(highest), np.abs(lowest)) + 1  # also of products, as they are rounded
    columns: list[NDArray[Any]] = [bias]
    for multipliers, shifts in zip(factors[::2], factors[1::2], strict=True):
        right = -shifts.astype(np.int64)
        # Channels whose products all round to nothing: often dead ones, with factors near 0.
        nothing = (multipliers == 0) | (largest + 1 < np.int64(1) << np.maximum(right - 1, 0))
        right = np.where(nothing, 1, right)
        half = (np.int64(1) << np.maximum(right - 1, 0)) + (np.int64(zero) << np.maximum(right, 0))
        exact &= (right >= 1) & (largest + 1 + np.abs(half) < 1 << 31)
        columns += [np.where(nothing, 0, multipliers), half, right]
    return np.stack(columns, axis=1).astype(np.int32) if np.all(exact) else None


def _pairs(channels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return (channels, columns) as (pairs of channels, columns, 2)."""
    padded = np.pad(channels, ((0, -len(channels) % CHANNELS), (0, 0)))
    return padded.reshape(-1, CHANNELS, channels.shape[1]).transpose(0, 2, 1)
