"""Losses: the value goes to the host, the gradient starts the backward pass (C: kernels/loss.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boards import Isa
from boards.tables import MOST_CORES
from firmware_gen.c_text import c_float
from firmware_gen.graph import ITEM_BITS, Graph, Op
from firmware_gen.operators.base import Emitter, Operator

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


TERMS = 512  # of a sum, that cores make at once
FACTS_BYTES = 12  # an ft_loss_facts_t


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

    def shared_bytes(self, op: Op, graph: Graph, isa: Isa) -> int:
        if isa != "xpulp":  # one core: it adds up what it makes
            return 0
        pixels, positions = shared_terms(op, graph)
        return FACTS_BYTES * MOST_CORES + 2 * 4 * pixels * positions

    def emit(self, step: Step, c: Emitter) -> str:
        op, graph = step.op, step.graph
        attrs = op.attrs
        assert isinstance(attrs, LossAttrs)
        prediction, label, mask = op.inputs
        dp = op.outputs[0]
        pixels, _ = shared_terms(op, graph)
        return (
            f"const ft_loss_t loss = {{FT_{attrs.kind.upper()}, {c_float(attrs.weight)},\n"
            f"    {c.pointer(prediction)}, {c.map(prediction)},\n"
            f"    {c.pointer(label)}, {ITEM_BITS[graph.tensors[label].dtype] // 8}, {c.pointer(mask)},\n"
            f"    {c.pointer(dp)}, {c.map(dp)}}};\n"
            f"ft_loss_f32(loss, &losses[{attrs.index}], {c.shared(op)}, {pixels}, {c.cores(pixels)});"
        )


def shared_terms(op: Op, graph: Graph) -> tuple[int, int]:
    """Return of how many pixels cores make terms before these are added up, and the terms of a pixel."""
    height, width, channels = graph.shape(op.inputs[0])
    assert isinstance(op.attrs, LossAttrs)
    positions = 1 if op.attrs.kind == "cross_entropy" else channels
    return min(height * width, max(1, TERMS // positions)), positions
