"""Operators on grids that move while the network learns that have no weights (C: kernels/moving.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boards import Isa
from boards.tables import MOST_CORES
from firmware_gen.c_text import c_float
from firmware_gen.graph import Graph, Op
from firmware_gen.operators.activation import bits_reach
from firmware_gen.operators.base import Emitter, Operator, Rows
from firmware_gen.window import Activation

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

TABLE_BYTES = 256


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
    """An integer gradient from float32, on the grid that just holds it."""

    kind = "quantize_gradient"

    def shared_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        return 4 * MOST_CORES if isa == "xpulp" else 0

    def emit(self, step: Step, c: Emitter) -> str:
        dy, q = step.op.inputs[0], step.op.outputs[0]
        dtype = step.graph.tensors[q].dtype
        return (
            f"ft_quantize_gradient_{dtype}({c.pointer(dy)}, {c.map(dy)}, {c.pointer(q)}, {c.map(q)},\n"
            f"    {c.range(q)}, {c.shared(step.op)}, {c.cores(step.graph.shape(dy)[0])});"
        )


class MaskGradient(Operator):
    """dx = dy * slope on the grid of dy, from the activation's output or its bits."""

    kind = "mask_gradient"
    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def emit(self, step: Step, c: Emitter) -> str:
        dy, bits = step.op.inputs
        dx, activation = step.op.outputs[0], step.op.attrs
        assert isinstance(activation, Activation)
        slope = activation.a if activation.kind == "leaky_relu" else 0.0
        dtype = step.graph.tensors[dx].dtype
        if step.graph.tensors[bits].dtype == "i8":  # something else reads the output as well
            return (
                f"ft_mask_gradient_from_output_{dtype}({c.pointer(dy)}, {c.map(dy)},\n"
                f"    {c.pointer(bits)}, {c.map(bits)}, {c.grid(bits)}, {c.pointer(dx)}, {c.map(dx)},\n"
                f"    {activation.c()}, {c_float(slope)}, {c.rows(step)});"
            )
        return (
            f"ft_mask_gradient_{dtype}({c.pointer(dy)}, {c.map(dy)}, {c.pointer(bits)},\n"
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
