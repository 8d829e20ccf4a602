"""Max and average pooling, and reductions over whole axes (C: kernels/pool.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Emitter, Operator, Rows, Tape
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

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return _attrs(op).window.rows_below(row, graph.shape(op.inputs[k])[0])

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
            f"    {_attrs(step.op).window.c()}, {c.rows(step)});"
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

    def reach(self, op: Op, graph: Graph, k: int, row: int) -> Rows | None:
        return _attrs(op).window.rows_below(row, graph.shape(op.inputs[k])[0])

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
            f"    {attrs.window.c()}, {attrs.average()}, {c.rows(step)});"
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


class _Reduction(Operator):
    """A reduction over the axes that have one position in y."""

    function: ClassVar[str]

    def divisor(self, op: Op, graph: Graph) -> int:
        """Return what the result is divided by."""
        return 1

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return (
            f"ft_reduce_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {self.function}, {self.divisor(step.op, step.graph)}.0f, {c.rows(step)});"
        )


class ReduceMax(_Reduction):
    """y = the largest value."""

    kind = "reduce_max"
    function = "FT_MAX"


class ReduceMin(_Reduction):
    """y = the smallest value."""

    kind = "reduce_min"
    function = "FT_MIN"


class Sum(_Reduction):
    """y = the sum."""

    kind = "sum"
    function = "FT_SUM"

    def backward(self, op: Op, tape: Tape) -> None:
        x, attrs = op.inputs[0], Spread(self.divisor(op, tape.graph))
        if tape.wants(x):
            tape.contribute(x, Op("sum_grad", op.name, (tape.gradient(op.outputs[0]),), (), attrs))


class Mean(Sum):
    """y = the mean."""

    kind = "mean"

    def divisor(self, op: Op, graph: Graph) -> int:
        return graph.tensors[op.inputs[0]].count // graph.tensors[op.outputs[0]].count


@dataclass(frozen=True)
class Spread:
    """What the gradient of a sum is divided by."""

    divisor: int


class SumGrad(Operator):
    """dx = dy / divisor at every value that was summed."""

    kind = "sum_grad"

    def emit(self, step: Step, c: Emitter) -> str:
        assert isinstance(step.op.attrs, Spread)
        dy, dx = step.op.inputs[0], step.op.outputs[0]
        return (
            f"ft_reduce_grad_f32({c.pointer(dy)}, {c.map(dy)}, {c.pointer(dx)}, {c.map(dx)},\n"
            f"    {step.op.attrs.divisor}.0f, {c.rows(step)});"
        )
