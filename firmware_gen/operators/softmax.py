"""Softmax over the channels (C: kernels/softmax.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_gen.graph import Op
from firmware_gen.operators.base import Emitter, Operator, Tape

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


class Softmax(Operator):
    """y = softmax(x) for each pixel."""

    kind = "softmax"
    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def backward(self, op: Op, tape: Tape) -> None:
        x, y = op.inputs[0], op.outputs[0]
        if tape.wants(x):
            tape.contribute(x, Op("softmax_grad", op.name, (tape.gradient(y), y), ()))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return f"ft_softmax_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)}, {c.rows(step)});"


class SoftmaxGrad(Operator):
    """dx = y * (dy - sum(dy * y))."""

    kind = "softmax_grad"
    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def emit(self, step: Step, c: Emitter) -> str:
        dy, y = step.op.inputs
        dx = step.op.outputs[0]
        return (
            f"ft_softmax_grad_f32({c.pointer(dy)}, {c.map(dy)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {c.pointer(dx)}, {c.map(dx)}, {c.rows(step)});"
        )
