"""int8 operators on grids that move while the network learns, and the borders to floats: kernels/moving.h.

A moving layer has the weights of its fixed twin and derives multipliers from the present grids when it runs,
in scratch. The input gradient of one is another one, with the opposite window and weights whose scales belong
to its own outputs: so every kernel for int8 convolutions serves both passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from boards import Isa
from fieldtune.errors import ModelError
from firmware_gen.c_text import c_float
from firmware_gen.graph import Constant, Graph, Op
from firmware_gen.operators import conv2d_i8_dsp, conv2d_i8_mve
from firmware_gen.operators.activation import bits_reach
from firmware_gen.operators.base import Emitter, Operator, Rows, Tape
from firmware_gen.operators.conv2d import ConvAttrs, conv_macs, conv_reach, forward_literal
from firmware_gen.operators.conv2d_i8 import real_weight
from firmware_gen.operators.conv_parts import ConvPart, split, splits
from firmware_gen.window import LINEAR, Activation

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

TABLE_BYTES = 256
MOST_INPUTS = 1 << 14  # of an output whose sum is known to stay below 2^30
SMALLEST_SCALE = 1e-30


class MovingConv2d(Operator):
    """y = activation(bias + x * w), x and y int8; constants: int8 weight and, maybe, float32 bias."""

    kind = "moving_conv2d"

    def parameters(self, op: Op) -> tuple[str, ...]:
        return op.constants

    def macs(self, op: Op, graph: Graph) -> int:
        return conv_macs(op, _attrs(op), graph)

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        kernel = _kernel(op, graph, isa)
        # The portable kernel wants a pixel of padding.
        own = graph.shape(op.inputs[0])[2] if kernel is None else kernel.scratch
        return _table_bytes(op, graph) + own

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return conv_reach(_attrs(op), row, graph.shape(op.inputs[k])[0])

    def backward(self, op: Op, tape: Tape) -> None:
        attrs = _attrs(op)
        x, y = op.inputs[0], op.outputs[0]
        dy = tape.gradient(y)
        if attrs.activation != LINEAR:
            if not attrs.activation.slope_is_bit:
                raise ModelError(f"layer '{op.name}' passes no gradient on: its activation has no bit for it")
            dy = tape.add(Op("mask_gradient", op.name, (dy, y), (), attrs.activation), like=y)
        if tape.wants(x):
            weight = tape.constant(_turned(tape.graph.constants[op.constants[0]], attrs))
            turned = replace(attrs, transposed=not attrs.transposed, activation=LINEAR)
            tape.contribute_i8(x, Op("moving_conv2d", op.name, (dy,), (), turned, (weight,)))

    def emit(self, step: Step, c: Emitter) -> str:
        op, attrs, graph = step.op, _attrs(step.op), step.graph
        x, y = op.inputs[0], op.outputs[0]
        kernel = _kernel(op, graph, c.isa)
        scratch = f"scratch_ + {_table_bytes(op, graph)}"
        if kernel is None:
            calls = [_tables(step, _sums(attrs, graph.constants[op.constants[0]].value), "", c)]
            calls.append(_portable_call(step, c, scratch))
        else:
            calls = []
            for part in kernel.parts:
                total = part.weight.sum(axis=(0, 1, 2), dtype=np.int64)
                calls.append(_tables(step, total, part.suffix, c))
                calls.append(kernel.variant.moving_call(part, step, c, scratch))
        guess = ""
        if graph.ranges[graph.tensors[y].range].symmetric:
            guess = f"ft_range_guess({c.range(y)}, 127.0f * from.scale * {c_float(_reach(op, graph))});\n"
        return (
            f"const ft_grid_t from = {c.grid(x)};\n"
            f"int8_t *const scratch_ = {c.scratch(op)};\n"
            "int32_t *const bias = (int32_t *)(void *)scratch_;\n"
            "ft_requantize_t to;\n"
            f"{guess}" + "\n".join(calls) + "\n"
            f"ft_range_observe({c.range(y)}, {c.pointer(y)}, {c.map(y)}, {c.rows(step)});"
        )


class _MovingVariant(Protocol):
    """A module with a kernel for an instruction set."""

    def moving_scratch(self, parts: Sequence[ConvPart], op: Op, graph: Graph) -> int | None:
        """Return the bytes that `moving_call` works in; None where the portable kernel is to run."""

    def moving_call(self, part: ConvPart, step: Step, c: Emitter, scratch: str) -> str:
        """Return the call that makes `part` with the C variables `from`, `bias` and `to`."""


VARIANTS: dict[Isa, _MovingVariant] = {"dsp": conv2d_i8_dsp, "mve": conv2d_i8_mve}


@dataclass(frozen=True)
class _Kernel:
    variant: _MovingVariant
    parts: list[ConvPart]
    scratch: int


def _kernel(op: Op, graph: Graph, isa: Isa) -> _Kernel | None:
    """Return the kernel that runs the layer, None for the portable one."""
    conv = replace(_attrs(op), activation=LINEAR)
    if isa not in VARIANTS or not splits(conv):
        return None
    weight, y = graph.constants[op.constants[0]].value, graph.shape(op.outputs[0])
    if weight[..., 0].size >= MOST_INPUTS:
        return None
    parts = split(conv, weight, np.zeros(y[2], np.int32), 0, y)
    scratch = VARIANTS[isa].moving_scratch(parts, op, graph)
    return None if scratch is None else _Kernel(VARIANTS[isa], parts, scratch)


def _table_bytes(op: Op, graph: Graph) -> int:
    """Return what ft_moving_tables fills, up to a multiple of 8."""
    channels = -(-graph.shape(op.outputs[0])[2] // 4) * 4
    return -(-14 * channels // 8) * 8


def _reach(op: Op, graph: Graph) -> float:
    """Return how large outputs are to be expected of inputs whose largest is 1 and whose RMS a quarter.

    Four standard deviations of the output with the largest weights.
    """
    weight = graph.constants[op.constants[0]]
    sizes = np.sqrt((weight.value.astype(np.float64) ** 2).sum(axis=(0, 1, 2)))
    return float(sizes.max() * max(weight.scales))


def _sums(attrs: ConvAttrs, weight: NDArray[np.int8]) -> NDArray[np.int64] | None:
    """Return what the zero point of x is folded with; a transposed window meets fewer taps at the border."""
    return None if attrs.transposed else weight.sum(axis=(0, 1, 2), dtype=np.int64)


def _tables(step: Step, sums: NDArray[np.int64] | None, suffix: str, c: Emitter) -> str:
    """Return the statement that makes biases and factors."""
    op, graph = step.op, step.graph
    name, *real = op.constants
    y = op.outputs[0]
    channels = graph.shape(y)[2]
    scales = np.broadcast_to(np.array(graph.constants[name].scales, np.float32), (channels,))
    total = "NULL" if sums is None else c.array(f"{name}.sums{suffix}", sums.astype(np.int32))
    bias = c.weight(real[0]) if real else "NULL"
    layer = f"(ft_moving_t){{{c.array(f'{name}.scales', scales)}, {total}, {bias}, {channels}}}"
    return (
        f"to = ft_moving_tables({layer}, from,\n"
        f"    {c.range(y)}, {c.range_rule(y)}, {_attrs(op).activation.c()}, scratch_);"
    )


def _portable_call(step: Step, c: Emitter, padding: str) -> str:
    op, attrs = step.op, _attrs(step.op)
    x, y = op.inputs[0], op.outputs[0]
    literal = forward_literal(attrs, step.graph.constants[op.constants[0]].value.shape)
    head, outside = "", "from.zero"
    kernel = "ft_conv2d_transpose_i8" if attrs.transposed else "ft_conv2d_i8"
    if not attrs.transposed:
        outside = padding
        head = f"memset({padding}, from.zero, {step.graph.shape(x)[2]});\n"
    return (
        f"{head}{kernel}({c.pointer(x)}, {c.map(x)}, {outside}, {c.weight(op.constants[0])}, bias,\n"
        f"    {c.pointer(y)}, {c.map(y)}, {literal}, to, 0, {c.rows(step)});"
    )


def _attrs(op: Op) -> ConvAttrs:
    assert isinstance(op.attrs, ConvAttrs)
    return op.attrs


def _turned(weight: Constant, attrs: ConvAttrs) -> Constant:
    """Return the weights with which the opposite window carries the gradient back.

    In and out change places, and so that the sums need one factor an output, the values get scales for these.
    """
    turned = real_weight(weight, attrs).transpose(0, 1, 3, 2)
    if attrs.transposed:  # into (rows, columns, in of a group, groups * out)
        each = steps = np.abs(turned).max(axis=(0, 1, 2)) / 127
    else:  # into (rows, columns, groups * in, out of a group)
        rows, columns, taken, given = turned.shape
        parts = turned.reshape(rows, columns, attrs.groups, -1, given)
        steps = np.abs(parts).max(axis=(0, 1, 3)) / 127
        each = np.repeat(steps, taken // attrs.groups, axis=0)
    each, steps = np.maximum(each, SMALLEST_SCALE), np.maximum(steps.ravel(), SMALLEST_SCALE)
    integers = np.rint(turned / each).astype(np.int8)
    return Constant(f"{weight.name}.back", integers, scales=tuple(np.float32(s).item() for s in steps))


class Rescale(Operator):
    """y = x, int8 on another grid."""

    kind = "rescale"
    row_by_row = True

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        return TABLE_BYTES

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return (
            f"ft_rescale_i8({c.pointer(x)}, {c.map(x)}, {c.grid(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {c.range(y)}, {c.scratch(step.op)}, {c.rows(step)});"
        )


class QuantizeGradient(Operator):
    """An int8 gradient from float32, on the grid that just holds it."""

    kind = "quantize_gradient"

    def emit(self, step: Step, c: Emitter) -> str:
        dy, q = step.op.inputs[0], step.op.outputs[0]
        return (
            f"ft_quantize_gradient({c.pointer(dy)}, {c.map(dy)}, {c.pointer(q)}, {c.map(q)}, {c.range(q)});"
        )


class SumGradients(Operator):
    """The sum of two int8 gradients on any grids, on the grid that just holds it."""

    kind = "sum_gradients"

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0, 1)

    def emit(self, step: Step, c: Emitter) -> str:
        y = step.op.outputs[0]
        a, b = (f"(ft_gradient_t){{{c.pointer(x)}, {c.map(x)}, {c.grid(x)}}}" for x in step.op.inputs)
        return f"ft_sum_gradients({a},\n    {b},\n    {c.pointer(y)}, {c.map(y)}, {c.range(y)});"


class MaskGradient(Operator):
    """dx = dy * slope on the grid of dy, from the bits of the activation's output."""

    kind = "mask_gradient"
    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def emit(self, step: Step, c: Emitter) -> str:
        dy, bits = step.op.inputs
        dx, activation = step.op.outputs[0], step.op.attrs
        assert isinstance(activation, Activation)
        assert step.graph.tensors[bits].dtype == "bits", "sign_bits replaces every output by its bits"
        slope = activation.a if activation.kind == "leaky_relu" else 0.0
        return (
            f"ft_mask_gradient_i8({c.pointer(dy)}, {c.map(dy)}, {c.pointer(bits)},\n"
            f"    {c.pointer(dx)}, {c.map(dx)}, {c_float(slope)}, {c.rows(step)});"
        )


class ActivationBitsI8(Operator):
    """One bit a value of an int8 tensor: whether the gradient passes."""

    kind = "activation_bits_i8"

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return bits_reach(op, graph, row)

    def emit(self, step: Step, c: Emitter) -> str:
        y, bits = step.op.inputs[0], step.op.outputs[0]
        activation = step.op.attrs
        assert isinstance(activation, Activation)
        return (
            f"ft_activation_bits_i8({c.pointer(y)}, {c.map(y)}, {c.grid(y)}, {c.pointer(bits)},\n"
            f"    {activation.c()}, {c.rows(step)});"
        )
