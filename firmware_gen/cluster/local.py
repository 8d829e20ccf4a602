"""What a layer on a cluster has in the cores' own memory (L1), and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from boards import Board, Isa
from boards.board import Cluster
from fieldtune.errors import DoesNotFitError
from fieldtune.sizes import format_size
from firmware_gen.cluster.kernels import amount
from firmware_gen.cluster.tiling import ALIGNMENT, TEAM_BYTES, Lines, Maps, Task, Tiling, has_rows, lines
from firmware_gen.operators import OPERATORS
from firmware_gen.plan import RANGE_BYTES, Plan
from firmware_gen.schedule import Step

MOST_OPERANDS = 16  # FT_OPERANDS in cluster/team.h


@dataclass
class Local:
    """What one layer has in L1, gathered while its operator prints C.

    `maps`: tensors in tiles, in the order of their operands; `constants`: C arrays and their bytes, behind
    them; `ranges`: moving ranges of which each core keeps a copy. `channels`: how many the layer makes and
    how many of them stay together, where cores may divide them. `scratch`: bytes a core; `shared`: those that
    all of them work in. `before`: C statements that the master runs before the cores; `prepared`: those that
    all cores run before any makes rows.
    """

    maps: dict[str, Lines]
    fetches_constants: bool
    constants: dict[str, int] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)
    channels: tuple[int, int] = (1, 1)
    scratch: int = 0
    shared: int = 0
    before: str = ""
    prepared: str = ""

    def operand(self, name: str) -> int:
        """Return the operand's number."""
        return [*self.maps, *self.constants].index(name)


@dataclass(frozen=True)
class Layout:
    """Where things lie in L1 while a layer runs: offsets, and all bytes up to the end of the last one."""

    constants: dict[str, int]
    maps: tuple[int, ...]
    scratch: int
    seen: int
    bytes: int


def aligned(size: int) -> int:
    """Return the bytes that `size` bytes take in L1."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def choices(step: Step, plan: Plan) -> Iterator[Local]:
    """Yield what may lie in L1, from everything to nothing."""
    op, graph = step.op, step.graph
    operator, maps = OPERATORS[op.kind], {}
    moved = () if operator.leaves_parts else op.inputs  # what is only copied is copied once
    made = () if operator.leaves_parts or operator.accumulates else op.outputs[:1]
    for name in (*moved, *made):
        found = lines(graph.tensors[name], plan.views[name])
        if found is not None and op.inputs.count(name) <= 1:
            maps[name] = found
    yield Local(dict(maps), True)
    yield Local(dict(maps), False)
    yield Local({}, True)
    yield Local({}, False)


def fitted(
    step: Step, bands: Sequence[Step], local: Local, cluster: Cluster, isa: Isa
) -> tuple[Tiling, Layout] | None:
    """Return the best tiles of a layer with this in L1, and where all lies; None where there is no room."""
    op, graph = step.op, step.graph
    if len(local.maps) + len(local.constants) > MOST_OPERANDS:
        return None
    operator, at = OPERATORS[op.kind], TEAM_BYTES
    constants = {}
    for name, size in local.constants.items():
        constants[name] = at
        at += aligned(size)
    seen = at
    at += aligned(RANGE_BYTES * len(local.ranges) * cluster.cores)
    inputs = tuple((k, local.maps[x]) for k, x in enumerate(op.inputs) if x in local.maps)
    outputs = [local.maps[y] for y in op.outputs[:1] if y in local.maps]
    tiling = Task(
        Maps(op, graph, inputs, outputs[0] if outputs else None),
        tuple(band.rows for band in bands) or ((0, 1),),
        cluster.cores,
        -(-local.channels[0] // local.channels[1]),
        has_rows(op, graph) and not operator.accumulates,
        local.scratch,
        cluster.l1_data_bytes - at - local.shared,
        amount(op, graph, isa),
        tuple(local.constants.values()),
    ).best()
    if tiling is None:
        return None
    starts = []
    for size in tiling.buffers:
        starts.append(at)
        at += size * (2 if tiling.double else 1)
    end = at + local.shared + local.scratch * tiling.share.cores
    return tiling, Layout(constants, tuple(starts), at, seen, end)


def does_not_fit(step: Step, local: Local, board: Board) -> DoesNotFitError:
    """Return the error of a layer of which not even this fits into L1."""
    assert board.cluster is not None
    needed = TEAM_BYTES + local.shared + local.scratch
    room = format_size(board.cluster.l1_data_bytes)
    return DoesNotFitError(
        f"layer '{step.op.name}' ({step.op.kind}) needs {format_size(needed)} of L1 for one core to work "
        f"in, but {board.id} has {room} beside the stacks; take a smaller layer"
    )
