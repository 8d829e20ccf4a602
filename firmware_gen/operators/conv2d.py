"""Convolution, transposed convolution and fully connected layers (C: kernels/conv2d.h).

Weights are (rows, columns, in of a group, out) for a convolution and (rows, columns, in, out of a group)
for a transposed one, which is the order that both forward kernels read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boards import Isa
from firmware_gen.graph import Graph, Op, gradient_name
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


# Strides of a weight in elements: from tap to tap, group to group, channel to channel taken, and given.
Strides = tuple[int, int, int, int]
# Output channels whose weights are made floats at a time where they are stored in bf16; each core of a
# cluster does so for channels of its own.
SLAB, CLUSTER_SLAB = 8, 4


def _slab_channels(isa: Isa) -> int:
    return CLUSTER_SLAB if isa == "xpulp" else SLAB


@dataclass(frozen=True)
class GatherCall:
    """A call of a kernel that sums `taken` channels of each group to `given`.

    In C: `weight`, and `start`, what the sums begin with; `start_map` follows where that is a map.
    """

    kernel: str
    conv: ConvAttrs
    taken: int
    given: int
    strides: Strides
    weight: str
    start: str
    start_map: str = ""

    def c(self, step: Step, c: Emitter) -> str:
        """Return the statements that run `step`."""
        if not is_narrow(step.op, step.graph):
            return self._share(step, c)
        scratch = f"float *const wide = (float *)(void *){c.scratch(step.op)};\n"
        if self.conv.groups > 1:
            size = step.graph.constants[step.op.constants[0]].value.size
            made = f"ft_widen({self.weight}, wide, 1, 0, 1, 0, {size}, 1);\n"
            return scratch + made + replace(self, weight="wide")._call(step, c)
        return scratch + "\n".join(self._slabs(step, c))

    def _share(self, step: Step, c: Emitter) -> str:
        """Return the call that makes the output channels that are asked for."""
        if self.conv.groups > 1:
            return self._call(step, c)
        first, end = c.channels(self.given, 1).split(", ")
        if first == "0":
            return self._call(step, c)
        offset = first if self.strides[3] == 1 else f"{first} * {self.strides[3]}"
        start = self.start if self.start == "NULL" else f"{self.start} + {first}"
        part = replace(self, weight=f"{self.weight} + {offset}", start=start)
        return part._call(step, c, first, f"{end} - {first}")

    def _slabs(self, step: Step, c: Emitter) -> Iterator[str]:
        slab = _slab_channels(c.isa)
        first, end = c.channels(self.given, slab).split(", ")
        whole = self.given - self.given % slab
        if first != "0" or whole > slab:
            body = self._slab(slab, "o", step, c).replace("\n", "\n    ")
            last = str(whole) if first == "0" else f"{end} - {slab - 1}"
            yield f"for (int o = {first}; o < {last}; o += {slab}) {{\n    {body}\n}}"
        elif whole:
            yield self._slab(slab, "0", step, c)
        if whole < self.given:
            rest = self._slab(self.given - whole, str(whole), step, c)
            indented = rest.replace("\n", "\n    ")
            yield rest if first == "0" else f"if ({end} == {self.given}) {{\n    {indented}\n}}"

    def _slab(self, count: int, at: str, step: Step, c: Emitter) -> str:
        """Return the statements that make `count` output channels from channel `at` on."""
        tap, _, w_in, w_out = self.strides
        taps = self.conv.window.taps
        start = self.start if self.start == "NULL" else f"{self.start} + {at}"
        dense = (self.taken * count, 0, count, 1)
        part = replace(self, strides=dense, weight="wide", start=start)
        return (
            f"ft_widen({self.weight} + {at} * {w_out}, wide, {taps}, {tap}, {self.taken}, {w_in}, "
            f"{count}, {w_out});\n{part._call(step, c, at, str(count))}"
        )

    def _call(self, step: Step, c: Emitter, at: str = "0", given: str | None = None) -> str:
        """Return the call that makes `given` channels of each group, or all, from channel `at` on."""
        x, y = step.op.inputs[0], step.op.outputs[0]
        target = c.pointer(y) if at == "0" else f"{c.pointer(y)} + {at}"
        literal = conv_literal(self.conv, self.taken, given or str(self.given), self.strides)
        return (
            f"{self.kernel}({c.pointer(x)}, {c.map(x)}, {self.weight}, {self.start}{self.start_map},\n"
            f"    {target}, {c.map(y)}, {literal},\n"
            f"    {self.conv.activation.c()}, {c.rows(step)});"
        )


def is_narrow(op: Op, graph: Graph) -> bool:
    """Tell whether the layer's weight lies in RAM in another type than the kernels read."""
    weight = op.constants[0]
    return weight in graph.trained and graph.learned(weight).dtype != "f32"


def _scratch_bytes(op: Op, groups: int, taken: int, given: int, graph: Graph, isa: Isa) -> int:
    """Return what the floats of a weight take that lies in RAM in another type."""
    if not is_narrow(op, graph):
        return 0
    value = graph.constants[op.constants[0]].value
    if groups > 1:
        return 4 * int(value.size)
    kernel_y, kernel_x, _, _ = value.shape
    return 4 * int(kernel_y) * int(kernel_x) * taken * min(given, _slab_channels(isa))


def conv_literal(conv: ConvAttrs, taken: int, given: int | str, strides: Strides) -> str:
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

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        taken, given, _ = _forward(_attrs(op), graph.constants[op.constants[0]].value.shape)
        return _scratch_bytes(op, _attrs(op).groups, taken, given, graph, isa)

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
        return self.gather(step, c).c(step, c)

    def gather(self, step: Step, c: Emitter, weight_c: str | None = None) -> GatherCall:
        """Return the kernel's call, with the weight as it lies in memory or as `weight_c` in C."""
        op, attrs = step.op, _attrs(step.op)
        weight, *bias = op.constants
        taken, given, strides = _forward(attrs, step.graph.constants[weight].value.shape)
        start = c.weight(bias[0]) if bias else "NULL"
        kernel = "ft_conv2d_transpose_f32" if attrs.transposed else "ft_conv2d_f32"
        return GatherCall(kernel, attrs, taken, given, strides, weight_c or c.weight(weight), start)


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
    return conv_literal(attrs, *_forward(attrs, shape))


def _forward(attrs: ConvAttrs, shape: tuple[int, ...]) -> tuple[int, int, Strides]:
    """Return the channels of a group that a layer with weights of `shape` takes and gives; strides."""
    _, _, inner, outer = shape
    if attrs.transposed:
        taken = inner // attrs.groups
        return taken, outer, (inner * outer, taken * outer, outer, 1)
    given = outer // attrs.groups
    return inner, given, (inner * outer, given, outer, 1)


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

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        assert isinstance(op.attrs, ConvGradAttrs)
        outer = int(graph.constants[op.constants[0]].value.shape[3])
        taken = outer if op.attrs.conv.transposed else outer // op.attrs.conv.groups
        return _scratch_bytes(op, op.attrs.conv.groups, taken, op.attrs.channels.count, graph, isa)

    def emit(self, step: Step, c: Emitter) -> str:
        return self.gather(step, c).c(step, c)

    def gather(self, step: Step, c: Emitter, weight_c: str | None = None) -> GatherCall:
        """Return the kernel's call, with the weight as it lies in memory or as `weight_c` in C."""
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
        if weight_c is None:
            weight_c = c.weight(name, (0, 1, 3, 2)) + (
                f" + {channels.first * w_out}" if channels.first else ""
            )
        kernel = "ft_conv2d" if conv.transposed else "ft_conv2d_transpose"
        part = op.inputs[1:]
        kernel += "_onto_f32" if part else "_f32"
        start = c.pointer(part[0]) if part else "NULL"
        start_map = f", {c.map(part[0])}" if part else ""
        strides = (inner * outer, group, w_in, w_out)
        return GatherCall(kernel, conv, taken, given, strides, weight_c, start, start_map)


def is_kept(op: Op, graph: Graph) -> bool:
    """Tell whether the gradients of an update are added up in memory, where rows may come one by one."""
    return bool(op.outputs) or gradient_name(op.constants[0]) in graph.state


class ConvUpdate(Operator):
    """Weight gradients: added to the kept gradients, or applied at once; inputs x, dy.

    Goes over the rows of the map that the window steps over: dy of a convolution, x of a transposed one.
    """

    kind = "conv_update"
    accumulates = True

    def height(self, op: Op, graph: Graph) -> int:
        return graph.shape(op.inputs[0] if _attrs(op).transposed else op.inputs[1])[0]

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        if not is_kept(op, graph):
            return None
        transposed = _attrs(op).transposed
        if transposed == (k == 0):
            return row, row + 1
        return _attrs(op).window.rows_below(row, graph.shape(op.inputs[k])[0])

    def macs(self, op: Op, graph: Graph) -> int:
        attrs = _attrs(op)
        _, width, _ = graph.shape(op.inputs[0] if attrs.transposed else op.inputs[1])
        return self.height(op, graph) * width * int(graph.constants[op.constants[0]].value.size)

    def emit(self, step: Step, c: Emitter) -> str:
        op, attrs = step.op, _attrs(step.op)
        x, dy = op.inputs
        name = op.constants[0]
        kernel = "ft_conv2d_transpose_grad_w_f32" if attrs.transposed else "ft_conv2d_grad_w_f32"
        declaration, sink = c.sink(name, step)
        shape = step.graph.constants[name].value.shape
        _, given, _ = _forward(attrs, shape)
        channels = c.channels(given, 1) if attrs.groups == 1 else f"0, {given}"
        return (
            f"{declaration}{kernel}({c.pointer(x)}, {c.map(x)}, {c.pointer(dy)}, {c.map(dy)},\n"
            f"    {sink},\n"
            f"    {forward_literal(attrs, shape)}, {channels}, {c.rows(step)});"
        )


class BiasUpdate(Operator):
    """Bias gradient: added to the kept one, or applied at once."""

    kind = "bias_update"
    accumulates = True

    def height(self, op: Op, graph: Graph) -> int:
        return graph.shape(op.inputs[0])[0]

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return (row, row + 1) if is_kept(op, graph) else None

    def emit(self, step: Step, c: Emitter) -> str:
        dy, name = step.op.inputs[0], step.op.constants[0]
        declaration, sink = c.sink(name, step)
        channels = c.channels(step.graph.shape(dy)[2], 1)
        return (
            f"{declaration}ft_bias_grad_f32({c.pointer(dy)}, {c.map(dy)},\n"
            f"    {sink}, {channels}, {c.rows(step)});"
        )


class RoundGradient(Operator):
    """The gradient of a weight in bf16, in which it waits for the norm of all."""

    kind = "round_gradient"

    def emit(self, step: Step, c: Emitter) -> str:
        total, rounded = step.op.inputs[0], step.op.outputs[0]
        count = step.graph.tensors[total].count
        return f"ft_round_bf16({c.pointer(total)}, {c.pointer(rounded)}, {count}, {c.cores(count)});"
