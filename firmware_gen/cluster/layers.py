"""Layers on a cluster: a function that every core runs on its share of a tile, and the tiles' tables.

Operators print the same C as for one core (:mod:`firmware_gen.emit.layers`); what differs is where their
operands lie and which rows and channels are asked for. Each output is made by one core in one order, whatever
the cores and tiles, so the bits are those of every other board.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from firmware_gen.c_text import C_TYPES
from firmware_gen.cluster.l3 import Piece
from firmware_gen.cluster.local import Layout, Local, aligned, choices, does_not_fit, fitted
from firmware_gen.cluster.tiling import TEAM_BYTES, Share, Tiling, row_unit, rows_read
from firmware_gen.emit.l3 import in_buffer
from firmware_gen.emit.layers import Layers
from firmware_gen.emit.memory import Memory
from firmware_gen.flash import weight_key
from firmware_gen.graph import Op
from firmware_gen.operators import OPERATORS
from firmware_gen.schedule import Step
from firmware_gen.storage import element_bytes


class ClusterLayers(Layers):
    """The functions and constants of a model.c for a cluster; the `Emitter` that operators see."""

    def __init__(self, memory: Memory) -> None:
        """Print the layers of the plan that `memory` was laid out for."""
        cluster = memory.plan.board.cluster
        assert cluster is not None
        self._cluster = cluster
        self._local = Local({}, False)
        self._piece: Piece | None = None  # of the layer that is being printed
        self.tilings: dict[int, Tiling] = {}
        self.l1_bytes = TEAM_BYTES
        super().__init__(memory)
        self._local = Local({}, False)  # what is printed behind the layers has nothing in L1

    # What operators ask for: see firmware_gen.operators.base.Emitter.

    def rows(self, step: Step) -> str:
        return "y0, y1"

    def channels(self, count: int, multiple: int) -> str:
        self._local.channels = count, multiple
        return "o0, o1"

    def cores(self, parts: int = 0) -> str:
        if parts:
            self._local.channels = parts, 1  # divided by the kernel, and as channels in the plan
        return "(ft_cores_t){core, cores, ft_team_meet}"

    def prepare(self, statements: str) -> str:
        self._local.prepared += statements + "\n"
        return ""

    def pointer(self, tensor: str) -> str:
        if tensor not in self._local.maps:
            return super().pointer(tensor)
        return self._operand(tensor, C_TYPES[self._memory.graph.tensors[tensor].dtype])

    def map(self, tensor: str) -> str:
        if tensor not in self._local.maps:
            return super().map(tensor)
        height, width, depth = self._memory.graph.shape(tensor)
        row, pixel = self.strides(tensor)
        numbers = (height, width, depth, row, pixel)
        return f"(ft_map_t){{{', '.join(map(str, numbers))}}}"

    def strides(self, tensor: str) -> tuple[int, int]:
        if tensor not in self._local.maps:
            return super().strides(tensor)
        _, width, depth = self._memory.graph.shape(tensor)
        return width * depth, depth

    def aligned(self, tensor: str, bytes_: int) -> bool:
        if tensor not in self._local.maps:
            return super().aligned(tensor, bytes_)
        described = self._memory.graph.tensors[tensor]
        return described.shape[2] * element_bytes(described) % bytes_ == 0

    def scratch(self, op: Op) -> str:
        operator, graph = OPERATORS[op.kind], self._memory.graph
        size = operator.scratch_bytes(op, graph, self.isa)
        if not size:
            return "NULL"
        self._local.scratch = aligned(size)
        shared = aligned(operator.shared_bytes(op, graph, self.isa))
        return f"((int8_t *)tile->scratch + {shared} + core * {self._local.scratch})"

    def shared(self, op: Op) -> str:
        size = OPERATORS[op.kind].shared_bytes(op, self._memory.graph, self.isa)
        self._local.shared = aligned(size)
        return "((int8_t *)tile->scratch)" if size else "NULL"

    def grid(self, tensor: str) -> str:
        name = self._memory.graph.tensors[tensor].range
        if name and name in self._local.ranges:
            return f"seen[{self._local.ranges.index(name)}].grid"
        return super().grid(tensor)

    def range(self, tensor: str) -> str:
        name = self._memory.graph.tensors[tensor].range
        if name not in self._local.ranges:
            self._local.ranges.append(name)
        return f"(&seen[{self._local.ranges.index(name)}])"

    def weight(self, constant: str, axes: tuple[int, ...] | None = None) -> str:
        described = self._memory.graph.constants[constant]
        if self._piece is None:
            array = super().weight(constant, axes)
        else:
            array = in_buffer(self._piece, weight_key(constant, described.value.ndim, axes))
        dtype = self._memory.graph.learned(constant).dtype if self.learns(constant) else described.dtype
        each = 2 if dtype == "bf16" else described.value.itemsize
        return self._constant(array, C_TYPES[dtype], described.value.size * each)

    def array(self, name: str, values: NDArray[Any]) -> str:
        c_types = {"float32": "float", "uint16": "uint16_t", "int16": "int16_t", "int32": "int32_t"}
        array = super().array(name, values) if self._piece is None else in_buffer(self._piece, name)
        return self._constant(array, c_types.get(values.dtype.name, "int8_t"), values.nbytes)

    def sink(self, constant: str, step: Step) -> tuple[str, str]:
        local, self._local = self._local, Local({}, False)  # what is moved is the weight in RAM itself
        declaration, sink = super().sink(constant, step)
        self._local = local
        if self.updates.late:
            local.before += declaration.replace("y0", "tile->y0")
            return "", sink
        drawn = re.compile(r"ft_next_key\((\w+)\)")
        found = drawn.search(declaration + sink)
        if found is None:
            return declaration, sink
        # One key for all cores: each weight's draw depends on it and on the weight's place.
        local.before += f"tile->key = {found[0]};\n"
        return drawn.sub("tile->key", declaration), drawn.sub("tile->key", sink)

    def _operand(self, name: str, c_type: str) -> str:
        return f"(({c_type} *)(void *)tile->at[{self._local.operand(name)}])"

    def _constant(self, array: str, c_type: str, size: int) -> str:
        if not self._local.fetches_constants:
            return array if self._piece is None else f"(({c_type} *)(void *)({array}))"
        self._local.constants[array] = size
        return self._operand(array, c_type)

    # How a layer's functions come about.

    def _define_function(self, index: int, step: Step) -> None:
        external = self._memory.plan.l3
        self._piece = None if external is None else external.piece_of(index)
        self._define_tiled(index, step)
        self._piece = None

    def _define_tiled(self, index: int, step: Step) -> None:
        bands = [other for other in self._memory.plan.steps if other.op is step.op]
        for local in choices(step, self._memory.plan):
            self._local = local
            body = OPERATORS[step.op.kind].emit(step, self)
            if not body and step.chain is None:
                return
            found = fitted(step, bands, local, self._cluster, self.isa)
            if found is not None:
                break
        else:
            raise does_not_fit(step, self._local, self._memory.plan.board)
        tiling, layout = found
        self.tilings[index] = tiling
        self.l1_bytes = max(self.l1_bytes, layout.bytes)
        text = "".join(
            (*self._share(index, step, tiling, layout, body), *self._layer(index, bands, tiling, layout))
        )
        self.functions[index] = text

    def _share(self, index: int, step: Step, tiling: Tiling, layout: Layout, body: str) -> Iterator[str]:
        """Yield the function that every core runs, and those that the master runs before and after it."""
        local, share = self._local, tiling.share
        yield f"static void {self._part(index)}(void *argument) {{\n"
        yield from _indented(self._head(step, share, body))
        yield from _indented(body.split("\n"))
        yield "}\n\n"
        if local.prepared:
            yield f"static void prepare_{self.name(index)}(void *argument) {{\n"
            yield "    const ft_tile_t *const tile = argument;\n"
            yield f"    enum {{ cores = {share.cores} }};\n"
            yield "    const int core = (int)pi_core_id();\n"
            yield from _indented(local.prepared.rstrip("\n").split("\n"))
            yield "}\n\n"
        if local.before:
            yield f"static void before_{self.name(index)}(ft_tile_t *tile) {{\n"
            if "tile->" not in local.before:
                yield "    (void)tile;\n"
            if "hyper" in local.before:
                yield "    const ft_hyper_t *const hyper = tile->hyper;\n"
            yield from _indented(local.before.rstrip("\n").split("\n"))
            yield "}\n\n"
        if local.ranges:
            yield f"static void after_{self.name(index)}(const ft_tile_t *tile) {{\n"
            yield f"    const ft_moving_range_t *const seen = {_SEEN};\n"
            for at, name in enumerate(local.ranges):
                numbers = f"{share.cores}, {len(local.ranges)}"
                yield f"    ft_range_gather(&{self._memory.range_of(name)}, seen + {at}, {numbers});\n"
            yield "}\n\n"

    def _head(self, step: Step, share: Share, body: str) -> Iterator[str]:
        """Yield the declarations of what the body uses."""
        local, used = self._local, set(re.findall(r"\w+", body))
        copies = len(local.ranges)
        if used & {"tile", "y0", "y1", "hyper", "losses", "band", "seen"} or copies:
            yield "const ft_tile_t *const tile = argument;"
        else:
            yield "(void)argument;"
        by_rows, by_channels = share.rows > 1, share.channels > 1
        if by_rows or by_channels or copies or "core" in used:
            yield "const int core = (int)pi_core_id();"
        if "cores" in used:
            yield f"enum {{ cores = {share.cores} }};"
        if step.chain is not None and "band" in used:
            c_type = self._memory.band_table(step.chain).c_type
            yield f"const {c_type} *const band = tile->band;"
        for name, (c_type, _) in {"losses": ("float", 0), "hyper": ("const ft_hyper_t", 0)}.items():
            if name in used:
                yield f"{c_type} *const {name} = tile->{name};"
        if copies:
            yield f"ft_moving_range_t *const seen = {_SEEN} + {copies} * core;"
        for at, name in enumerate(local.ranges):
            yield f"seen[{at}] = {self._memory.range_of(name)};"
        if {"y0", "y1"} & used:
            yield (
                "const int y0 = tile->y0, y1 = tile->y1;"
                if not by_rows
                else (
                    f"const ft_rows_t mine = ft_share(tile->y0, tile->y1, {row_unit(step.op, step.graph)}, "
                    f"core{f' / {share.channels}' if by_channels else ''}, {share.rows});"
                )
            )
            if by_rows:
                yield "const int y0 = mine.first, y1 = mine.end;"
                yield "if (y0 == y1)\n    return;"
        if {"o0", "o1"} & used:
            count, multiple = local.channels
            if by_channels:
                part = f"core % {share.channels}" if by_rows else "core"
                yield f"const ft_rows_t given = ft_share(0, {count}, {multiple}, {part}, {share.channels});"
                yield "const int o0 = given.first, o1 = given.end;"
                # Or GCC 12 warns of vectors that are stored beyond an array of few channels.
                yield f"if (o0 < 0 || o1 > {count})\n    __builtin_unreachable();"
            else:
                yield f"const int o0 = 0, o1 = {count};"

    def _part(self, index: int) -> str:
        """Return the name of the function that a core runs."""
        return f"core_{self.name(index)}"

    def _layer(self, index: int, bands: Sequence[Step], tiling: Tiling, layout: Layout) -> Iterator[str]:
        """Yield the tables of a layer and the function that the master runs."""
        local, name, step = self._local, self.name(index), bands[0]
        if local.constants:
            yield f"static const ft_constant_t constants_{name}[] = {{\n"
            for array, at in layout.constants.items():
                yield f"    {{{array}, {at}, {local.constants[array]}}},\n"
            yield "};\n"
        if local.maps:
            yield f"static const ft_buffer_t buffers_{name}[] = {{\n"
            for found, at, size in zip(local.maps.values(), layout.maps, tiling.buffers, strict=True):
                other = size if tiling.double else 0
                yield f"    {{{at}, {other}, {found.length}, {found.stride}, {found.per_row}}},\n"
            yield "};\n"
            yield f"static const ft_piece_t pieces_{name}[] = {{\n"
            for band, tiles in zip(bands, tiling.tiles, strict=True):
                for tile in tiles:
                    yield f"    {' '.join(self._pieces(band, tile))}\n"
            yield "};\n"
        yield f"static const ft_rows_t tiles_{name}[] = {{\n"
        for tiles in tiling.tiles:
            yield f"    {' '.join(f'{{{first}, {end}}},' for first, end in tiles)}\n"
        yield "};\n"
        yield f"static const ft_layer_t layer_{name} = {{\n"
        yield f"    .work = {self._part(index)}, .cores = {tiling.share.cores}, .tiles = tiles_{name},\n"
        if local.prepared:
            yield f"    .prepare = prepare_{name},\n"
        if local.before:
            yield f"    .before = before_{name},\n"
        if local.ranges:
            yield f"    .after = after_{name},\n"
        if local.constants:
            yield f"    .constants = constants_{name}, .constant_count = {len(local.constants)},\n"
        if local.maps:
            made = int(any(y in local.maps for y in step.op.outputs[:1]))
            yield f"    .buffers = buffers_{name}, .pieces = pieces_{name},\n"
            yield f"    .read = {len(local.maps) - made}, .made = {made},\n"
        yield f"    .scratch = {layout.scratch}, .seen = {layout.seen}}};\n\n"
        yield from self._master(index, step, tiling)

    def _pieces(self, step: Step, tile: tuple[int, int]) -> Iterator[str]:
        """Yield where the rows of each map lie in L2 that a tile reads or makes."""
        op, graph, plan = step.op, step.graph, self._memory.plan
        for tensor in self._local.maps:
            view, described = plan.views[tensor], graph.tensors[tensor]
            low, end = tile
            if tensor in op.inputs:
                low, end = rows_read(op, graph, op.inputs.index(tensor), tile)
            roll = plan.rolls.get(view.buffer)
            first = 0 if roll is None else roll.firsts[step.band]
            found = self._local.maps[tensor]
            at = plan.offsets[view.buffer] + view.channel * element_bytes(described)
            at += (low - first) * found.stride * found.per_row
            yield f"{{arena.data + {at}, {low}, {end - low}}},"

    def _master(self, index: int, step: Step, tiling: Tiling) -> Iterator[str]:
        """Yield the function that has the cores run the layer."""
        declaration, argument = self._parameter(step)
        hyper, losses = (argument if argument == name else "NULL" for name in ("hyper", "losses"))
        call = f"ft_team_layer(&layer_{self.name(index)}"
        yield f"FT_STEP {self.name(index)}({declaration}) {{\n"
        if step.chain is None:
            yield f"    {call}, 0, {len(tiling.tiles[0])}, NULL, {hyper}, {losses});\n}}\n\n"
            return
        table = self._memory.band_table(step.chain)
        ends = [0]
        for tiles in tiling.tiles:
            ends.append(ends[-1] + len(tiles))
        yield f"    static const uint16_t ends[] = {{{', '.join(map(str, ends))}}};\n"
        yield from _indented(self._moves(step, step.chain))
        yield f"    const int at = (int)(band - {table.name}[1]) / {table.columns};\n"
        yield f"    {call}, ends[at], ends[at + 1], band, NULL, NULL);\n}}\n\n"


_SEEN = "(ft_moving_range_t *)(void *)tile->seen"


def _indented(lines_of_c: Iterable[str]) -> Iterator[str]:
    for line in lines_of_c:
        yield "    " + line.replace("\n", "\n    ") + "\n"
