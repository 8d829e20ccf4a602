"""Float convolutions and their gradients with products in binary16 (C: kernels/conv2d_f16.h).

They are float32 operators in all but their arithmetic: `passes/half_products.py` puts them in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from boards import Isa
from firmware_gen.graph import Array, Graph, Op
from firmware_gen.operators.base import Emitter, Operator
from firmware_gen.operators.conv2d import (
    Conv2d,
    ConvAttrs,
    ConvGradAttrs,
    ConvGradInput,
    ConvUpdate,
    conv_literal,
    forward_literal,
    is_kept,
    is_narrow,
)
from firmware_gen.window import Window

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

# As in the header.
CHAIN = 64  # products in a chain
TOP = 4  # weights lie below 2^TOP
BLOCK = 4  # pixels and channels of a block of outputs; channels of x of a block of weight gradients
OUTER = 8  # channels of dy of a block of weight gradients
SLAB_BYTES = 2304  # of weights that lie in scratch at once, or those of a block
WORD = 4  # bytes

# What is rounded has to be multiplied often: a map's value in many taps, a weight at many pixels. Else
# rounding takes longer than products save (docs/gap9.md has counts). Fewer channels than a block has leave
# parts of it empty.
LEAST_TAPS = 4
LEAST_PIXELS = 16
LEAST_CHANNELS = 4
MOST_SCRATCH = 6 * 1024  # bytes: eight cores have so much in L1, beside the maps
MOST_ROW = 511  # words from one pixel of a block to the next: loads reach no farther


def suits(op: Op, graph: Graph) -> bool:
    """Tell whether the layer is one for these kernels: on every board or on none."""
    operator = F16_OPERATORS.get(op.kind)
    if operator is None:
        return False
    conv, (_, _, inner, outer) = _conv(op), graph.constants[op.constants[0]].value.shape
    maps = op.inputs[:2] if op.kind == "conv_update" else (op.inputs[0], op.outputs[0])
    shapes = [graph.shape(name) for name in maps]
    window = conv.window
    return (
        conv.groups == 1
        and window.taps >= LEAST_TAPS * window.stride[0] * window.stride[1]
        and min(height * width for height, width, _ in shapes) >= LEAST_PIXELS
        and min(inner, outer, *(channels for _, _, channels in shapes)) >= LEAST_CHANNELS
        and (max(inner, outer) + 1) // 2 * window.stride[1] <= MOST_ROW
        and operator.scratch_bytes(op, graph, "c") <= MOST_SCRATCH
    )


def _conv(op: Op) -> ConvAttrs:
    if isinstance(op.attrs, ConvGradAttrs):
        return op.attrs.conv
    assert isinstance(op.attrs, ConvAttrs)
    return op.attrs


class Conv2dF16(Conv2d):
    """A convolution as Conv2d."""

    kind = "conv2d_f16"

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        return _gather_scratch(op, graph, _conv(op).transposed)

    def emit(self, step: Step, c: Emitter) -> str:
        op, graph = step.op, step.graph
        packed = _packed(graph.constants[op.constants[0]].value, _conv(op).transposed)
        return _gather(self, packed, step, c)


class ConvGradInputF16(ConvGradInput):
    """An input gradient as ConvGradInput."""

    kind = "conv_grad_input_f16"

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        return _gather_scratch(op, graph, not _conv(op).transposed)

    def emit(self, step: Step, c: Emitter) -> str:
        op = step.op
        assert isinstance(op.attrs, ConvGradAttrs)
        turned = step.graph.constants[op.constants[0]].value.transpose(0, 1, 3, 2)
        channels = op.attrs.channels
        packed = _packed(turned[..., channels.first : channels.end], not op.attrs.conv.transposed)
        return _gather(self, packed, step, c)


def rounded_before(op: Op, graph: Graph) -> int:
    """Return the values that each core rounds again for every tile: rows that the one before has seen."""
    conv, (_, width, taken) = _conv(op), graph.shape(op.inputs[0])
    transposed = conv.transposed != (op.kind == "conv_grad_input_f16")
    rows = _span(conv.window, 0) // (conv.window.stride[0] if transposed else 1)
    return rows * width * taken


class ConvUpdateF16(ConvUpdate):
    """Weight gradients as ConvUpdate; cores divide the channels of x."""

    kind = "conv_update_f16"

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        conv, (_, _, _, outer) = _conv(op), graph.constants[op.constants[0]].value.shape
        window, near = conv.window, op.inputs[0 if conv.transposed else 1]
        _, width, _ = graph.shape(near)
        group = 1 if is_kept(op, graph) or width >= CHAIN else CHAIN // width
        high = (group - 1) * window.stride[0] + _span(window, 0) + 1
        wide = (width - 1) * window.stride[1] + _span(window, 1) + 1
        x, dy = (group * width, high * wide) if conv.transposed else (high * wide, group * width)
        sums = 4 * window.taps * BLOCK * OUTER * (2 if outer > OUTER else 1)
        return int(sums + 2 * (x * BLOCK + dy * OUTER))

    def emit(self, step: Step, c: Emitter) -> str:
        op, conv = step.op, _conv(step.op)
        x, dy = op.inputs
        name = op.constants[0]
        shape = step.graph.constants[name].value.shape
        kernel = "ft_conv2d_transpose_grad_w_f16" if conv.transposed else "ft_conv2d_grad_w_f16"
        declaration, sink = c.sink(name, step)
        return (
            f"{declaration}{kernel}({c.pointer(x)}, {c.map(x)}, {c.pointer(dy)}, {c.map(dy)},\n"
            f"    {sink},\n"
            f"    {forward_literal(conv, shape)}, {c.scratch(op)}, {int(is_kept(op, step.graph))},\n"
            f"    {c.channels(shape[2], BLOCK)}, {c.rows(step)});"
        )


F16_OPERATORS: dict[str, Operator] = {
    "conv2d": Conv2dF16(),
    "conv_grad_input": ConvGradInputF16(),
    "conv_update": ConvUpdateF16(),
}


def _span(window: Window, axis: int) -> int:
    return (window.kernel[axis] - 1) * window.dilation[axis]


def _gather_scratch(op: Op, graph: Graph, transposed: bool) -> int:
    """Return the bytes of ft_conv_gather_f16: rows of x, and weights of some channels if they learn."""
    window, (_, _, taken) = _conv(op).window, graph.shape(op.inputs[0])
    _, width, given = graph.shape(op.outputs[0])
    pixel = (taken + 1) // 2 * WORD
    channel = window.taps * pixel
    slab = max(BLOCK, min(_up(given), SLAB_BYTES // (BLOCK * channel) * BLOCK))
    stride, pad = window.stride, window.pad
    if transposed:
        first = (pad[1] - _span(window, 1)) // stride[1]
        end = (stride[1] - 1 + pad[1]) // stride[1] + _up(-(-width // stride[1]))
        lines, wide = _span(window, 0) // stride[0] + 1, end - first
    else:
        lines, wide = _span(window, 0) + 1, (_up(width) - 1) * stride[1] + _span(window, 1) + 1
    weights = slab * (channel + 4) if op.constants[0] in graph.trained else 0
    return int(lines * (4 + wide * pixel) + weights)


def _up(count: int) -> int:
    return -(-count // BLOCK) * BLOCK


def _packed(weight: Array, transposed: bool) -> tuple[NDArray[np.uint16], Array]:
    """Return (rows, columns, taken, given) as ft_pack_f16 does, and the channels' units.

    In the kernel's order: (blocks of 4 channels, taps, words, 4 channels, 2).
    """
    value = weight[:, ::-1] if transposed else weight
    rows, columns, taken, given = value.shape
    largest = np.abs(value).max((0, 1, 2), initial=0).astype(np.float32).view(np.int32) >> 23
    exponent = TOP + 126 - np.maximum(largest, 8)
    halves = (value * np.ldexp(np.float32(1), exponent)).astype(np.float16)
    padded = np.pad(halves, ((0, 0), (0, 0), (0, taken % 2), (0, -given % BLOCK)))
    words = padded.reshape(rows * columns, -1, 2, padded.shape[3] // BLOCK, BLOCK)
    ordered = np.ascontiguousarray(words.transpose(3, 0, 1, 4, 2))
    units = np.pad(np.ldexp(np.float32(1), -exponent), (0, -given % BLOCK))
    return ordered.view(np.uint16), units.astype(np.float32)


def _gather(
    operator: Conv2dF16 | ConvGradInputF16,
    packed: tuple[NDArray[np.uint16], Array],
    step: Step,
    c: Emitter,
) -> str:
    """Return the call with products in binary16; `packed` is the weight if it is frozen."""
    op, name = step.op, step.op.constants[0]
    if c.learns(name):
        call = operator.gather(step, c)
        weights = f".{'bf16' if is_narrow(op, step.graph) else 'f32'} = {call.weight}"
    else:
        suffix = "" if op.kind == "conv2d_f16" else ".turned"
        array = c.array(f"{name}.f16{suffix}", packed[0])
        units = c.array(f"{name}.f16{suffix}.units", packed[1])
        call = operator.gather(step, c, array)
        weights = f".packed = (const uint32_t *)(const void *){array}, .units = {units}"
    x, y = op.inputs[0], op.outputs[0]
    literal = conv_literal(call.conv, call.taken, call.given, call.strides)
    return (
        f"{call.kernel.removesuffix('_f32')}_f16({c.pointer(x)}, {c.map(x)},\n"
        f"    (ft_weights_f16_t){{{weights}}}, {call.start}{call.start_map},\n"
        f"    {c.pointer(y)}, {c.map(y)}, {literal},\n"
        f"    {call.conv.activation.c()}, {c.scratch(op)}, {c.channels(call.given, BLOCK)}, {c.rows(step)});"
    )
