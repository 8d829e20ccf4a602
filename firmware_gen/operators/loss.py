"""Losses: the value goes to the host, the gradient starts the backward pass (C: kernels/loss.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_gen.c_text import c_float
from firmware_gen.graph import ITEM_BITS, Op
from firmware_gen.operators.base import Emitter, Operator

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


@dataclass(frozen=True)
class LossAttrs:
    """Which loss, its place in the list of losses, and what it counts for."""

    kind: str
    index: int
    weight: float


class Loss(Operator):
    """dp = dLoss/dprediction; inputs prediction, label, mask."""

    kind = "loss"

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def emit(self, step: Step, c: Emitter) -> str:
        attrs = step.op.attrs
        assert isinstance(attrs, LossAttrs)
        prediction, label, mask = step.op.inputs
        dp = step.op.outputs[0]
        function, extra = f"ft_{attrs.kind}_f32", f", {c_float(attrs.weight)}"
        if attrs.kind.startswith("berhu"):
            function, extra = "ft_berhu_f32", f"{extra}, {int(attrs.kind == 'berhu_published')}"
        elif attrs.kind == "cross_entropy":
            extra = f"{extra}, {ITEM_BITS[step.graph.tensors[label].dtype] // 8}"
        return (
            f"losses[{attrs.index}] = {function}({c.pointer(prediction)}, {c.map(prediction)},\n"
            f"    {c.pointer(label)}, {c.pointer(mask)}, {c.pointer(dp)}, {c.map(dp)}{extra});"
        )
