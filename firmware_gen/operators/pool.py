"""Max and average pooling (C: kernels/pool.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_gen.graph import Op
from firmware_gen.operators.base import Emitter, Operator, Tape
from firmware_gen.window import Window

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


@dataclass(frozen=True)
class PoolAttrs:
    """A pooling window; count_padding: an average divides by the padded window's size."""

    window: Window
    count_padding: bool = False

    def average(self) -> str:
        """Return the ft_average_t literal."""
        pad_y, pad_x = self.window.pad_end
        return f"(ft_average_t){{{int(self.count_padding)}, {pad_y}, {pad_x}}}"


def _attrs(op: Op) -> PoolAttrs:
    assert isinstance(op.attrs, PoolAttrs)
    return op.attrs


class MaxPool(Operator):
    """y = largest value of each window; while training, the taps it came from are kept (one byte each)."""

    kind = "max_pool"

    def backward(self, op: Op, tape: Tape) -> None:
        x, y = op.inputs[0], op.outputs[0]
        if tape.wants(x):
            index = tape.save(op, f"{y}.index", tape.graph.tensors[y].count, "u8")
            tape.contribute(x, Op("max_pool_grad", op.name, (tape.gradient(y), index), (), op.attrs))

    def emit(self, step: Step, c: Emitter) -> str:
        x = step.op.inputs[0]
        y, *index = step.op.outputs
        saved = c.pointer(index[0]) if index else "NULL"
        return (
            f"ft_max_pool_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)}, {saved},\n"
            f"    {_attrs(step.op).window.c()}, {step.rows[0]}, {step.rows[1]});"
        )


class MaxPoolGrad(Operator):
    """dx = dy at the saved taps, 0 elsewhere."""

    kind = "max_pool_grad"

    def emit(self, step: Step, c: Emitter) -> str:
        dy, index = step.op.inputs
        dx = step.op.outputs[0]
        return (
            f"ft_fill_zero_f32({c.pointer(dx)}, {step.graph.tensors[dx].count});\n"
            f"ft_max_pool_grad_f32({c.pointer(dy)}, {c.map(dy)}, {c.pointer(index)},\n"
            f"    {c.pointer(dx)}, {c.map(dx)}, {_attrs(step.op).window.c()}, 0, {step.graph.shape(dy)[0]});"
        )


class AveragePool(Operator):
    """y = mean of each window."""

    kind = "average_pool"

    def backward(self, op: Op, tape: Tape) -> None:
        x = op.inputs[0]
        if tape.wants(x):
            tape.contribute(
                x, Op("average_pool_grad", op.name, (tape.gradient(op.outputs[0]),), (), op.attrs)
            )

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        attrs = _attrs(step.op)
        return (
            f"ft_average_pool_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {attrs.window.c()}, {attrs.average()}, {step.rows[0]}, {step.rows[1]});"
        )


class AveragePoolGrad(Operator):
    """dx = dy spread evenly over each window."""

    kind = "average_pool_grad"

    def emit(self, step: Step, c: Emitter) -> str:
        dy, dx = step.op.inputs[0], step.op.outputs[0]
        attrs = _attrs(step.op)
        return (
            f"ft_fill_zero_f32({c.pointer(dx)}, {step.graph.tensors[dx].count});\n"
            f"ft_average_pool_grad_f32({c.pointer(dy)}, {c.map(dy)}, {c.pointer(dx)}, {c.map(dx)},\n"
            f"    {attrs.window.c()}, {attrs.average()}, 0, {step.graph.shape(dy)[0]});"
        )
