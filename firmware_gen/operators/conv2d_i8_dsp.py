"""Int8 convolutions and fully connected layers with Cortex-M's SIMD (C: kernels/dsp/conv2d_i8.h).

Weights are repacked in the order in which the inner loop reads them, as int16 if speed is preferred and it
pays; and a short rounding is chosen where the layer's weights and biases prove it exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Graph, Op, Shape
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.conv2d import forward_literal
from firmware_gen.operators.conv_parts import ConvPart, conv_parts, has_parts
from firmware_gen.operators.rounding import fast_rounding, once_rounding
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
# Instructions for 2 x 2 sums (counted in QEMU), and the share of them that makes wide weights worth their
# flash.
PER_WORD, SAVED_PER_WORD = 14, 3
FAST_OUTPUTS, OTHER_OUTPUTS = 48, 115  # beside the words: biases, rounding, stores
WORTHWHILE = 0.05
LEAST_CHANNELS = 4  # in and out of a group: with fewer, gathering and widening take longer than they save


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
    """Tell whether the kernel can run the layer, and faster than the portable one."""
    conv = attrs.conv
    _, _, taken, given = graph.constants[op.constants[0]].value.shape
    wide = conv.groups == 1 or min(taken, given // conv.groups) >= LEAST_CHANNELS
    return wide and has_parts(op, attrs, graph)


def scratch_bytes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> int:
    """Return the bytes of the widened patch and, where a window may have to be gathered, of one run of it."""
    return max(_part_scratch(part, op, graph) for part in conv_parts(op, attrs, graph))


def _part_scratch(part: ConvPart, op: Op, graph: Graph) -> int:
    x, y = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
    rows, columns = (part.positions(axis, y[axis]) for axis in range(2))
    patch = _patch(part.weight.shape)
    gathers = part.conv.window.kernel[1] > 1 or _padded(part.conv.window, x, (rows, columns, y[2]))
    return min(rows * columns, PIXELS) * 2 * GROUP * patch.words + (patch.length if gathers else 0)


def moving_scratch(parts: Sequence[ConvPart], op: Op, graph: Graph) -> int | None:
    """Return the bytes that `moving_call` works in; None where the portable kernel is to run these parts."""
    conv, shape = parts[0].conv, parts[0].weight.shape
    narrow = conv.groups > 1 and min(shape[2], shape[3] // conv.groups) < LEAST_CHANNELS
    return None if narrow else max(_part_scratch(part, op, graph) for part in parts)


def packed_bytes(part: ConvPart) -> int:
    """Return the bytes of the weights in the kernel's order."""
    return int(_pack_weights(part.weight, part.conv.groups).size)


def moving_call(part: ConvPart, step: Step, c: Emitter, scratch: str, packed: str | None = None) -> str:
    """Return the call for a layer whose `bias`, `from.zero` and rounding `to` are variables.

    packed: the C name of weights that ft_pack_i8_dsp has made; None: they are frozen.
    """
    op = step.op
    x, weight = op.inputs[0], op.constants[0]
    wide = packed is None and c.prefer == "speed" and _expanding_pays(_patch(part.weight.shape).words, False)
    if packed is None:
        values = _pack_weights(part.weight, part.conv.groups)
        packed = c.array(
            f"{weight}.dsp{part.suffix}", values[..., HALFWORDS].astype(np.int16) if wide else values
        )
    return (
        f"ft_conv2d_i8_dsp({c.pointer(x)}, {c.map(x)}, from.zero,\n"
        f"    (ft_channels_t){{{packed}, {int(wide)}, bias, FT_TABLES_DSP, to}}, {part.output(step, c)},\n"
        f"    {forward_literal(part.conv, part.weight.shape)}, {scratch}, {part.rows(step, c)});"
    )


def emit(step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    """Return the C statements that run `step`."""
    return "\n".join(_call(part, step, attrs, c) for part in conv_parts(step.op, attrs, step.graph))


def _call(part: ConvPart, step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    op = step.op
    x = op.inputs[0]
    return (
        f"ft_conv2d_i8_dsp({c.pointer(x)}, {c.map(x)}, {attrs.x_zero},\n"
        f"    {_channels(part, step, attrs, c)},\n"
        f"    {part.output(step, c)},\n"
        f"    {forward_literal(part.conv, part.weight.shape)}, {c.scratch(op)}, {part.rows(step, c)});"
    )


def _channels(part: ConvPart, step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    """Return the ft_channels_t: weights, biases and rounding."""
    weight, bias, *factors = step.op.constants
    rounding = once_rounding if attrs.once else fast_rounding
    values = [step.graph.constants[name].value for name in factors]
    fast = rounding(part.weight, part.bias, values, attrs.y_zero)
    packed, table = _pack_weights(part.weight, part.conv.groups), part.bias
    wide = c.prefer == "speed" and _expanding_pays(_patch(part.weight.shape).words, fast is not None)
    if wide:
        packed = packed[..., HALFWORDS].astype(np.int16)
    if fast is None:
        kind, requantize = "TABLES", attrs.requantize_literal(factors, c)
    else:
        table = _pairs(fast, part.conv.groups)
        kind = "ONCE" if attrs.once else "LEAKY" if attrs.leaky else "TWICE"
        requantize = f"(ft_requantize_t){{.zero = {attrs.y_zero}, .low = {attrs.low}, .high = {attrs.high}}}"
    weights, biases = (
        c.array(f"{name}.dsp{part.suffix}", values) for name, values in ((weight, packed), (bias, table))
    )
    return f"(ft_channels_t){{{weights}, {int(wide)}, {biases}, FT_{kind}_DSP, {requantize}}}"


def _expanding_pays(words: int, fast: bool) -> bool:
    """Tell whether wide weights save a share of a layer's instructions that is worth twice the flash."""
    instructions = PER_WORD * words + (FAST_OUTPUTS if fast else OTHER_OUTPUTS)
    return SAVED_PER_WORD * words >= WORTHWHILE * instructions


def _padded(window: Window, x: Shape, y: Shape) -> bool:
    """Tell whether some window reaches beyond the map: ft_padded_dsp."""

    def axis(k: int) -> bool:
        last = (y[k] - 1) * window.stride[k] - window.pad[k] + (window.kernel[k] - 1) * window.dilation[k]
        return window.pad[k] > 0 or last >= x[k]

    return axis(0) or axis(1)


def _patch(shape: tuple[int, ...]) -> _Patch:
    kernel_y, kernel_x, taken, _ = shape
    return _Patch(kernel_y, kernel_x * taken)


def _pack_weights(weight: NDArray[np.int8], groups: int) -> NDArray[np.int8]:
    """Return (rows, columns, in of a group, out) as (groups, pairs of outputs, words, 2 outputs, 4 bytes)."""
    parts = np.split(weight, groups, axis=3)
    return np.stack([_pack_group(part) for part in parts])


def _pack_group(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    patch, outputs = _patch(weight.shape), weight.shape[3]
    runs = weight.reshape(patch.runs, patch.length, outputs)
    whole = patch.length - patch.rest
    rests = runs[:, whole:].reshape(-1, outputs)
    rests = np.pad(rests, ((0, -len(rests) % GROUP), (0, 0))).reshape(-1, GROUP, outputs)[:, HALFWORDS]
    words = np.concatenate((runs[:, :whole].reshape(-1, GROUP, outputs), rests))
    words = np.pad(words, ((0, 0), (0, 0), (0, -outputs % CHANNELS)))
    return words.reshape(patch.words, GROUP, -1, CHANNELS).transpose(2, 0, 3, 1)


def _pairs(channels: NDArray[np.int32], groups: int) -> NDArray[np.int32]:
    """Return (channels, columns) as (groups, pairs of a group's channels, columns, 2)."""
    columns = channels.shape[1]
    parts = channels.reshape(groups, -1, columns)
    padded = np.pad(parts, ((0, 0), (0, -parts.shape[1] % CHANNELS), (0, 0)))
    return padded.reshape(groups, -1, CHANNELS, columns).transpose(0, 1, 3, 2)
