"""Sums of int8 values on grids that move, and what carries their gradients: kernels/moving_sums.h.

Where two int8 gradients meet, they are added like any two maps, to a grid of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_gen.graph import Op
from firmware_gen.operators.base import Emitter, Operator, Tape
from firmware_gen.operators.layout import handed_on
from firmware_gen.operators.moving import gradient_of_sums, passed_over
from firmware_gen.operators.pool import Spread
from firmware_gen.window import LINEAR, Activation

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

RELU = Activation("relu")


@dataclass(frozen=True)
class MovingAddAttrs:
    """`relu`: the sum is activated, as its grid of integers from 0 on said."""

    relu: bool = False


class MovingAdd(Operator):
    """y = a + b, all of one shape, each on a grid of its own."""

    kind = "moving_add"
    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0, 1)

    def backward(self, op: Op, tape: Tape) -> None:
        dy = gradient_of_sums(op, RELU if _add_attrs(op).relu else LINEAR, tape)
        for x in op.inputs:
            if tape.wants(x):
                tape.contribute(x, handed_on(op.name, dy, tape.graph.shape(x)))

    def emit(self, step: Step, c: Emitter) -> str:
        (a, b), y = step.op.inputs, step.op.outputs[0]
        guess = ""
        most = step.graph.ranges[step.graph.tensors[y].range].symmetric
        if most:
            reach = f"{most}.0f * ({c.grid(a)}.scale + {c.grid(b)}.scale)"
            guess = f"ft_range_guess({c.range(y)}, {c.range_rule(y)}, {reach});\n" + passed_over(step, c)
        dtype, rest = step.graph.tensors[y].dtype, ""
        if dtype == "i8":
            rest = f" {c.range_rule(y)}, {int(_add_attrs(step.op).relu)},"
        return (
            f"{guess}ft_moving_add_{dtype}({c.pointer(a)}, {c.map(a)}, {c.grid(a)},\n"
            f"    {c.pointer(b)}, {c.map(b)}, {c.grid(b)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {c.range(y)},{rest} {c.rows(step)});"
        )


def _add_attrs(op: Op) -> MovingAddAttrs:
    assert isinstance(op.attrs, MovingAddAttrs)
    return op.attrs


class MovingMean(Operator):
    """y = the mean over the axes that have one position in y."""

    kind = "moving_mean"

    def backward(self, op: Op, tape: Tape) -> None:
        x, y = op.inputs[0], op.outputs[0]
        if not tape.wants(x):
            return
        dy = tape.gradient(y)
        if tape.gradients == "f32":
            count = tape.graph.tensors[x].count // tape.graph.tensors[y].count
            tape.contribute(x, Op("sum_grad", op.name, (dy,), (), Spread(count)))
        else:
            tape.contribute_integers(x, Op("mean_gradient", op.name, (dy,), ()))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return (
            f"ft_moving_mean_i8({c.pointer(x)}, {c.map(x)}, {c.grid(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {c.range(y)}, {c.rows(step)});"
        )


class MeanGradient(Operator):
    """dx = dy / count at every value that was averaged: the same integers, on a grid of their own."""

    kind = "mean_gradient"

    def emit(self, step: Step, c: Emitter) -> str:
        dy, dx = step.op.inputs[0], step.op.outputs[0]
        count = step.graph.tensors[dx].count // step.graph.tensors[dy].count
        return (
            f"ft_mean_gradient_{step.graph.tensors[dx].dtype}({c.pointer(dy)}, {c.map(dy)}, {c.grid(dy)},\n"
            f"    {c.pointer(dx)}, {c.map(dx)}, {c.range(dx)}, {count});"
        )
