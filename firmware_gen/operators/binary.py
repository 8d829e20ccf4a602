"""What operators with two operands have in common: broadcasting, and one operand that may be a constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import ModelError
from firmware_gen.graph import Op, Shape
from firmware_gen.operators.base import Emitter, Operator

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


@dataclass(frozen=True)
class BinaryAttrs:
    """`constant_first`: the constant operand, if there is one, is the first and not the second."""

    constant_first: bool = False


class Binary(Operator):
    """y = a (kind) b; each axis of an operand is y's or 1. A constant operand has three axes: HWC."""

    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return tuple(range(len(op.inputs)))


def operands(step: Step, c: Emitter) -> str:
    """Return pointer and map of both operands, the constant one at its place."""
    parts = [f"{c.pointer(x)}, {c.map(x)}" for x in step.op.inputs]
    for name in step.op.constants:
        attrs = step.op.attrs
        assert isinstance(attrs, BinaryAttrs)
        parts.insert(0 if attrs.constant_first else 1, constant_operand(step, c, name))
    return ", ".join(parts)


def constant_operand(step: Step, c: Emitter, name: str) -> str:
    """Return pointer and map of a constant of three axes, which lies densely."""
    height, width, channels = step.graph.constants[name].value.shape
    return f"{c.weight(name)}, (ft_map_t){{{height}, {width}, {channels}, {width * channels}, {channels}}}"


def broadcast_shape(a: Shape, b: Shape, what: str) -> Shape:
    """Return the shape of what operands of shapes `a` and `b` make.

    Raises:
        ModelError: an axis differs and is 1 in neither.
    """
    if any(m != n and 1 not in (m, n) for m, n in zip(a, b, strict=True)):
        raise ModelError(f"the operands of {what} have the shapes {a} and {b}, which do not fit")
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])


def as_hwc(value: NDArray[Any]) -> NDArray[Any]:
    """Return a channels-last constant of at most three axes larger than 1 with exactly three."""
    shape = (1, 1, 1, *value.shape)
    return np.ascontiguousarray(value.reshape(shape[-3:]))
