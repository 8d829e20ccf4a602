"""What a plan comes to on a cluster: L1, tiles, and how long it takes by the cycle model."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from firmware_gen.cluster.cycles import Work, milliseconds
from firmware_gen.cluster.energy import OperatingPoint, estimate_microjoules
from firmware_gen.cluster.estimate import Estimate
from firmware_gen.cluster.l3 import External, first_steps
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
        return {
            "name": self.name,
            "op": self.kind,
            "cores": self.tiling.share.cores,
            "tiles": sum(map(len, self.tiling.tiles)),
            "rows": self.tiling.height,
            "l1_bytes": self.tiling.bytes,
        }

    def cycles_estimate(self) -> int:
        """Return its cycles by the cycle model."""
        return 0 if self.tiling.cycles is None else round(self.tiling.cycles.value)


@dataclass(frozen=True)
class Times:
    """What all layers of a plan take by the cycle model; `time` and `energy` at the board's clock."""

    cycles: Estimate
    time: Estimate
    energy: Estimate


@dataclass(frozen=True)
class Summary:
    """A plan on a cluster.

    Attributes:
        cores: that a team can have.
        l1_bytes: that the layer with most of it takes, beside the stacks.
        stack_bytes: of all cores, in L1 too.
        layers: those that have something to do in an inference or, if something learns, in a training step.
        times: None where no cycle model is of this cluster.
        l3_bytes_per_cycle: None where it is not known, or nothing comes from there.
    """

    cores: int
    l1_bytes: int
    stack_bytes: int
    layers: tuple[Layer, ...]
    times: Times | None
    l3_bytes_per_cycle: float | None

    def describe(self) -> dict[str, Any]:
        """Return what ``plan --json`` tells."""
        described = {
            "cores": self.cores,
            "l1_bytes": self.l1_bytes,
            "l1_stack_bytes": self.stack_bytes,
            "estimates": [],
            "layers": [layer.describe() for layer in self.layers],
            "l3_bytes_per_cycle": self.l3_bytes_per_cycle,
        }
        if self.times is not None:
            estimates = (self.times.cycles, self.times.time, self.times.energy)
            described["estimates"] = [_described(each) for each in estimates]
            described["layers"] = [
                layer.describe() | {"cycles_estimate": layer.cycles_estimate()} for layer in self.layers
            ]
        return described


def summarize(plan: Plan) -> Summary:
    """Return what `plan`, of a board with a cluster, comes to.

    Raises:
        DoesNotFitError: a layer needs more of L1 than there is.
    """
    board = plan.board
    assert board.cluster is not None
    printed = ClusterLayers(Memory(plan))
    layers = tuple(_layers(plan, printed))
    speed = None if plan.l3 is None or board.l3 is None else board.l3.bytes_per_cycle
    return Summary(
        board.cluster.cores,
        printed.l1_bytes,
        board.cluster.l1_bytes - board.cluster.l1_data_bytes,
        layers,
        _times(plan, printed, layers, speed) if board.cluster.cycle_model == "gap9" else None,
        speed,
    )


def _times(plan: Plan, printed: ClusterLayers, layers: Iterable[Layer], speed: float | None) -> Times:
    """Return what the layers take; what comes from L3 counts only where its speed is known."""
    hertz = plan.board.clock_hz
    assert hertz is not None
    known = [layer.tiling.cycles for layer in layers]
    cycles = functools.reduce(operator.add, [each for each in known if each is not None])
    if plan.l3 is not None and speed is not None:
        cycles = _with_reads(plan, plan.l3, printed, cycles, speed)
    macs = plan.macs(*(("forward", "loss", "backward", "update") if plan.graph.trained else ("forward",)))
    energy = estimate_microjoules(cycles, macs, OperatingPoint(VOLTS, hertz))
    return Times(cycles, milliseconds(cycles, hertz), energy)


def _with_reads(
    plan: Plan, external: External, printed: ClusterLayers, cycles: Estimate, speed: float
) -> Estimate:
    """Return `cycles` with those in which layers wait for L3; a layer in bands takes as long for each."""
    first = first_steps(plan.steps)
    run = [first[index] for index in range(len(plan.steps)) if index not in plan.left_out]
    bands = Counter(run)

    def taken(pick: Callable[[Estimate], float]) -> float:
        found = {index: tiling.cycles for index, tiling in printed.tilings.items()}
        each = [(index, found.get(index)) for index in run]
        parts = [(index, pick(known) / bands[index] if known else 0.0) for index, known in each]
        return external.run_cycles(parts, speed)

    value, low, high = (taken(operator.attrgetter(name)) for name in ("value", "low", "high"))
    source = f"{cycles.source}; L3 at {speed:g} B a cycle, as the board's description says"
    return replace(cycles, value=value, low=low, high=high, source=source)


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
