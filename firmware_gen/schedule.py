"""The order of work: steps over regions of tensors.

A step is one kernel call that makes some rows of its outputs from some rows and channels of its inputs. A
layer is made whole, by one step, or with its neighbours in a chain, band of rows by band of rows
(:mod:`firmware_gen.bands`); the kernels are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from firmware_gen.graph import Graph, Op
from firmware_gen.operators import OPERATORS


@dataclass(frozen=True)
class Region:
    """Rows and channels of a tensor, ends excluded."""

    tensor: str
    rows: tuple[int, int]
    channels: tuple[int, int]


@dataclass(frozen=True)
class Chain:
    """Consecutive operators that run band by band: for each band all of them, in the graph's order.

    Attributes:
        start: index of the first one in the graph.
        height: rows of a band in the tallest output.
        ends: for each band, for each operator: over how many of its rows it has then gone.
        lows: for an operator's index in the chain and a tensor that it reads: for each band the first row
            that it reads in this band or a later one; one more entry, the tensor's height, for the end.
        rolling: the tensors that nothing outside of the chain needs.
    """

    start: int
    height: int
    ops: tuple[Op, ...]
    ends: tuple[tuple[int, ...], ...]
    lows: Mapping[tuple[int, str], tuple[int, ...]]
    rolling: frozenset[str]

    @property
    def end(self) -> int:
        """Index in the graph of the first operator behind it."""
        return self.start + len(self.ops)

    @property
    def bands(self) -> int:
        """How many bands there are."""
        return len(self.ends)

    @cached_property
    def made(self) -> Mapping[str, tuple[int, ...]]:
        """How many rows of each first output exist before each band, and behind the last one."""
        columns = zip(self.ops, zip(*self.ends, strict=True), strict=True)
        return {op.outputs[0]: (0, *ends) for op, ends in columns if op.outputs}

    @cached_property
    def needed(self) -> Mapping[str, tuple[int, ...]]:
        """The first row of each first output, of those made before each band, that is read from then on."""
        lows: dict[str, list[tuple[int, ...]]] = {name: [made] for name, made in self.made.items()}
        for (_, name), low in self.lows.items():
            if name in lows:
                lows[name].append(low)
        return {name: tuple(map(min, zip(*columns, strict=True))) for name, columns in lows.items()}


@dataclass(frozen=True)
class Step:
    """One kernel call; `rows` are those that it makes of its first output, or adds up.

    In a chain the rows may be none: then it reads and writes nothing.
    """

    op: Op
    graph: Graph
    rows: tuple[int, int]
    reads: tuple[Region, ...]
    writes: tuple[Region, ...]
    chain: Chain | None = None
    band: int = 0


def whole_layers(graph: Graph) -> tuple[Step, ...]:
    """Return one step an operator, in the graph's order."""
    return tuple(_whole(op, graph) for op in graph.ops)


def layers(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return the first step of each operator."""
    return tuple(step for step in steps if step.band == 0)


def inference_only(steps: Sequence[Step]) -> frozenset[int]:
    """Return the indices of the steps that a training step leaves out: nothing in it reads what they make.

    What moves a range is never left out: the range has to follow what learns below. Nor is a chain of which
    anything is needed.
    """
    if not steps:
        return frozenset()
    graph, needed = steps[0].graph, set[str]()
    for op in reversed(graph.ops):
        moves = any(graph.tensors[name].range for name in op.outputs)
        if op.phase != "forward" or moves or not needed.isdisjoint(op.outputs):
            needed.update((*op.inputs, *op.outputs))

    def left_out(op: Op) -> bool:
        return op.phase == "forward" and needed.isdisjoint(op.outputs)

    return frozenset(
        index
        for index, step in enumerate(steps)
        if all(map(left_out, (step.op,) if step.chain is None else step.chain.ops))
    )


def whole_region(graph: Graph, name: str) -> Region:
    """Return all of the tensor `name`."""
    height, _, channels = graph.shape(name)
    return Region(name, (0, height), (0, channels))


def _whole(op: Op, graph: Graph) -> Step:
    rows = (0, OPERATORS[op.kind].height(op, graph))
    return Step(
        op,
        graph,
        rows,
        tuple(whole_region(graph, name) for name in op.inputs),
        tuple(whole_region(graph, name) for name in (*op.outputs, *op.scratch)),
    )
