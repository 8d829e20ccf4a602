"""int8 layers on grids that move while the network learns: kernels/moving.h, conv2d_i8_f32.h, moving_i16.h.

A moving layer has the weights of its fixed twin and derives multipliers from the present grids when it runs,
in scratch. The input gradient of one is another one, with the opposite window and weights whose scales belong
to its own outputs: so every kernel for int8 convolutions serves both passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from boards import Isa
from fieldtune.errors import ModelError
from firmware_gen.c_text import c_float
from firmware_gen.graph import Constant, Graph, Op
from firmware_gen.operators import conv2d_i8_dsp, conv2d_i8_mve, conv2d_i8_xpulp, moving_i16
from firmware_gen.operators.activation import activation_gradient
from firmware_gen.operators.base import Channels, Emitter, Operator, Rows, Tape
from firmware_gen.operators.conv2d import ConvAttrs, ConvGradAttrs, conv_macs, conv_reach, forward_literal
from firmware_gen.operators.conv2d_i8 import real_weight
from firmware_gen.operators.conv_parts import ConvPart, split, splits
from firmware_gen.window import LINEAR, Activation

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

MOST_INPUTS = 1 << 14  # of an output whose sum is known to stay below 2^30
SMALLEST_SCALE = 1e-30


class MovingConv2d(Operator):
    """y = activation(bias + x * w), x and y int8; constants: int8 weight and, maybe, float32 bias.

    The bias can learn: its gradient is the sum of an int8 one.
    """

    kind = "moving_conv2d"
    learns = True

    def parameters(self, op: Op) -> tuple[str, ...]:
        return op.constants

    def macs(self, op: Op, graph: Graph) -> int:
        return conv_macs(op, _attrs(op), graph)

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        if is_wide(op.inputs[0], graph):
            return table_bytes(op, graph) + moving_i16.scratch_bytes(op, graph, isa)
        kernel = _kernel(op, graph, isa)
        # The portable kernel wants a pixel of padding.
        own = graph.shape(op.inputs[0])[2] if kernel is None else kernel.scratch
        return table_bytes(op, graph) + own

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return conv_reach(_attrs(op), row, graph.shape(op.inputs[k])[0])

    def backward(self, op: Op, tape: Tape) -> None:
        attrs, x = _attrs(op), op.inputs[0]
        dy = gradient_of_sums(op, attrs.activation, tape)
        if tape.wants(x):
            contribute_to_input(op, dy, tape)
        for bias in filter(tape.learns, op.constants[1:]):
            kind = "bias_update" if tape.gradients == "f32" else "bias_update_i8"
            tape.update(Op(kind, op.name, (dy,), (), None, (bias,)))

    def emit(self, step: Step, c: Emitter) -> str:
        op, attrs, graph = step.op, _attrs(step.op), step.graph
        weight = graph.constants[op.constants[0]]
        scratch = f"scratch_ + {table_bytes(op, graph)}"
        if is_wide(op.inputs[0], graph):
            calls = [_tables(step, None, "", c), *moving_i16.calls(step, c, scratch)]
            return moving_layer(calls, None, weight, step, c)
        kernel = _kernel(op, graph, c.isa)
        if kernel is None:
            calls = [_tables(step, _sums(attrs, weight.value), "", c)]
            calls.append(portable_call(attrs, weight.value.shape, c.weight(weight.name), step, c, scratch))
        else:
            calls = []
            for part in kernel.parts:
                total = part.weight.sum(axis=(0, 1, 2), dtype=np.int64)
                calls.append(_tables(step, total, part.suffix, c))
                calls.append(kernel.variant.moving_call(part, step, c, scratch))
        return moving_layer(calls, kernel, weight, step, c)


def contribute_to_input(op: Op, dy: str, tape: Tape) -> None:
    """Carry the gradient `dy` of a layer's sums back to its input, through frozen weights.

    A float gradient meets the weights in real values.
    """
    x, weight = op.inputs[0], tape.graph.constants[op.constants[0]]
    linear = replace(_attrs(op), activation=LINEAR)
    if tape.gradients == "f32":
        reals = Constant(f"{weight.name}.back", real_weight(weight, linear).astype(np.float32))
        grad = ConvGradAttrs(linear, Channels(0, tape.graph.shape(x)[2]))
        tape.contribute(x, Op("conv_grad_input", op.name, (dy,), (), grad, (tape.constant(reals),)))
        return
    opposite = replace(linear, transposed=not linear.transposed)
    back = tape.constant(turned(weight, linear, moving_i16.MOST_WEIGHTS if tape.gradients == "i16" else None))
    tape.contribute_integers(x, Op("moving_conv2d", op.name, (dy,), (), opposite, (back,)))


def gradient_of_sums(op: Op, activation: Activation, tape: Tape) -> str:
    """Return the gradient of what a layer's activation is applied to."""
    y = op.outputs[0]
    dy = tape.gradient(y)
    if activation == LINEAR:
        return dy
    if not activation.slope_is_bit:
        raise ModelError(f"layer '{op.name}' passes no gradient on: its activation has no bit for it")
    if tape.gradients == "f32":
        return activation_gradient(op.name, y, activation, tape)
    return tape.add(Op("mask_gradient", op.name, (dy, y), (), activation), like=y)


def moving_layer(
    calls: Sequence[str], kernel: Kernel | None, weight: Constant, step: Step, c: Emitter
) -> str:
    """Return the statements of a layer: `calls` of `kernel` (None: a portable one) with the variables that
    they use. A gradient's first grid is guessed from `weight`.
    """
    op, graph = step.op, step.graph
    x, y = op.inputs[0], op.outputs[0]
    guess, observe = "", "ft_range_observe"
    most = graph.ranges[graph.tensors[y].range].symmetric
    if most:
        reach = f"{most}.0f * from.scale * {c_float(_reach(weight))}"
        guess = f"ft_range_guess({c.range(y)}, {c.range_rule(y)}, {reach});\n" + passed_over(step, c)
    if is_wide(y, graph):
        observe += "_i16"
    channels = f"0, {graph.shape(y)[2]}"
    if kernel is not None and kernel.variant is conv2d_i8_xpulp:  # cores divide channels, too
        channels = conv2d_i8_xpulp.share(kernel.parts[0], c)
    return (
        f"const ft_grid_t from = {c.grid(x)};\n"
        f"int8_t *const scratch_ = {c.scratch(op)};\n"
        "int32_t *const bias = (int32_t *)(void *)scratch_;\n"
        "ft_requantize_t to;\n"
        f"{guess}" + "\n".join(filter(None, calls)) + "\n"
        f"{observe}({c.range(y)}, {c.pointer(y)}, {c.map(y)}, {channels}, {c.rows(step)});"
    )


def passed_over(step: Step, c: Emitter) -> str:
    """Return the statement that lets a gradient's range stay where all gradients that it is made of are 0.

    That is where a loss has no label. With one loss there is none: nobody trains on such a sample.
    """
    if len(step.graph.labels) < 2:
        return ""
    integers = [name for name in step.op.inputs if step.graph.tensors[name].range]
    empty = " && ".join(f"ft_grid_empty({c.grid(name)})" for name in integers)
    return f"ft_range_pass_over({c.range(step.op.outputs[0])}, {empty});\n"


def is_wide(tensor: str, graph: Graph) -> bool:
    """Tell whether the tensor is a gradient of 16 bits."""
    return graph.tensors[tensor].dtype == "i16"


def integers(dy: str, name: str, tape: Tape) -> str:
    """Return the float gradient `dy` in the type of those that pass through int8 layers."""
    if tape.gradients == "f32":
        return dy
    return tape.add_integers(Op("quantize_gradient", name, (dy,), ()), like=dy)


class Conv2dI8F32(Operator):
    """y = activation(bias + x * w), x int8 and y float32; constants: int8 weight and, maybe, float32 bias."""

    kind = "conv2d_i8_f32"

    def parameters(self, op: Op) -> tuple[str, ...]:
        return op.constants

    def macs(self, op: Op, graph: Graph) -> int:
        return conv_macs(op, _attrs(op), graph)

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        return graph.shape(op.inputs[0])[2]  # a pixel of padding

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return conv_reach(_attrs(op), row, graph.shape(op.inputs[k])[0])

    def backward(self, op: Op, tape: Tape) -> None:
        attrs, (x,), (y,) = _attrs(op), op.inputs, op.outputs
        dy = tape.gradient(y)
        if attrs.activation != LINEAR:
            dy = activation_gradient(op.name, y, attrs.activation, tape)
        if tape.wants(x):
            contribute_to_input(op, integers(dy, op.name, tape), tape)
        for bias in filter(tape.learns, op.constants[1:]):
            tape.update(Op("bias_update", op.name, (dy,), (), None, (bias,)))

    def emit(self, step: Step, c: Emitter) -> str:
        op, attrs, graph = step.op, _attrs(step.op), step.graph
        (x,), (y,), (name, *bias) = op.inputs, op.outputs, op.constants
        weight = graph.constants[name]
        scales = np.broadcast_to(np.array(weight.scales, np.float32), (graph.shape(y)[2],))
        sums = weight.value.sum(axis=(0, 1, 2), dtype=np.int64).astype(np.int32)
        return (
            f"const ft_grid_t from = {c.grid(x)};\n"
            f"int8_t *const padding = {c.scratch(op)};\n"
            f"memset(padding, from.zero, {graph.shape(x)[2]});\n"
            f"ft_conv2d_i8_f32({c.pointer(x)}, {c.map(x)}, padding, from, {c.weight(name)},\n"
            f"    {c.array(f'{name}.scales', scales)}, {c.array(f'{name}.sums', sums)},\n"
            f"    {c.weight(bias[0]) if bias else 'NULL'}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {forward_literal(attrs, weight.value.shape)}, {attrs.activation.c()}, {c.rows(step)});"
        )


class _MovingVariant(Protocol):
    """A module with a kernel for an instruction set."""

    def moving_scratch(self, parts: Sequence[ConvPart], op: Op, graph: Graph) -> int | None:
        """Return the bytes that `moving_call` works in; None where the portable kernel is to run."""

    def moving_call(
        self, part: ConvPart, step: Step, c: Emitter, scratch: str, packed: str | None = None
    ) -> str:
        """Return the call that makes `part` with the C variables `from`, `bias` and `to`.

        packed: the C name of weights that were packed when the layer runs; None: they are the part's.
        """

    def packed_bytes(self, part: ConvPart) -> int:
        """Return the bytes of the part's weights in the kernel's order."""


VARIANTS: dict[Isa, _MovingVariant] = {"dsp": conv2d_i8_dsp, "mve": conv2d_i8_mve, "xpulp": conv2d_i8_xpulp}


@dataclass(frozen=True)
class Kernel:
    """A kernel for an instruction set, and the parts of a layer that it runs."""

    variant: _MovingVariant
    parts: list[ConvPart]
    scratch: int


def _kernel(op: Op, graph: Graph, isa: Isa) -> Kernel | None:
    return find_kernel(_attrs(op), graph.constants[op.constants[0]].value, op, graph, isa)


def find_kernel(attrs: ConvAttrs, weight: NDArray[Any], op: Op, graph: Graph, isa: Isa) -> Kernel | None:
    """Return the kernel that runs the layer, None for the portable one."""
    conv = replace(attrs, activation=LINEAR)
    if isa not in VARIANTS or not splits(conv):
        return None
    y = graph.shape(op.outputs[0])
    if weight[..., 0].size >= MOST_INPUTS:
        return None
    parts = split(conv, weight, np.zeros(y[2], np.int32), 0, y)
    scratch = VARIANTS[isa].moving_scratch(parts, op, graph)
    return None if scratch is None else Kernel(VARIANTS[isa], parts, scratch)


def table_bytes(op: Op, graph: Graph) -> int:
    """Return what ft_moving_tables fills, up to a multiple of 8."""
    channels = -(-graph.shape(op.outputs[0])[2] // 4) * 4
    return -(-14 * channels // 8) * 8


def _reach(weight: Constant) -> float:
    """Return how large outputs are to be expected of inputs whose largest is 1 and whose RMS a quarter.

    Four standard deviations of the output with the largest weights.
    """
    sizes = np.sqrt((weight.value.astype(np.float64) ** 2).sum(axis=(0, 1, 2)))
    return float(sizes.max() * max(weight.scales))


def _sums(attrs: ConvAttrs, weight: NDArray[np.int8]) -> NDArray[np.int64] | None:
    """Return what the zero point of x is folded with; a transposed window meets fewer taps at the border."""
    return None if attrs.transposed else weight.sum(axis=(0, 1, 2), dtype=np.int64)


def _tables(step: Step, sums: NDArray[np.int64] | None, suffix: str, c: Emitter) -> str:
    """Return the statement that makes biases and factors."""
    op, graph = step.op, step.graph
    name, *real = op.constants
    total = "NULL" if sums is None else c.array(f"{name}.sums{suffix}", sums.astype(np.int32))
    scales = channel_scales(graph.constants[name], graph.shape(op.outputs[0])[2], c)
    return tables_call(scales, total, c.weight(real[0]) if real else "NULL", _attrs(op).activation, step, c)


def channel_scales(weight: Constant, channels: int, c: Emitter) -> str:
    """Return the C array of the weight's scales, one an output channel of the layer."""
    scales = np.broadcast_to(np.array(weight.scales, np.float32), (channels,))
    return c.array(f"{weight.name}.scales", scales)


def tables_call(scales: str, sums: str, bias: str, activation: Activation, step: Step, c: Emitter) -> str:
    """Return the statement that makes biases and factors of these C arrays; "NULL" where there is none."""
    y = step.op.outputs[0]
    layer = f"(ft_moving_t){{{scales}, {sums}, {bias}, {step.graph.shape(y)[2]}}}"
    return (
        f"to = ft_moving_tables({layer}, from,\n"
        f"    {c.range(y)}, {c.range_rule(y)}, {activation.c()}, scratch_);"
    )


def portable_call(
    attrs: ConvAttrs, shape: tuple[int, ...], weights: str, step: Step, c: Emitter, padding: str
) -> str:
    """Return the call of the portable kernel; padding: a pixel of scratch."""
    x, y = step.op.inputs[0], step.op.outputs[0]
    literal = forward_literal(attrs, shape)
    head, outside = "", "from.zero"
    kernel = "ft_conv2d_transpose_i8" if attrs.transposed else "ft_conv2d_i8"
    if not attrs.transposed:
        outside = padding
        head = f"memset({padding}, from.zero, {step.graph.shape(x)[2]});\n"
    return (
        f"{head}{kernel}({c.pointer(x)}, {c.map(x)}, {outside}, {weights}, bias,\n"
        f"    {c.pointer(y)}, {c.map(y)}, {literal}, to, 0, {c.rows(step)});"
    )


def _attrs(op: Op) -> ConvAttrs:
    assert isinstance(op.attrs, ConvAttrs)
    return op.attrs


def turned(weight: Constant, attrs: ConvAttrs, most: int | None = None) -> Constant:
    """Return the weights with which the opposite window carries the gradient back.

    In and out change places, and so that the sums need one factor an output, the values get scales for these.
    most: what the sizes of an output's integers may add up to.
    """
    opposite = real_weight(weight, attrs).transpose(0, 1, 3, 2)
    if attrs.transposed:  # into (rows, columns, in of a group, groups * out)
        each = steps = _steps(np.abs(opposite), (0, 1, 2), most)
    else:  # into (rows, columns, groups * in, out of a group)
        rows, columns, taken, given = opposite.shape
        parts = opposite.reshape(rows, columns, attrs.groups, -1, given)
        steps = _steps(np.abs(parts), (0, 1, 3), most)
        each = np.repeat(steps, taken // attrs.groups, axis=0)
    each, steps = np.maximum(each, SMALLEST_SCALE), np.maximum(steps.ravel(), SMALLEST_SCALE)
    integers = np.rint(opposite / each).astype(np.int8)
    return Constant(f"{weight.name}.back", integers, scales=tuple(np.float32(s).item() for s in steps))


def _steps(sizes: NDArray[np.float64], axes: tuple[int, ...], most: int | None) -> NDArray[np.float64]:
    """Return the scales with which weights of these sizes become integers up to 127.

    most: if there is one, what an output's integers, those along `axes`, add up to at most.
    """
    steps = sizes.max(axis=axes) / 127
    if most is not None:
        count = math.prod(sizes.shape[axis] for axis in axes)
        # Rounded up, a size grows by a half at most, and never doubles.
        room = max(most - count / 2, most / 2)
        steps = np.maximum(steps, sizes.sum(axis=axes) / room)
    return np.asarray(steps)
