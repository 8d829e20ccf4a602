"""Float convolutions and their gradients with products in binary16 (C: kernels/conv2d_f16.h).

They are float32 operators in all but their arithmetic: `passes/half_products.py` puts them in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boards import Isa
from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter, Operator
from firmware_gen.operators.conv2d import (
    Conv2d,
    ConvAttrs,
    ConvGradAttrs,
    ConvGradInput,
    ConvUpdate,
    GatherCall,
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
BLOCK = 4  # pixels and channels of a block of outputs; channels of x of a block of weight gradients
OUTER = 8  # channels of dy of a block of weight gradients
SLAB_BYTES = 4608  # of weights that lie in scratch at once, or those of a block
WORD = 4  # bytes

# What is rounded has to be multiplied often: by the taps that read a value of the map, by the pixels that read
# a weight. Else rounding takes longer than products save (docs/gap9.md has counts). Fewer channels than a
# block has leave parts of it empty.
LEAST_TAPS = 4
LEAST_PIXELS = 16
LEAST_CHANNELS = 4
MOST_SCRATCH = 64 * 1024  # bytes: what a core of a cluster can have
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
        return _gather(self.gather(step, c), step, c)


class ConvGradInputF16(ConvGradInput):
    """An input gradient as ConvGradInput."""

    kind = "conv_grad_input_f16"

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        return _gather_scratch(op, graph, not _conv(op).transposed)

    def emit(self, step: Step, c: Emitter) -> str:
        return _gather(self.gather(step, c), step, c)


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
    """Return the bytes of ft_conv_gather_f16: some channels' weights, and the rows of x that a row sees."""
    window, (_, _, taken) = _conv(op).window, graph.shape(op.inputs[0])
    _, width, given = graph.shape(op.outputs[0])
    pixel = (taken + 1) // 2 * WORD
    channel = window.taps * pixel
    slab = max(BLOCK, min(_up(given), SLAB_BYTES // (BLOCK * channel) * BLOCK))
    stride, pad = window.stride, window.pad
    if transposed:
        first = (pad[1] - _span(window, 1)) // stride[1]
        end = (stride[1] - 1 + pad[1]) // stride[1] + _up(-(-width // stride[1]))
        lines, wide = _span(window, 0) // stride[0] + 2, end - first
    else:
        lines, wide = _span(window, 0) + 1, (_up(width) - 1) * stride[1] + _span(window, 1) + 1
    return int(slab * (channel + 4) + lines * (4 + wide * pixel))


def _up(count: int) -> int:
    return -(-count // BLOCK) * BLOCK


def _gather(call: GatherCall, step: Step, c: Emitter) -> str:
    """Return the call with products in binary16."""
    op = step.op
    x, y = op.inputs[0], op.outputs[0]
    member = "bf16" if is_narrow(op, step.graph) else "f32"
    literal = conv_literal(call.conv, call.taken, call.given, call.strides)
    return (
        f"{call.kernel.removesuffix('_f32')}_f16({c.pointer(x)}, {c.map(x)}, "
        f"(ft_weights_f16_t){{.{member} = {call.weight}}},\n"
        f"    {call.start}{call.start_map},\n"
        f"    {c.pointer(y)}, {c.map(y)}, {literal},\n"
        f"    {call.conv.activation.c()}, {c.scratch(op)}, {c.channels(call.given, BLOCK)}, {c.rows(step)});"
    )
