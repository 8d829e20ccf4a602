"""Convolution, transposed convolution and fully connected layers (C: kernels/conv2d.h).

Weights are (rows, columns, in of a group, out) for a convolution and (rows, columns, in, out of a group)
for a transposed one, which is the order that both forward kernels read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.activation import activation_gradient
from firmware_gen.operators.base import Channels, Emitter, Operator, Rows, Tape
from firmware_gen.window import LINEAR, Activation, Window

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


@dataclass(frozen=True)
class ConvAttrs:
    """Attributes of a (transposed) convolution."""

    window: Window
    groups: int = 1
    transposed: bool = False
    activation: Activation = LINEAR


@dataclass(frozen=True)
class ConvGradAttrs:
    """Input gradient of a convolution for a range of the input's channels."""

    conv: ConvAttrs
    channels: Channels


def _conv_literal(conv: ConvAttrs, taken: int, given: int, strides: tuple[int, int, int, int]) -> str:
    """Return the ft_conv_t that sums `taken` channels of each group to `given`."""
    numbers = ", ".join(map(str, (conv.groups, taken, given, *strides)))
    return f"(ft_conv_t){{{conv.window.c()}, {numbers}}}"


class Conv2d(Operator):
    """y = activation(bias + x * w); constants: weight and, if there is one, bias."""

    kind = "conv2d"
    learns = True

    def parameters(self, op: Op) -> tuple[str, ...]:
        return op.constants

    def macs(self, op: Op, graph: Graph) -> int:
        return conv_macs(op, _attrs(op), graph)

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return conv_reach(_attrs(op), row, graph.shape(op.inputs[k])[0])

    def backward(self, op: Op, tape: Tape) -> None:
        attrs = _attrs(op)
        x, y = op.inputs[0], op.outputs[0]
        dy = tape.gradient(y)
        if attrs.activation != LINEAR:
            dy = activation_gradient(op.name, y, attrs.activation, tape)
        linear = replace(attrs, activation=LINEAR)
        if tape.wants(x):
            channels = Channels(0, tape.graph.shape(x)[2])
            grad = ConvGradAttrs(linear, channels)
            tape.contribute(x, Op("conv_grad_input", op.name, (dy,), (), grad, op.constants[:1]))
        weight, *bias = op.constants
        if tape.learns(weight):
            tape.update(Op("conv_update", op.name, (x, dy), (), linear, (weight,)))
        if bias and tape.learns(bias[0]):
            tape.update(Op("bias_update", op.name, (dy,), (), None, (bias[0],)))

    def emit(self, step: Step, c: Emitter) -> str:
        op, attrs = step.op, _attrs(step.op)
        weight, *bias = op.constants
        shape = step.graph.constants[weight].value.shape
        start = c.weight(bias[0]) if bias else "NULL"
        kernel = "ft_conv2d_transpose_f32" if attrs.transposed else "ft_conv2d_f32"
        conv = forward_literal(attrs, shape)
        x, y = op.inputs[0], op.outputs[0]
        return (
            f"{kernel}({c.pointer(x)}, {c.map(x)}, {c.weight(weight)}, {start},\n"
            f"    {c.pointer(y)}, {c.map(y)}, {conv},\n"
            f"    {attrs.activation.c()}, {c.rows(step)});"
        )


def _attrs(op: Op) -> ConvAttrs:
    assert isinstance(op.attrs, ConvAttrs)
    return op.attrs


def conv_reach(attrs: ConvAttrs, row: int, height: int) -> Rows:
    """Return the rows of an input of `height` rows that row `row` of the output sees."""
    window = attrs.window
    return window.transposed_rows_below(row, height) if attrs.transposed else window.rows_below(row, height)


def conv_macs(op: Op, attrs: ConvAttrs, graph: Graph) -> int:
    """Return the multiply-accumulates of a layer whose first constant is its weight."""
    height, width, _ = graph.shape(op.inputs[0] if attrs.transposed else op.outputs[0])
    return int(graph.constants[op.constants[0]].value.size) * height * width


def forward_literal(attrs: ConvAttrs, shape: tuple[int, ...]) -> str:
    """Return the ft_conv_t of a layer with weights of `shape`."""
    _, _, inner, outer = shape
    if attrs.transposed:
        taken = inner // attrs.groups
        return _conv_literal(attrs, taken, outer, (inner * outer, taken * outer, outer, 1))
    given = outer // attrs.groups
    return _conv_literal(attrs, inner, given, (inner * outer, given, outer, 1))


class ConvGradInput(Operator):
    """dx = dy * w, gathered by the opposite kernel with the weights' in and out exchanged.

    Inputs: dy and, if there is one, the part of dx's sum that has been made before.
    """

    kind = "conv_grad_input"

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (1,) if len(op.inputs) > 1 else ()

    def macs(self, op: Op, graph: Graph) -> int:
        assert isinstance(op.attrs, ConvGradAttrs)
        conv, channels = op.attrs.conv, op.attrs.channels
        kernel_y, kernel_x, _, outer = graph.constants[op.constants[0]].value.shape
        dy, dx = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
        height, width, _ = dx if conv.transposed else dy
        per_channel = outer if conv.transposed else outer // conv.groups
        return int(kernel_y * kernel_x * per_channel) * channels.count * height * width

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        assert isinstance(op.attrs, ConvGradAttrs)
        conv = op.attrs.conv
        if k == 1:
            return row, row + 1
        return conv_reach(replace(conv, transposed=not conv.transposed), row, graph.shape(op.inputs[k])[0])

    def emit(self, step: Step, c: Emitter) -> str:
        op = step.op
        assert isinstance(op.attrs, ConvGradAttrs)
        conv, channels = op.attrs.conv, op.attrs.channels
        name = op.constants[0]
        _, _, inner, outer = step.graph.constants[name].value.shape
        packed = not c.learns(name)  # a frozen weight can lie in flash in the order of this loop
        if conv.transposed:
            # w[tap][in][out of a group]; taken: out, given: in of a group.
            taken, given = outer, inner // conv.groups
            group, w_in, w_out = given * outer, 1, outer
            if packed:
                w_in, w_out, group = inner, 1, given
        else:
            # w[tap][in of a group][out]; taken: out of a group, given: in of a group.
            taken, given = outer // conv.groups, inner
            group, w_in, w_out = taken, 1, outer
            if packed:
                w_in, w_out, group = inner, 1, taken * inner
        if conv.groups == 1:
            given = channels.count
        weight = c.weight(name, (0, 1, 3, 2))
        offset = f" + {channels.first * w_out}" if channels.first else ""
        literal = _conv_literal(conv, taken, given, (inner * outer, group, w_in, w_out))
        kernel = "ft_conv2d" if conv.transposed else "ft_conv2d_transpose"
        (dy, *part), dx = op.inputs, op.outputs[0]
        kernel += "_onto_f32" if part else "_f32"
        start = f"{c.pointer(part[0])}, {c.map(part[0])}" if part else "NULL"
        return (
            f"{kernel}({c.pointer(dy)}, {c.map(dy)}, {weight}{offset}, {start},\n"
            f"    {c.pointer(dx)}, {c.map(dx)}, {literal},\n"
            f"    {LINEAR.c()}, {c.rows(step)});"
        )


class ConvUpdate(Operator):
    """Weight gradients: added to the kept gradients, or applied at once; inputs x, dy."""

    kind = "conv_update"

    def macs(self, op: Op, graph: Graph) -> int:
        attrs = _attrs(op)
        height, width, _ = graph.shape(op.inputs[0] if attrs.transposed else op.inputs[1])
        return int(graph.constants[op.constants[0]].value.size) * height * width

    def emit(self, step: Step, c: Emitter) -> str:
        op, attrs = step.op, _attrs(step.op)
        x, dy = op.inputs
        name = op.constants[0]
        kernel = "ft_conv2d_transpose_grad_w_f32" if attrs.transposed else "ft_conv2d_grad_w_f32"
        declaration, sink = c.sink(name)
        return (
            f"{declaration}{kernel}({c.pointer(x)}, {c.map(x)}, {c.pointer(dy)}, {c.map(dy)},\n"
            f"    {sink},\n"
            f"    {forward_literal(attrs, step.graph.constants[name].value.shape)});"
        )


class BiasUpdate(Operator):
    """Bias gradient: added to the kept one, or applied at once."""

    kind = "bias_update"

    def emit(self, step: Step, c: Emitter) -> str:
        dy, name = step.op.inputs[0], step.op.constants[0]
        declaration, sink = c.sink(name)
        return f"{declaration}ft_bias_grad_f32({c.pointer(dy)}, {c.map(dy)},\n    {sink});"
