"""Int8 convolutions and fully connected layers with GAP9's SIMD (C: kernels/xpulp/conv2d_i8.h).

Weights lie in the order in which the inner loop reads them, and a short rounding is chosen where the layer's
weights and biases prove it exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter
from firmware_gen.operators.conv2d import forward_literal
from firmware_gen.operators.conv_parts import ConvPart, conv_parts, has_parts
from firmware_gen.operators.rounding import fast_rounding, once_rounding

if TYPE_CHECKING:
    from firmware_gen.operators.conv2d_i8 import ConvI8Attrs
    from firmware_gen.schedule import Step

CHANNELS = 4  # of y, side by side in the packed weights: FT_CHANNELS_XPULP
PIXELS = 2  # of y, whose windows lie in the scratch
WORD = 4  # bytes
LEAST_CHANNELS = 4  # in and out of a group: with fewer, gathering takes longer than the dot products save


def takes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> bool:
    """Tell whether the kernel can run the layer, and faster than the portable one."""
    return _is_wide(attrs.conv.groups, graph.constants[op.constants[0]].value.shape) and has_parts(
        op, attrs, graph
    )


def _is_wide(groups: int, shape: tuple[int, ...]) -> bool:
    _, _, taken, given = shape
    return groups == 1 or min(taken, given // groups) >= LEAST_CHANNELS


def scratch_bytes(op: Op, attrs: ConvI8Attrs, graph: Graph) -> int:
    """Return the bytes of two windows, each in whole words."""
    return max(map(_part_scratch, conv_parts(op, attrs, graph)))


def _part_scratch(part: ConvPart) -> int:
    return PIXELS * _words(part.weight) * WORD


def moving_scratch(parts: Sequence[ConvPart], op: Op, graph: Graph) -> int | None:
    """Return the bytes that `moving_call` works in; None where the portable kernel is to run these parts."""
    return max(map(_part_scratch, parts)) if _is_wide(parts[0].conv.groups, parts[0].weight.shape) else None


def packed_bytes(part: ConvPart) -> int:
    """Return the bytes of the weights in the kernel's order."""
    return int(_pack_weights(part.weight, part.conv.groups).size)


def moving_call(part: ConvPart, step: Step, c: Emitter, scratch: str, packed: str | None = None) -> str:
    """Return the call for a layer whose `bias`, `from.zero` and rounding `to` are variables.

    packed: the C name of weights that ft_pack_i8_xpulp has made; None: they are frozen.
    """
    weight = step.op.constants[0]
    if packed is None:
        packed = c.array(f"{weight}.xpulp{part.suffix}", _pack_weights(part.weight, part.conv.groups))
    channels = f"(ft_channels_xpulp_t){{{packed}, bias, FT_TABLES_XPULP, to}}"
    return _kernel_call(part, step, c, "from.zero", channels, scratch)


def emit(step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    """Return the C statements that run `step`."""
    return "\n".join(
        _kernel_call(part, step, c, str(attrs.x_zero), _channels(part, step, attrs, c), c.scratch(step.op))
        for part in conv_parts(step.op, attrs, step.graph)
    )


def _kernel_call(part: ConvPart, step: Step, c: Emitter, zero: str, channels: str, scratch: str) -> str:
    x = step.op.inputs[0]
    aligned = int(c.aligned(x, WORD))
    return (
        f"ft_conv2d_i8_xpulp({c.pointer(x)}, {c.map(x)}, {zero},\n"
        f"    {channels},\n"
        f"    {part.output(step, c)},\n"
        f"    {forward_literal(part.conv, part.weight.shape)}, {aligned}, {scratch},\n"
        f"    {part.rows(step, c)}, {share(part, c)});"
    )


def share(part: ConvPart, c: Emitter) -> str:
    """Return the first and the end output channel that a call makes: whole blocks, or whole groups."""
    given, groups = part.weight.shape[3], part.conv.groups
    return c.channels(given, CHANNELS if groups == 1 else given // groups)


def _channels(part: ConvPart, step: Step, attrs: ConvI8Attrs, c: Emitter) -> str:
    packed = _pack_weights(part.weight, part.conv.groups)
    return channels_literal(part, part.conv.groups, packed, step, attrs, c)


def channels_literal(
    part: ConvPart, groups: int, packed: NDArray[np.int8], step: Step, attrs: ConvI8Attrs, c: Emitter
) -> str:
    """Return the ft_channels_xpulp_t of `packed` weights, biases and rounding.

    groups: each begins a block of its own.
    """
    weight, bias, *factors = step.op.constants
    rounding = once_rounding if attrs.once else fast_rounding
    values = [step.graph.constants[name].value for name in factors]
    fast = rounding(part.weight, part.bias, values, attrs.y_zero)
    if fast is None:
        kind, table, requantize = "TABLES", part.bias, attrs.requantize_literal(factors, c)
    else:
        kind = "ONCE" if attrs.once else "LEAKY" if attrs.leaky else "TWICE"
        table = _blocks(fast if attrs.once else _doubled(fast), groups)
        requantize = f"(ft_requantize_t){{.zero = {attrs.y_zero}, .low = {attrs.low}, .high = {attrs.high}}}"
    weights, biases = (
        c.array(f"{name}.xpulp{part.suffix}", array) for name, array in ((weight, packed), (bias, table))
    )
    return f"(ft_channels_xpulp_t){{{weights}, {biases}, FT_{kind}_XPULP, {requantize}}}"


def _doubled(columns: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the columns of `fast_rounding` with each multiplier doubled, the bits of an uint32_t."""
    doubled = columns.copy()
    doubled[:, 1::3] = columns[:, 1::3] << 1
    return doubled


def _words(weight: NDArray[np.int8]) -> int:
    """Return the words of a window."""
    return -(-int(weight[..., 0].size) // WORD)


def _pack_weights(weight: NDArray[np.int8], groups: int) -> NDArray[np.int8]:
    """Return (rows, columns, in of a group, out) as (groups, blocks of outputs, words, 4 outputs, 4)."""
    values = weight.reshape(-1, groups, weight.shape[3] // groups)
    values = np.pad(values, ((0, -len(values) % WORD), (0, 0), (0, -values.shape[2] % CHANNELS)))
    words = values.reshape(-1, WORD, groups, values.shape[2] // CHANNELS, CHANNELS)
    return np.ascontiguousarray(words.transpose(2, 3, 0, 4, 1))


def _blocks(channels: NDArray[np.int32], groups: int) -> NDArray[np.int32]:
    """Return (channels, columns) as (groups, blocks of a group's channels, columns, 4)."""
    columns = channels.shape[1]
    parts = channels.reshape(groups, -1, columns)
    padded = np.pad(parts, ((0, 0), (0, -parts.shape[1] % CHANNELS), (0, 0)))
    return padded.reshape(groups, -1, CHANNELS, columns).transpose(0, 1, 3, 2)
