"""int8 weights that learn, without a float copy (C: kernels/learning_i8.h, kernels/update.h).

A weight is w = scale * q, with one scale an output channel, which stays. Its gradient comes from int8 inputs
and int8 output gradients; the optimizer sees and moves w in real values, and what it moves q by is that
divided by the scale: for SGD lr * dL/dw / scale, the quantization-aware scaling of Lin et al., "On-Device
Training Under 256KB Memory" (2022), where dL/dq = scale * dL/dw is divided by the squared scale.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from boards import Isa
from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter, Rows
from firmware_gen.operators.conv2d import (
    BiasUpdate,
    ConvAttrs,
    ConvGradAttrs,
    ConvGradInput,
    ConvUpdate,
    forward_literal,
)
from firmware_gen.operators.moving import channel_scales, guess_range, table_bytes, turned
from firmware_gen.window import LINEAR

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

MOST_PIXELS = 65_535  # of a map: a sum of so many products of int8 values stays within 32 bits


def learning_weight(name: str, graph: Graph, c: Emitter) -> str:
    """Return the initializers of the ft_steps_t of an int8 weight, up to how it is rounded."""
    weight = graph.constants[name]
    attrs = next(op.attrs for op in graph.ops if name in op.constants and op.phase == "forward")
    assert isinstance(attrs, ConvAttrs)
    _, _, inner, outer = weight.value.shape
    groups = attrs.groups if attrs.transposed else 1
    scales = channel_scales(weight, groups * outer, c)
    return f"{c.weight(name)}, {scales}, {outer}, {inner}, {inner // groups}"


class TurningConv2d(ConvGradInput):
    """dx = dy * w, int8: the opposite window with weights that are turned and quantized when it runs."""

    kind = "turning_conv2d"

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return None  # the weights would be turned for each band

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        dy, dx = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
        turned_bytes = math.prod(_turned_shape(op, graph))
        return table_bytes(op, graph) + 4 * dx[2] + turned_bytes + dy[2]

    def emit(self, step: Step, c: Emitter) -> str:
        op, graph = step.op, step.graph
        attrs = op.attrs
        assert isinstance(attrs, ConvGradAttrs)
        conv, first = attrs.conv, attrs.channels.first
        weight = graph.constants[op.constants[0]]
        shape = _turned_shape(op, graph)
        rows, columns, outer, inner = shape
        literal = forward_literal(replace(conv, transposed=not conv.transposed), shape)
        given = outer if conv.transposed else outer // conv.groups
        dy, dx = op.inputs[0], op.outputs[0]
        scales, channels = table_bytes(op, graph), graph.shape(dx)[2]
        values = scales + 4 * channels
        padding = f"turned + {math.prod(shape)}"
        kernel, outside, head = "ft_conv2d_transpose_i8", "0", ""
        if conv.transposed:
            kernel, outside = "ft_conv2d_i8", padding
            head = f"memset({padding}, 0, {graph.shape(dy)[2]});\n"
        return (
            f"const ft_grid_t from = {c.grid(dy)};\n"
            f"int8_t *const scratch_ = {c.scratch(op)};\n"
            "const int32_t *const bias = (int32_t *)(void *)scratch_;\n"
            f"float *const scales = (float *)(void *)(scratch_ + {scales});\n"
            f"int8_t *const turned = scratch_ + {values};\n"
            f"ft_turn_weights_i8((ft_steps_t){{{learning_weight(weight.name, graph, c)}, 0, 0}}, "
            f"{rows * columns}, {given},\n"
            f"    {first}, {first + inner}, turned, scales);\n"
            f"{guess_range(dx, turned(weight, conv), c)}"
            f"const ft_moving_t layer = {{scales, NULL, NULL, {channels}}};\n"
            "const ft_requantize_t to = ft_moving_tables(layer, from,\n"
            f"    {c.range(dx)}, {c.range_rule(dx)}, {LINEAR.c()}, scratch_);\n"
            f"{head}{kernel}({c.pointer(dy)}, {c.map(dy)}, {outside}, turned, bias,\n"
            f"    {c.pointer(dx)}, {c.map(dx)}, {literal}, to, 0, {c.rows(step)});\n"
            f"ft_range_observe({c.range(dx)}, {c.pointer(dx)}, {c.map(dx)}, {c.rows(step)});"
        )


def _turned_shape(op: Op, graph: Graph) -> tuple[int, int, int, int]:
    """Return the shape of the weights for the channels of dx that are made."""
    assert isinstance(op.attrs, ConvGradAttrs)
    conv, channels = op.attrs.conv, op.attrs.channels
    rows, columns, inner, outer = graph.constants[op.constants[0]].value.shape
    return rows, columns, outer, inner if conv.groups > 1 else channels.count


class ConvUpdateI8(ConvUpdate):
    """Gradients of int8 weights: added to the kept gradients, or applied at once; inputs x, dy."""

    kind = "conv_update_i8"

    def emit(self, step: Step, c: Emitter) -> str:
        op, graph = step.op, step.graph
        attrs = op.attrs
        assert isinstance(attrs, ConvAttrs)
        x, dy = op.inputs
        name = op.constants[0]
        declaration, sink = c.sink(name)
        literal = forward_literal(attrs, graph.constants[name].value.shape)
        return (
            f"{declaration}ft_conv2d_grad_w_i8({c.pointer(x)}, {c.map(x)}, {c.grid(x)},\n"
            f"    {c.pointer(dy)}, {c.map(dy)}, {c.grid(dy)}.scale, {sink},\n"
            f"    {literal}, {int(attrs.transposed)});"
        )


class BiasUpdateI8(BiasUpdate):
    """Bias gradient of an int8 layer; the bias itself is float32."""

    kind = "bias_update_i8"

    def emit(self, step: Step, c: Emitter) -> str:
        dy, name = step.op.inputs[0], step.op.constants[0]
        declaration, sink = c.sink(name)
        return f"{declaration}ft_bias_grad_i8({c.pointer(dy)}, {c.map(dy)}, {c.grid(dy)}.scale,\n    {sink});"
