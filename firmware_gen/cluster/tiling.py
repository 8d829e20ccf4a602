"""Tiles: in which pieces a layer's rows come to the cluster's own memory (L1), and go back.

A layer that runs on a cluster has its weights and tables in L1 as a whole, and of its maps some rows at a
time, twice: while the cores work on one tile, the DMA brings the next one's rows and takes away those that
were made before. The cores divide a tile among them: its rows, the output's channels, or both.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from firmware_gen.cluster.cycles import Transfer, Work, estimate_cycles, expected_cycles
from firmware_gen.cluster.estimate import Estimate
from firmware_gen.cluster.kernels import Amount
from firmware_gen.graph import ITEM_BITS, Graph, Op, Tensor
from firmware_gen.operators import OPERATORS
from firmware_gen.storage import View, element_bytes

ALIGNMENT = 16  # of what lies in L1; the widest vectors among the hosts that play the cluster read so
TEAM_BYTES = 512  # at the start of L1: what the runtime knows of the tile that the cores work on

Rows = tuple[int, int]


@dataclass(frozen=True)
class Lines:
    """How the rows of a tensor lie in L2: as lines of `length` bytes, `stride` apart, `per_row` to a row."""

    length: int
    stride: int
    per_row: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row where rows lie densely, as they do in L1."""
        return self.length * self.per_row


def lines(tensor: Tensor, view: View) -> Lines | None:
    """Return how rows are to be fetched; None where no single pattern describes them."""
    height, width, channels = tensor.shape
    if tensor.dtype == "bits":
        bits = width * channels
        return Lines(bits // 8, bits // 8, 1) if bits % 8 == 0 else None
    each = element_bytes(tensor)
    if view.pixel == channels or width == 1:
        row = width * channels * each
        return Lines(row, row if height == 1 else view.row * each, 1)
    if height == 1 or view.row == width * view.pixel:
        return Lines(channels * each, view.pixel * each, width)
    return None


def row_unit(op: Op, graph: Graph) -> int:
    """Return of how many rows the borders between cores must be multiples: no two may write to one byte."""
    unit = 1
    for name in op.outputs:
        _, width, channels = graph.shape(name)
        if ITEM_BITS[graph.tensors[name].dtype] == 1:
            unit = math.lcm(unit, 8 // math.gcd(8, width * channels))
    return unit


def has_rows(op: Op, graph: Graph) -> bool:
    """Tell whether the operator makes any rows of its output that it is asked for."""
    if not op.inputs:
        return False
    return all(OPERATORS[op.kind].tile_reach(op, graph, k, 0) is not None for k in range(len(op.inputs)))


def rows_read(op: Op, graph: Graph, k: int, rows: Rows) -> Rows:
    """Return which rows of input `k` are read for `rows` of the first output; all where it is made whole."""
    if not has_rows(op, graph):
        return 0, graph.shape(op.inputs[k])[0]
    reads = [OPERATORS[op.kind].tile_reach(op, graph, k, row) for row in range(*rows)]
    known = [each for each in reads if each is not None and each[0] < each[1]]
    return (min(low for low, _ in known), max(end for _, end in known)) if known else (0, 0)


@dataclass(frozen=True)
class Share:
    """How the cores divide a tile: `rows` parts of its rows, each in `channels` parts of its channels."""

    rows: int
    channels: int

    @property
    def cores(self) -> int:
        """How many cores work."""
        return self.rows * self.channels

    def slowest(self, height: int, blocks: int) -> float:
        """Return the part of the work that the core with most of it has."""
        return math.ceil(height / self.rows) * math.ceil(blocks / self.channels) / (height * blocks)


def shares(cores: int, height: int, blocks: int) -> list[Share]:
    """Return the ways to divide a tile of `height` rows; `blocks`: of channels that stay together."""
    rows = range(1, min(cores, height) + 1)
    return [Share(r, n) for r in rows for n in range(1, min(cores // r, blocks) + 1)]


@dataclass(frozen=True)
class Maps:
    """The maps of a layer that come to L1: of each its rows for a tile, and how they are fetched."""

    op: Op
    graph: Graph
    inputs: tuple[tuple[int, Lines], ...]  # index among the operator's inputs
    output: Lines | None  # of the first output; None: it is written where it lies

    def bytes_of(self, tiles: Sequence[Rows]) -> list[int]:
        """Return the bytes that a buffer for each of these maps needs, the output's last."""
        sizes = [
            max(_height(rows_read(self.op, self.graph, k, tile)) for tile in tiles) * each.row_bytes
            for k, each in self.inputs
        ]
        if self.output is not None:
            sizes.append(max(map(_height, tiles)) * self.output.row_bytes)
        return [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]

    def traffic(self, tiles: Sequence[Rows]) -> tuple[Transfer, Transfer]:
        """Return what the DMA brings for these tiles, and what it takes away."""
        reads = [
            _height(rows_read(self.op, self.graph, k, tile)) * each.row_bytes
            for tile in tiles
            for k, each in self.inputs
        ]
        if self.output is None:
            return Transfer(sum(reads), len(reads)), Transfer()
        made = sum(map(_height, tiles)) * self.output.row_bytes
        return Transfer(sum(reads), len(reads)), Transfer(made, len(tiles))


def _height(rows: Rows) -> int:
    return rows[1] - rows[0]


@dataclass(frozen=True)
class Tiling:
    """The tiles of a layer: `tiles[band]` of each band in turn (one, if it is made whole).

    Attributes:
        share: how the cores divide a tile.
        height: rows of a tile, at most.
        buffers: bytes of one buffer for each map in L1; there are two of each if `double`.
        works: what each band is to the cycle model; none where there is nothing to do.
    """

    share: Share
    height: int
    tiles: tuple[tuple[Rows, ...], ...]
    buffers: tuple[int, ...]
    double: bool
    works: tuple[Work, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(self.buffers) * (2 if self.double else 1)

    @property
    def cycles(self) -> Estimate | None:
        """How long the layer takes; None where there is nothing to do."""
        return functools.reduce(operator.add, map(estimate_cycles, self.works)) if self.works else None


@dataclass(frozen=True)
class Task:
    """What is to be tiled: rows of each band, the maps in L1, and what the cores need besides.

    Attributes:
        maps: what comes and goes.
        bands: the rows of each band, of one if the layer is made whole.
        cores: of the cluster.
        blocks: of output channels that stay together; 1: channels are not divided.
        by_rows: cores may divide the rows.
        scratch: bytes a core.
        room: bytes of L1 for buffers and scratch.
        amount: of the whole layer; None where there is nothing to do.
        constants: bytes of each weight and table that comes to L1.
    """

    maps: Maps
    bands: tuple[Rows, ...]
    cores: int
    blocks: int
    by_rows: bool
    scratch: int
    room: int
    amount: Amount | None
    constants: tuple[int, ...]

    def best(self) -> Tiling | None:
        """Return the tiling that takes least time; None if no tile fits into the room."""
        found = [tiling for height in self._heights() for tiling in self._of_height(height)]
        return min(
            found,
            key=lambda tiling: (sum(map(expected_cycles, tiling.works)), -tiling.height),
            default=None,
        )

    def _heights(self) -> Iterator[int]:
        most = max((_height(band) for band in self.bands), default=1)
        unit = row_unit(self.maps.op, self.maps.graph)
        if has_rows(self.maps.op, self.maps.graph):
            yield from range(unit, most, unit)
        yield max(most, 1)

    def _of_height(self, height: int) -> Iterator[Tiling]:
        tiles = tuple(tuple(_cut(band, height)) for band in self.bands)
        every = [tile for band in tiles for tile in band]
        if not every:
            return
        buffers = tuple(self.maps.bytes_of(every))
        double = max(map(len, tiles)) > 1
        rows = -(-height // row_unit(self.maps.op, self.maps.graph)) if self.by_rows else 1
        for share in shares(self.cores, rows, self.blocks):
            scratch = -(-self.scratch // ALIGNMENT) * ALIGNMENT * share.cores
            if sum(buffers) * (2 if double else 1) + scratch <= self.room:
                works = tuple(self._work(band, share) for band in tiles if band) if self.amount else ()
                yield Tiling(share, height, tiles, buffers, double, works)

    def _work(self, tiles: tuple[Rows, ...], share: Share) -> Work:
        """Return what a band of tiles is to the cycle model."""
        assert self.amount is not None
        unit = row_unit(self.maps.op, self.maps.graph)
        rows = sum(map(_height, tiles))
        part = rows / sum(map(_height, self.bands))
        slowest = sum(
            _height(tile) / rows * share.slowest(-(-_height(tile) // unit), self.blocks) for tile in tiles
        )
        read, written = self.maps.traffic(tiles)
        in_l2, fetched = not self.maps.inputs and self.maps.output is None, self.amount.fetched
        return Work(
            self.amount.kernel,
            round(self.amount.macs * part),
            round(self.amount.outputs * part),
            len(tiles),
            Transfer(sum(self.constants), len(self.constants)),
            read,
            written,
            round(self.amount.gathered * part) * share.channels,  # each core its own windows
            len(tiles) + bool(self.amount.prepared),
            self.amount.meetings,
            cores=share.cores,
            balance=max(1.0, slowest * share.cores),
            rounded=(self.amount.packed * share.rows + self.amount.repeated * share.cores) * len(tiles),
            alone=self.amount.alone,
            prepared=self.amount.prepared,
            waits=round(fetched * part) if in_l2 and fetched is not None else 0,
            in_l2=in_l2 and fetched is None,
        )


def _cut(rows: Rows, height: int) -> Iterator[Rows]:
    for low in range(rows[0], rows[1], height):
        yield low, min(rows[1], low + height)
