"""Operators that combine two values at a time, float32 (C: kernels/elementwise.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_gen.graph import Op
from firmware_gen.operators.base import Emitter, Operator, Tape
from firmware_gen.operators.binary import Binary, BinaryAttrs, constant_operand, operands
from firmware_gen.operators.layout import handed_on

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


class FloatBinary(Binary):
    """y = a (kind) b, float32."""

    def emit(self, step: Step, c: Emitter) -> str:
        y = step.op.outputs[0]
        return (
            f"ft_binary_f32(FT_{self.kind.upper()}, {operands(step, c)},\n"
            f"    {c.pointer(y)}, {c.map(y)}, {c.rows(step)});"
        )


class Add(FloatBinary):
    """y = a + b."""

    kind = "add"

    def backward(self, op: Op, tape: Tape) -> None:
        for x in op.inputs:
            _contribute(tape, op, x, tape.gradient(op.outputs[0]))


class Sub(FloatBinary):
    """y = a - b."""

    kind = "sub"

    def backward(self, op: Op, tape: Tape) -> None:
        y = op.outputs[0]
        dy = tape.gradient(y)
        first = 1 if _constant_first(op) else 0
        for position, x in enumerate(op.inputs, first):
            if tape.wants(x):
                negative = position == 1
                dx = tape.add(Op("negate", op.name, (dy,), ()), like=y) if negative else dy
                _contribute(tape, op, x, dx)


class Mul(FloatBinary):
    """y = a * b."""

    kind = "mul"

    def backward(self, op: Op, tape: Tape) -> None:
        y = op.outputs[0]
        for k, x in enumerate(op.inputs):
            if tape.wants(x):
                others = op.inputs[1 - k : 2 - k] if len(op.inputs) == 2 else ()
                product = Op("mul", op.name, (tape.gradient(y), *others), (), BinaryAttrs(), op.constants)
                _contribute(tape, op, x, tape.add(product, like=y))


class Prelu(FloatBinary):
    """y = a above 0, a * b below; the slopes b are constant and do not learn."""

    kind = "prelu"

    def backward(self, op: Op, tape: Tape) -> None:
        x, y = op.inputs[0], op.outputs[0]
        if tape.wants(x):
            tape.contribute(x, Op("prelu_grad", op.name, (tape.gradient(y), x), (), None, op.constants))


class Maximum(FloatBinary):
    """y = the larger one of a and b."""

    kind = "maximum"


class Minimum(FloatBinary):
    """y = the smaller one of a and b."""

    kind = "minimum"


class Negate(Operator):
    """y = -x."""

    kind = "negate"
    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def backward(self, op: Op, tape: Tape) -> None:
        x = op.inputs[0]
        if tape.wants(x):
            tape.contribute(x, Op("negate", op.name, (tape.gradient(op.outputs[0]),), ()))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return f"ft_negate_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)}, {c.rows(step)});"


class BroadcastSum(Operator):
    """dx = dy summed over the axes along which x was repeated."""

    kind = "broadcast_sum"

    def emit(self, step: Step, c: Emitter) -> str:
        dy, dx = step.op.inputs[0], step.op.outputs[0]
        return f"ft_broadcast_sum_f32({c.pointer(dy)}, {c.map(dy)}, {c.pointer(dx)}, {c.map(dx)});"


class PreluGrad(Operator):
    """dx = dy * slope at x."""

    kind = "prelu_grad"
    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def emit(self, step: Step, c: Emitter) -> str:
        dy, x = step.op.inputs
        dx = step.op.outputs[0]
        return (
            f"ft_prelu_grad_f32({c.pointer(dy)}, {c.map(dy)}, {c.pointer(x)}, {c.map(x)},\n"
            f"    {constant_operand(step, c, step.op.constants[0])},\n"
            f"    {c.pointer(dx)}, {c.map(dx)}, {c.rows(step)});"
        )


def _contribute(tape: Tape, op: Op, x: str, dy: str) -> None:
    """Add `dy`, which has the output's shape, to the gradient of the operand `x`."""
    if not tape.wants(x):
        return
    shape = tape.graph.shape(x)
    if shape == tape.graph.shape(op.outputs[0]):
        tape.contribute(x, handed_on(op.name, dy, shape))
    else:
        tape.contribute(x, Op("broadcast_sum", op.name, (dy,), ()))


def _constant_first(op: Op) -> bool:
    return isinstance(op.attrs, BinaryAttrs) and op.attrs.constant_first
