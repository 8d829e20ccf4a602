"""Activations that stand alone, and the gradient of all of them (C: kernels/activation.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter, Operator, Rows, Tape
from firmware_gen.window import Activation

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


def activation_gradient(name: str, y: str, activation: Activation, tape: Tape) -> str:
    """Add dy * slope(y) to the tape; return the tensor that holds it."""
    return tape.add(Op("activation_grad", name, (tape.gradient(y), y), (), activation), like=y)


def _attrs(op: Op) -> Activation:
    assert isinstance(op.attrs, Activation)
    return op.attrs


def bits_reach(op: Op, graph: Graph, row: int) -> Rows | None:
    """Return the row of values from which a row of bits is made, where rows begin on a byte."""
    _, width, channels = graph.shape(op.inputs[0])
    return None if width * channels % 8 else (row, row + 1)


class ActivationOp(Operator):
    """y = activation(x)."""

    kind = "activation"
    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def backward(self, op: Op, tape: Tape) -> None:
        x, y = op.inputs[0], op.outputs[0]
        saved = y if _attrs(op).slope_from_output else x
        if tape.wants(x):
            tape.contribute(x, Op("activation_grad", op.name, (tape.gradient(y), saved), (), _attrs(op)))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return (
            f"ft_activation_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {_attrs(step.op).c()}, {c.rows(step)});"
        )


class ActivationBits(Operator):
    """One bit a value: whether the gradient passes. Stands in for an output that nothing else keeps."""

    kind = "activation_bits"

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return bits_reach(op, graph, row)

    def emit(self, step: Step, c: Emitter) -> str:
        y, bits = step.op.inputs[0], step.op.outputs[0]
        return (
            f"ft_activation_bits_f32({c.pointer(y)}, {c.map(y)}, {c.pointer(bits)},\n"
            f"    {_attrs(step.op).c()}, {c.rows(step)});"
        )


class ActivationGrad(Operator):
    """dx = dy * slope, from the output y, its bits or, where y does not tell the slope, the input."""

    kind = "activation_grad"
    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def emit(self, step: Step, c: Emitter) -> str:
        dy, saved = step.op.inputs
        dx = step.op.outputs[0]
        tail = f"    {c.pointer(dx)}, {c.map(dx)}, {_attrs(step.op).c()}, {c.rows(step)});"
        if step.graph.tensors[saved].dtype == "bits":
            return f"ft_activation_grad_bits_f32({c.pointer(dy)}, {c.map(dy)}, {c.pointer(saved)},\n" + tail
        return (
            f"ft_activation_grad_f32({c.pointer(dy)}, {c.map(dy)}, {c.pointer(saved)}, {c.map(saved)},\n"
            + tail
        )
