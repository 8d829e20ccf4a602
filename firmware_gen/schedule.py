"""The order of work: steps over regions of tensors.

A step is one kernel call that makes some rows of its outputs from some rows and channels of its inputs. Here
every step makes a whole layer; bands of rows or tiles are other schedules of the same graph, with the
same kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_gen.graph import Graph, Op


@dataclass(frozen=True)
class Region:
    """Rows and channels of a tensor, ends excluded."""

    tensor: str
    rows: tuple[int, int]
    channels: tuple[int, int]


@dataclass(frozen=True)
class Step:
    """One kernel call; `rows` are the rows of the first output that it makes."""

    op: Op
    graph: Graph
    rows: tuple[int, int]
    reads: tuple[Region, ...]
    writes: tuple[Region, ...]


def whole_layers(graph: Graph) -> tuple[Step, ...]:
    """Return one step an operator, in the graph's order."""
    return tuple(_whole(op, graph) for op in graph.ops)


def _whole(op: Op, graph: Graph) -> Step:
    def region(name: str) -> Region:
        height, _, channels = graph.shape(name)
        return Region(name, (0, height), (0, channels))

    rows = (0, graph.shape(op.outputs[0])[0]) if op.outputs else (0, 0)
    return Step(
        op,
        graph,
        rows,
        tuple(region(name) for name in op.inputs),
        tuple(region(name) for name in (*op.outputs, *op.scratch)),
    )
