"""What a plan comes to on a cluster: L1, tiles, and how long it takes by the cycle model."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from firmware_gen.cluster.cycles import Work, milliseconds
from firmware_gen.cluster.energy import OperatingPoint, estimate_microjoules
from firmware_gen.cluster.estimate import Estimate
from firmware_gen.cluster.layers import ClusterLayers
from firmware_gen.cluster.tiling import Share, Tiling
from firmware_gen.emit.memory import Memory
from firmware_gen.plan import Plan, updates_late

VOLTS = 0.8  # at the clock that the port sets: boards/ports/gap9


@dataclass(frozen=True)
class Layer:
    """A layer as the cores run it."""

    name: str
    kind: str
    tiling: Tiling

    def describe(self) -> dict[str, Any]:
        """Return what ``plan --json`` tells of it."""
        cycles = self.tiling.cycles
        return {
            "name": self.name,
            "op": self.kind,
            "cores": self.tiling.share.cores,
            "tiles": sum(map(len, self.tiling.tiles)),
            "rows": self.tiling.height,
            "l1_bytes": self.tiling.bytes,
            "cycles_estimate": 0 if cycles is None else round(cycles.value),
        }


@dataclass(frozen=True)
class Summary:
    """A plan on a cluster.

    Attributes:
        cores: that a team can have.
        l1_bytes: that the layer with most of it takes, beside the stacks.
        stack_bytes: of all cores, in L1 too.
        layers: those that have something to do in an inference or, if something learns, in a training step.
        cycles: of all of them.
        time: at the board's clock.
        energy: at that clock.
    """

    cores: int
    l1_bytes: int
    stack_bytes: int
    layers: tuple[Layer, ...]
    cycles: Estimate
    time: Estimate
    energy: Estimate

    def describe(self) -> dict[str, Any]:
        """Return what ``plan --json`` tells."""
        return {
            "cores": self.cores,
            "l1_bytes": self.l1_bytes,
            "l1_stack_bytes": self.stack_bytes,
            "estimates": [_described(each) for each in (self.cycles, self.time, self.energy)],
            "layers": [layer.describe() for layer in self.layers],
        }


def summarize(plan: Plan) -> Summary:
    """Return what `plan`, of a board with a cluster, comes to.

    Raises:
        DoesNotFitError: a layer needs more of L1 than there is.
    """
    board = plan.board
    assert board.cluster is not None
    assert board.clock_hz is not None
    printed = ClusterLayers(Memory(plan))
    layers = tuple(_layers(plan, printed))
    known = [layer.tiling.cycles for layer in layers]
    cycles = functools.reduce(operator.add, [each for each in known if each is not None])
    macs = plan.macs(*(("forward", "loss", "backward", "update") if plan.graph.trained else ("forward",)))
    point = OperatingPoint(VOLTS, board.clock_hz)
    return Summary(
        board.cluster.cores,
        printed.l1_bytes,
        board.cluster.l1_bytes - board.cluster.l1_data_bytes,
        layers,
        cycles,
        milliseconds(cycles, board.clock_hz),
        estimate_microjoules(cycles, macs, point),
    )


def _layers(plan: Plan, printed: ClusterLayers) -> Iterator[Layer]:
    for index, tiling in printed.tilings.items():
        op = plan.steps[index].op
        if index not in plan.left_out:
            yield Layer(op.name, op.kind, tiling)
    if plan.graph.trained and updates_late(plan.graph):
        yield Layer("apply", "state", _applied(plan))


def _applied(plan: Plan) -> Tiling:
    """Return the end of a step in which gradients waited: the master's sum of squares, then all updates."""
    graph, cluster = plan.graph, plan.board.cluster
    assert cluster is not None
    optimizer = "sgd" if graph.optimizer == "sgd" else "adam"
    counts = {name: graph.constants[name].value.size for name in graph.trained}
    works = [Work("square_sum", 0, sum(counts.values()), cores=1, in_l2=True)]
    for name, count in counts.items():
        kernel = f"{optimizer}_{graph.learned(name).dtype}"
        works.append(Work(kernel, 0, count, forks=0, cores=cluster.cores, in_l2=True))
    return Tiling(Share(1, cluster.cores), 0, (), (), False, tuple(works))


def _described(estimate: Estimate) -> dict[str, Any]:
    return {
        "unit": estimate.unit,
        "value": round(estimate.value, 3),
        "low": round(estimate.low, 3),
        "high": round(estimate.high, 3),
        "source": estimate.source,
    }
