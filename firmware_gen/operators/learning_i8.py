"""int8 weights that learn, without a float copy (C: kernels/learning_i8.h, kernels/update.h).

A weight is w = scale * q, with one scale an output channel, which stays. Its gradient comes from int8 inputs
and int8 output gradients; the optimizer sees and moves w in real values, and what it moves q by is that
divided by the scale: for SGD lr * dL/dw / scale, the quantization-aware scaling of Lin et al., "On-Device
Training Under 256KB Memory" (2022), where dL/dq = scale * dL/dw is divided by the squared scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from boards import Isa
from firmware_gen.graph import Graph, Op
from firmware_gen.operators import conv2d_i8_xpulp
from firmware_gen.operators.base import Channels, Emitter, Rows, Tape
from firmware_gen.operators.conv2d import (
    BiasUpdate,
    ConvAttrs,
    ConvGradAttrs,
    ConvGradInput,
    ConvUpdate,
    conv_reach,
    forward_literal,
)
from firmware_gen.operators.moving import (
    Kernel,
    MovingConv2d,
    channel_scales,
    contribute_to_input,
    find_kernel,
    gradient_of_sums,
    moving_layer,
    portable_call,
    table_bytes,
    tables_call,
    turned,
)
from firmware_gen.window import LINEAR

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

# Of kernels/grad_w_dots_i8.h: values that a product takes at once, and their bytes; about how many pixels are
# gathered at once; the fewest channels for which that pays.
DOT_TYPES: dict[Isa, tuple[int, int]] = {"dsp": (2, 2), "mve": (16, 1), "xpulp": (4, 1)}
DOT_PIXELS, DOT_CHANNELS = 96, 4
ROWS = 4  # of weights, that the portable kernel sums at once: FT_ROWS_INT on the cores of a cluster
MOST_PIXELS = 65_535  # of a map: a sum of so many products of int8 values stays within 32 bits


def learning_weight(name: str, graph: Graph, c: Emitter) -> str:
    """Return the initializers of the ft_steps_t of an int8 weight, up to how it is rounded."""
    weight = graph.constants[name]
    layer = next(op for op in graph.ops if op.kind == LearningConv2d.kind and name in op.constants)
    scales = channel_scales(weight, graph.shape(layer.outputs[0])[2], c)
    outputs = weight.value.shape[3]
    # Transposed groups share the rows' outputs, and one scale: see the importers.
    assert len(weight.scales) in (1, outputs)
    return f"{c.weight(name)}, {scales}, {outputs}"


class LearningConv2d(MovingConv2d):
    """y = activation(bias + x * w), x, y and w int8, where weight or bias learns."""

    kind = "learning_conv2d"
    learns = True

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        if op.constants[0] not in graph.trained:
            return super().scratch_bytes(op, graph, isa)
        shape = graph.constants[op.constants[0]].value.shape
        return table_bytes(op, graph) + _own_bytes(_attrs(op), shape, op, graph, isa)

    def shared_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        if op.constants[0] not in graph.trained:
            return 0
        shape = graph.constants[op.constants[0]].value.shape
        return _prepared_bytes(_attrs(op), shape, op, graph, isa)

    def backward(self, op: Op, tape: Tape) -> None:
        attrs, x = _attrs(op), op.inputs[0]
        weight, *bias = op.constants
        dy = gradient_of_sums(op, attrs.activation, tape)
        linear = replace(attrs, activation=LINEAR)
        if tape.learns(weight):
            if tape.wants(x):
                grad = ConvGradAttrs(linear, Channels(0, tape.graph.shape(x)[2]))
                tape.contribute_integers(x, Op("turning_conv2d", op.name, (dy,), (), grad, (weight,)))
            tape.update(Op("conv_update_i8", op.name, (x, dy), (), linear, (weight,)))
        elif tape.wants(x):
            contribute_to_input(op, dy, tape)
        if bias and tape.learns(bias[0]):
            tape.update(Op("bias_update_i8", op.name, (dy,), (), None, (bias[0],)))

    def emit(self, step: Step, c: Emitter) -> str:
        op, graph = step.op, step.graph
        name, *bias = op.constants
        if name not in graph.trained:
            return super().emit(step, c)
        attrs, weight = _attrs(op), graph.constants[name]
        scales = channel_scales(weight, graph.shape(op.outputs[0])[2], c)
        reals = c.weight(bias[0]) if bias else "NULL"

        def tables(sums: str) -> str:
            return tables_call(scales, sums, reals, attrs.activation, step, c)

        shape = weight.value.shape
        calls = _run(attrs, shape, c.weight(name), tables, 0, step, c)
        return moving_layer(calls, _kernel(attrs, shape, op, graph, c.isa), weight, step, c)


class TurningConv2d(ConvGradInput):
    """dx = dy * w, int8: the opposite window with weights that are turned and quantized when it runs."""

    kind = "turning_conv2d"

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return None  # the weights would be turned for each band

    def tile_reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return conv_reach(_opposite(op), row, graph.shape(op.inputs[k])[0])

    def scratch_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        return table_bytes(op, graph) + _own_bytes(_opposite(op), _turned_shape(op, graph), op, graph, isa)

    def shared_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        shape = _turned_shape(op, graph)
        return self._turned_bytes(op, graph) + _prepared_bytes(_opposite(op), shape, op, graph, isa)

    def emit(self, step: Step, c: Emitter) -> str:
        op, graph = step.op, step.graph
        attrs = op.attrs
        assert isinstance(attrs, ConvGradAttrs)
        weight = graph.constants[op.constants[0]]
        shape = _turned_shape(op, graph)
        rows, columns, outer, inner = shape
        taken = weight.value.shape[2]
        given = outer if attrs.conv.transposed else outer // attrs.conv.groups
        first = attrs.channels.first
        scales = f"((float *)(void *){c.shared(op)})"
        at = f"({c.shared(op)} + {_up(4 * graph.shape(op.outputs[0])[2])})"
        turn = (
            f"ft_turn_weights_i8((ft_steps_t){{{learning_weight(weight.name, graph, c)}, 0, 0}},\n"
            f"    {rows * columns}, {taken}, {given}, {first}, {first + inner},\n"
            f"    {at}, {scales}, {c.cores()});"
        )
        opposite = _opposite(op)
        kernel = _kernel(opposite, shape, op, graph, c.isa)
        if kernel is not None or not opposite.transposed:  # what the cores have turned is packed, or summed
            turn += f"\nft_meet({c.cores()});"

        def tables(sums: str) -> str:
            return tables_call(scales, sums, "NULL", LINEAR, step, c)

        calls = [
            c.prepare(turn),
            *_run(_opposite(op), shape, at, tables, self._turned_bytes(op, graph), step, c),
        ]
        kernel = _kernel(_opposite(op), shape, op, graph, c.isa)
        return moving_layer(calls, kernel, turned(weight, attrs.conv), step, c)

    @staticmethod
    def _turned_bytes(op: Op, graph: Graph) -> int:
        """Return the bytes of scales and turned weights."""
        return _up(4 * graph.shape(op.outputs[0])[2]) + _up(math.prod(_turned_shape(op, graph)))


def _attrs(op: Op) -> ConvAttrs:
    assert isinstance(op.attrs, ConvAttrs)
    return op.attrs


def _opposite(op: Op) -> ConvAttrs:
    assert isinstance(op.attrs, ConvGradAttrs)
    return replace(op.attrs.conv, transposed=not op.attrs.conv.transposed)


def _turned_shape(op: Op, graph: Graph) -> tuple[int, int, int, int]:
    """Return the shape of the weights for the channels of dx that are made."""
    assert isinstance(op.attrs, ConvGradAttrs)
    conv, channels = op.attrs.conv, op.attrs.channels
    rows, columns, inner, outer = graph.constants[op.constants[0]].value.shape
    return rows, columns, outer, inner if conv.groups > 1 else channels.count


def _up(size: int) -> int:
    return -(-size // 8) * 8


def _kernel(attrs: ConvAttrs, shape: tuple[int, ...], op: Op, graph: Graph, isa: Isa) -> Kernel | None:
    """Return the kernel for weights in RAM; in place of values, its parts have their indices there."""
    return find_kernel(attrs, np.arange(math.prod(shape)).reshape(shape), op, graph, isa)


def _own_bytes(attrs: ConvAttrs, shape: tuple[int, ...], op: Op, graph: Graph, isa: Isa) -> int:
    """Return what the kernel of `_run` works in, or a pixel of padding for the portable one."""
    kernel = _kernel(attrs, shape, op, graph, isa)
    return graph.shape(op.inputs[0])[2] if kernel is None else kernel.scratch


def _prepared_bytes(attrs: ConvAttrs, shape: tuple[int, ...], op: Op, graph: Graph, isa: Isa) -> int:
    """Return what `_run` prepares: of each part sums and weights as the kernel reads them."""
    return sum(_prepared(_kernel(attrs, shape, op, graph, isa), op, graph))


def _prepared(kernel: Kernel | None, op: Op, graph: Graph) -> list[int]:
    """Return the bytes that each part takes, or one that all parts take in turn.

    What cores have in common has to be there as a whole, before any of them begins.
    """
    sums = _up(4 * graph.shape(op.outputs[0])[2])
    if kernel is None:
        return [sums]
    sizes = [sums + _up(kernel.variant.packed_bytes(part)) for part in kernel.parts]
    return sizes if kernel.variant is conv2d_i8_xpulp else [max(sizes)]


def _run(
    attrs: ConvAttrs,
    shape: tuple[int, ...],
    weights: str,
    tables: Callable[[str], str],
    start: int,
    step: Step,
    c: Emitter,
) -> list[str]:
    """Return the statements that run a layer with `weights` in RAM; what is shared is free from `start` on.

    tables: returns the statement that makes the tables from the C array of the weights' sums.
    """
    op, graph = step.op, step.graph
    kernel = _kernel(attrs, shape, op, graph, c.isa)
    scratch = f"scratch_ + {table_bytes(op, graph)}"
    sums = f"((int32_t *)(void *)({c.shared(op)} + {start}))"
    if kernel is None:
        calls = [tables("NULL")]  # transposed: meets fewer taps at the border
        if not attrs.transposed:
            indices = np.arange(math.prod(shape)).reshape(shape)
            calls = [c.prepare(_sums_call(indices, attrs.groups, weights, sums, c)), tables(sums)]
        return [*calls, portable_call(attrs, shape, weights, step, c, scratch)]
    calls, sizes = [], _prepared(kernel, op, graph)
    for k, part in enumerate(kernel.parts):
        at = start + (sum(sizes[:k]) if len(sizes) > 1 else 0)
        sums = f"((int32_t *)(void *)({c.shared(op)} + {at}))"
        packed = f"({c.shared(op)} + {at + _up(4 * graph.shape(op.outputs[0])[2])})"
        from_ram = _from(part.weight, part.conv.groups, weights)
        cores = f", {c.cores()}" if kernel.variant is conv2d_i8_xpulp else ""
        prepared = (
            f"ft_pack_i8_{c.isa}({from_ram}, {packed}{cores});\n"
            f"{_sums_call(part.weight, part.conv.groups, weights, sums, c)}"
        )
        calls += [
            c.prepare(prepared),
            tables(sums),
            kernel.variant.moving_call(part, step, c, scratch, packed),
        ]
    return calls


def _sums_call(indices: NDArray[Any], groups: int, weights: str, sums: str, c: Emitter) -> str:
    return f"ft_weight_sums_i8({_from(indices, groups, weights)}, {sums}, {c.cores()});"


def _from(indices: NDArray[Any], groups: int, weights: str) -> str:
    """Return the ft_weights_from_t of a part's weights, given their indices in the C array `weights`."""
    first = int(indices[0, 0, 0, 0])
    steps = [
        int(indices.take(1, axis)[0, 0, 0]) - first if indices.shape[axis] > 1 else 0 for axis in range(4)
    ]
    numbers = ", ".join(map(str, (*indices.shape, groups, *steps)))
    return f"(ft_weights_from_t){{{weights} + {first}, {numbers}}}"


class ConvUpdateI8(ConvUpdate):
    """Gradients of int8 weights: added to the kept gradients, or applied at once; inputs x, dy."""

    kind = "conv_update_i8"

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return None

    def shared_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        dots = find_dots(op, graph, isa)
        return 0 if dots is None else dots.scratch

    def emit(self, step: Step, c: Emitter) -> str:
        op, graph = step.op, step.graph
        attrs = op.attrs
        assert isinstance(attrs, ConvAttrs)
        x, dy = op.inputs
        name = op.constants[0]
        declaration, sink = c.sink(name, step)
        shape = graph.constants[name].value.shape
        literal = forward_literal(attrs, shape)
        dots = find_dots(op, graph, c.isa)
        kernel, rest = "ft_conv2d_grad_w_i8", f", {c.cores(_parts(attrs, shape))}"
        if dots is not None:
            kernel = "ft_conv2d_grad_w_dots_i8"
            rest = f", {dots.height}, {dots.length}, {c.shared(op)}, {c.cores(dots.blocks)}"
        return (
            f"{declaration}{kernel}({c.pointer(x)}, {c.map(x)}, {c.grid(x)},\n"
            f"    {c.pointer(dy)}, {c.map(dy)}, {c.grid(dy)}.scale, {sink},\n"
            f"    {literal}, {int(attrs.transposed)}{rest});"
        )


@dataclass(frozen=True)
class Dots:
    """How the scalar products go over a map.

    `height`: rows at once; `length`: values of a gathered row; `scratch`: bytes; `blocks`: of 2 x 2 sums,
    which cores divide; `meetings`: how often these meet.
    """

    height: int
    length: int
    scratch: int
    blocks: int
    meetings: int


def find_dots(op: Op, graph: Graph, isa: Isa) -> Dots | None:
    """Return None where the portable kernel runs: without instructions for it, or with too few channels."""
    attrs = _attrs(op)
    taken, given = _group(attrs, graph.constants[op.constants[0]].value.shape)
    if isa not in DOT_TYPES or min(taken, given) < DOT_CHANNELS:
        return None
    step, item = DOT_TYPES[isa]
    rows, columns, _ = graph.shape(op.inputs[0] if attrs.transposed else op.inputs[1])
    height = -(-rows // -(-rows * columns // DOT_PIXELS))
    length = -(-height * columns // step) * step
    sums = taken * given + -(-given // 2) * 2
    blocks = -(-taken // 2) * -(-given // 2)
    meetings = attrs.window.taps * attrs.groups * 2 * (1 + -(-rows // height))
    return Dots(height, length, 4 * sums + item * (taken + given) * length, blocks, meetings)


def _group(attrs: ConvAttrs, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the channels that a group takes and gives."""
    _, _, inner, outer = shape
    return (inner // attrs.groups, outer) if attrs.transposed else (inner, outer // attrs.groups)


def _parts(attrs: ConvAttrs, shape: tuple[int, ...]) -> int:
    """Return the parts of the portable kernel that cores divide."""
    taken, given = _group(attrs, shape)
    if attrs.groups > 1 and taken == given == 1:
        return attrs.groups
    return attrs.window.taps * attrs.groups * (taken // ROWS + taken % ROWS)


class BiasUpdateI8(BiasUpdate):
    """Bias gradient of an int8 layer; the bias itself is float32."""

    kind = "bias_update_i8"

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return None

    def emit(self, step: Step, c: Emitter) -> str:
        dy, name = step.op.inputs[0], step.op.constants[0]
        declaration, sink = c.sink(name, step)
        kernel = f"ft_bias_grad_{step.graph.tensors[dy].dtype}"
        return (
            f"{declaration}{kernel}({c.pointer(dy)}, {c.map(dy)}, {c.grid(dy)}.scale,\n"
            f"    {sink}, {c.channels(step.graph.shape(dy)[2], 1)});"
        )
