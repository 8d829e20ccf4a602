"""The memory plan: an offset for every tensor, every byte of static RAM accounted for before any build."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from boards import Board, Store
from firmware_gen.arena import Buffer, alive_bytes, extent, place
from firmware_gen.band_table import band_tables
from firmware_gen.choose_chains import narrow, peak_in_chains
from firmware_gen.cluster.config import TEAM_RAM_BYTES
from firmware_gen.cluster.l3 import Choice, External, first_steps
from firmware_gen.field import CODE_BYTES as FIELD_CODE_BYTES
from firmware_gen.field import Field
from firmware_gen.flash import code_estimate, constant_bytes
from firmware_gen.graph import Graph, Tensor, gradient_name
from firmware_gen.limits import allowed_ram, check_limits
from firmware_gen.mlperf import mlperf_ram_bytes
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.base import Prefer
from firmware_gen.order import least_alive
from firmware_gen.passes.scratch import with_scratch
from firmware_gen.protocol import LEAST_PAYLOAD, MAX_LOSSES, MAX_PAYLOAD
from firmware_gen.protocol_header import link_ram_bytes
from firmware_gen.recompute import bridges, rebuild, recomputed
from firmware_gen.schedule import Step, inference_only, layers, whole_layers
from firmware_gen.stages import in_stages
from firmware_gen.step_time import seconds, step_instructions
from firmware_gen.storage import Roll, Storage, View, choose_storage
from firmware_gen.stored_set import set_bytes, slot_room

_Schedule = tuple[tuple[Step, ...], Storage]

GUARD_BYTES = 16  # on both sides of the arena; what ft_model_t.intact looks at
RANGE_BYTES = 24  # ft_moving_range_t
WORD_BYTES = 4
COUNTER_BYTES = 4  # samples since the last update, where gradients are kept


@dataclass(frozen=True)
class Plan:
    """A schedule with a place for everything. All sizes in bytes.

    `mlperf` is the model's name in MLPerf Tiny's serial API, when the firmware speaks that; None: our link.
    """

    board: Board
    graph: Graph
    steps: tuple[Step, ...]
    views: Mapping[str, View]
    buffers: tuple[Buffer, ...]
    rolls: Mapping[str, Roll]  # of buffers that hold only some rows
    offsets: Mapping[str, int]  # of buffers in the arena
    ram: Mapping[str, int]  # what the static RAM consists of
    flash: Mapping[str, int]  # constants exactly, code by estimate
    prefer: Prefer = "flash"
    mlperf: str | None = None
    field: Field | None = None  # the sample buffer, to learn without a host
    l3: External | None = None  # constants for which the board's memory has no room

    @property
    def arena_bytes(self) -> int:
        """Bytes that activations, gradients and scratch share."""
        return extent(self.buffers, self.offsets)

    @property
    def ram_bytes(self) -> int:
        """All static RAM of the firmware; the stack comes on top."""
        return sum(self.ram.values())

    @property
    def sum_bytes(self) -> int:
        """Static RAM, stack, constants and code: what a board needs where all lie in one memory."""
        return self.ram_bytes + self.board.stack_bytes + sum(self.flash.values())

    @property
    def keeps_initial(self) -> bool:
        """Whether the firmware can go back to the weights that it began with; see `keeps_initial`."""
        return keeps_initial(self.board, self.field)

    @property
    def latent_step(self) -> int:
        """Index of the step, and of the training step's part, that the host begins with from latents."""
        left_out = {op.outputs[0] for op in self.graph.ops[: self.graph.latent_ops]}
        return sum(not left_out.isdisjoint(step.op.outputs) for step in self.steps)

    @cached_property
    def left_out(self) -> frozenset[int]:
        """Indices of the steps that only an inference runs."""
        return inference_only(self.steps) if self.graph.trained else frozenset()

    @property
    def l3_read_bytes(self) -> int:
        """What comes from L3 in an inference, or in a training step if something learns."""
        first = first_steps(self.steps)
        run = (first[index] for index in range(len(self.steps)) if index not in self.left_out)
        return 0 if self.l3 is None else self.l3.read_bytes(run)

    def macs(self, *phases: str) -> int:
        """Return the multiply-accumulates of one step in these phases."""
        return _macs(step for step in self.steps if step.op.phase in phases)

    @property
    def instructions(self) -> float:
        """Roughly what an inference takes, or a training step if something learns; 0 on a computer."""
        return self._instructions(0)

    @property
    def seconds(self) -> float | None:
        """How long that takes by estimate; None where the clock, or the speed of L3, is not known.

        As if nothing ran while something comes from L3.
        """
        computing, l3 = seconds(self.instructions, self.board), self.board.l3
        if self.l3 is None or l3 is None:
            return computing
        if computing is None or self.board.clock_hz is None or l3.bytes_per_cycle is None:
            return None
        return computing + self.l3_read_bytes / l3.bytes_per_cycle / self.board.clock_hz

    def describe(self) -> dict[str, Any]:
        """Return what ``plan.json`` holds; the keys are stable."""
        region = self.board.main_ram.name
        return {
            "model": self.graph.name,
            "board": self.board.id,
            "prefer": self.prefer,
            "ram_bytes": self.ram_bytes,
            "arena_bytes": self.arena_bytes,
            "stack_bytes": self.board.stack_bytes,
            "flash_bytes": sum(self.flash.values()),
            "macs_forward": self.macs("forward"),
            "macs_backward": self.macs("loss", "backward", "update"),
            "instructions_estimate": round(self.instructions),
            "time_estimate_ms": None if self.seconds is None else round(self.seconds * 1e3, 3),
            "ram": dict(self.ram),
            "flash": dict(self.flash),
            "trained": list(self.graph.trained),
            "optimizer": self.graph.optimizer if self.graph.trained else None,
            "gradients": self.graph.gradients if self.graph.trained else None,
            "products": self.graph.products,
            "tensors": [
                {
                    "name": buffer.name,
                    "region": region,
                    "bytes": buffer.bytes,
                    "offset": self.offsets[buffer.name],
                    "first": buffer.first,
                    "last": buffer.last,
                }
                for buffer in sorted(self.buffers, key=lambda b: (b.first, b.name))
            ],
            "steps": [_described(step) for step in self.steps],
            "weights": [self._weight(name) for name in self.graph.trained],
            "model_hash": self.graph.fingerprint(),
            **({"latents": self._latents()} if self.graph.latents else {}),
            **({"store": self._store(self.board.store)} if self.graph.trained and self.board.store else {}),
            **({"mlperf": self.mlperf} if self.mlperf is not None else {}),
            **({} if self.field is None else {"buffer": self.field.describe()}),
            **({} if self.l3 is None else {"l3": self._external(self.l3)}),
        }

    def _external(self, l3: External) -> dict[str, Any]:
        """Return what lies in L3, the buffers through which it comes, and how much does in a run."""
        return {
            "bytes": l3.bytes,
            "buffers": list(l3.buffers),
            "read_bytes": self.l3_read_bytes,
            "layers": [
                {"name": self.steps[piece.step].op.name, "op": self.steps[piece.step].op.kind}
                | {"bytes": piece.bytes, "offset": piece.offset, "buffer": piece.buffer}
                for piece in l3.pieces
            ],
        }

    def _store(self, store: Store) -> dict[str, int]:
        """Return what is kept of what is learned, and what there is for it; none of it is static RAM."""
        return {
            "slot_bytes": store.slot_bytes,
            "room": slot_room(store),
            "set_bytes": set_bytes(self.graph),
        }

    def _latents(self) -> dict[str, Any]:
        graph, begin = self.graph, self.latent_step
        return {
            "layer": graph.ops[graph.latent_ops - 1].name,
            "tensors": list(graph.latents),
            "bytes": sum(graph.tensors[name].bytes for name in (*graph.latents, *graph.inputs_above)),
            "frame_bytes": sum(graph.tensors[name].bytes for name in graph.inputs),
            "first_part": begin,
            "macs": _macs(self.steps[begin:]),
            "instructions_estimate": round(self._instructions(begin)),
        }

    def _instructions(self, begin: int) -> float:
        """Return roughly what it takes from the step `begin` on."""
        run = [step for k, step in enumerate(self.steps) if k >= begin and k not in self.left_out]
        return step_instructions(run, self.board)

    def _weight(self, name: str) -> dict[str, Any]:
        constant = self.graph.constants[name]
        axes, slab = constant.source_axes, constant.slab
        return {
            "name": name,
            "dtype": self.graph.learned(name).dtype,
            "shape": list(constant.value.shape),
            "source_axes": None if axes is None else list(axes),
            "source_shape": list(constant.source_shape),
            "slab": None if slab is None else {"axis": slab.axis, "first": slab.first, "end": slab.end},
        }

    def hash(self) -> int:
        """Return 32 bits that change when anything in the plan changes.

        `prefer` is what the user asked for; what has come of it shows in the constants' bytes. An estimate
        changes nothing on the board.
        """
        described = self.describe()
        for key in ("prefer", "instructions_estimate", "time_estimate_ms"):
            del described[key]
        return zlib.crc32(json.dumps(described, sort_keys=True).encode())


def make_plan(
    graph: Graph,
    board: Board,
    ram_limit: int | None = None,
    prefer: Prefer = "flash",
    time_limit: float | None = None,
    mlperf: str | None = None,
    field: Field | None = None,
) -> Plan:
    """Plan `graph` (an inference or training graph) for `board`.

    Args:
        graph: what is to run.
        board: where.
        ram_limit: bytes of static RAM that it may take, where that is less than the board has.
        prefer: whether kernels that can trade flash for speed do so.
        time_limit: seconds that a run may take by estimate.
        mlperf: see `Plan`.
        field: the sample buffer that the firmware brings, if any.

    Raises:
        DoesNotFitError: static RAM and stack (with constants and code, where they share its memory) need
            more than the board has, static RAM more than `ram_limit`, the constants alone more than the
            flash, those in L3 more than that, or a run more than `time_limit`.
        BoardError: there is a time limit, but the board's clock, or the speed of its L3, is not known.
    """
    plan = find_plan(graph, board, ram_limit, prefer, mlperf, field)
    check_limits(plan, ram_limit, time_limit)
    return plan


def find_plan(
    graph: Graph,
    board: Board,
    ram_limit: int | None = None,
    prefer: Prefer = "flash",
    mlperf: str | None = None,
    field: Field | None = None,
) -> Plan:
    """Return what `make_plan` does, or, where nothing fits, what needs the least RAM."""
    flash = 0
    if board.unified:  # all but the small tables of bands is known before there is a schedule
        steps = whole_layers(with_scratch(graph, board))
        flash = sum(_flash(graph, steps, board, prefer, field).values())
    static = sum(_static_ram(graph, board, 0, mlperf, field).values())

    def planned(saved: int) -> Plan:
        """Return the plan for which L3 saves so many bytes."""
        room = allowed_ram(board, ram_limit, flash - saved) - static
        return plan_schedule(board, *_schedule(graph, board, room), prefer, mlperf, field)

    plan = planned(0)
    if board.l3 is None or plan.sum_bytes <= board.main_ram.bytes:
        return plan
    most = Choice(graph, steps, board.isa, prefer).best(math.inf)
    if most is None:
        return plan
    # As few bands as can be, in which pieces come for every band; and as many as help, for fewer pieces.
    found = [_with_l3(each, ram_limit) for each in (planned(most.saved), plan)]
    return min(found, key=lambda each: (max(0, _lacks(each, ram_limit)), each.l3_read_bytes))


def _lacks(plan: Plan, ram_limit: int | None) -> int:
    """Return how many bytes of RAM a plan needs beyond what it may have."""
    return plan.ram_bytes - allowed_ram(plan.board, ram_limit, sum(plan.flash.values()))


def _with_l3(plan: Plan, ram_limit: int | None) -> Plan:
    """Return `plan` with as many constants in L3 as it takes to fit."""
    needed = plan.sum_bytes - plan.board.main_ram.bytes
    if needed <= 0:
        return plan
    most = math.inf if ram_limit is None else ram_limit - plan.ram_bytes
    l3 = Choice(plan.graph, plan.steps, plan.board.isa, plan.prefer).best(needed, most)
    return plan if l3 is None else in_l3(plan, l3)


def in_l3(plan: Plan, l3: External) -> Plan:
    """Return `plan` with these constants in L3."""
    flash = {
        **plan.flash,
        "constants": plan.flash["constants"] - l3.freed,
        "code_estimate": plan.flash["code_estimate"] + l3.code_bytes,
    }
    return replace(plan, ram={**plan.ram, "l3_buffers": sum(l3.buffers)}, flash=flash, l3=l3)


def plan_schedule(
    board: Board,
    steps: tuple[Step, ...],
    storage: Storage,
    prefer: Prefer = "flash",
    mlperf: str | None = None,
    field: Field | None = None,
) -> Plan:
    """Return the plan of a schedule, whether it fits or not; see `make_plan`."""
    graph, offsets = steps[0].graph, place(storage.buffers)
    flash = _flash(graph, steps, board, prefer, field)
    flash["constants"] += sum(table.bytes for table in band_tables(steps, storage.rolls))
    ram = _static_ram(graph, board, extent(storage.buffers, offsets), mlperf, field)
    views, buffers, rolls = storage.views, storage.buffers, storage.rolls
    return Plan(board, graph, steps, views, buffers, rolls, offsets, ram, flash, prefer, mlperf, field)


def _flash(
    graph: Graph, steps: Sequence[Step], board: Board, prefer: Prefer, field: Field | None
) -> dict[str, int]:
    """Return what constants and code take, but for the tables of bands."""
    flash = {
        "constants": constant_bytes(graph, steps, board.isa, prefer, keeps_initial(board, field)),
        "code_estimate": code_estimate(steps, board.cluster is not None),
    }
    if field is not None:
        flash["constants"] += field.constant_bytes(graph)
        flash["code_estimate"] += FIELD_CODE_BYTES
    return flash


def _macs(steps: Iterable[Step]) -> int:
    return sum(OPERATORS[step.op.kind].macs(step.op, step.graph) for step in layers(steps))


def _described(step: Step) -> str:
    rows = "" if step.chain is None else f" {step.rows[0]}:{step.rows[1]}"
    return f"{step.op.name} {step.op.kind}{rows}"


def _schedule(graph: Graph, board: Board, room: int) -> _Schedule:
    """Return the first that has its arena in `room` bytes, else what needs the fewest.

    Whole layers; some of them in bands; the same with some of what the backward pass reads made again; the
    same with the skip connections made again that are alive where memory peaks; the backward pass in stages.
    """
    least: _Schedule | None = None
    for found in _schedules(graph, board, room):
        least = found if least is None else _smaller(least, found)
        if _arena(least[1]) <= room:
            break
    assert least is not None
    return least


def _schedules(graph: Graph, board: Board, room: int) -> Iterator[_Schedule]:
    """Yield schedules, each for the case that those before need more than `room` bytes."""
    ordered = least_alive(graph)
    steps = whole_layers(with_scratch(ordered, board))
    yield steps, choose_storage(steps)
    least = narrow(steps[0].graph, room)
    yield least
    others = [with_scratch(other, board) for other in recomputed(ordered)]
    if others:
        again = narrow(min(others, key=lambda other: peak_in_chains(other, least[0])), room)
        yield again
        least = _smaller(least, again)
    for name in bridges(least[0][0].graph):
        if name in _alive_at_peak(*least):
            rebuilt = narrow(with_scratch(rebuild(least[0][0].graph, name), board), room)
            yield rebuilt
            least = _smaller(least, rebuilt)
    if updates_late(graph):
        yield in_stages(graph, board, room)


def _smaller(a: _Schedule, b: _Schedule) -> _Schedule:
    return min(a, b, key=lambda found: _arena(found[1]))


def _alive_at_peak(steps: tuple[Step, ...], storage: Storage) -> set[str]:
    """Return the tensors that lie in what is alive where most is."""
    alive = alive_bytes(storage.buffers, len(steps))
    at = alive.index(max(alive))
    buffers = {buffer.name for buffer in storage.buffers if buffer.first <= at <= buffer.last}
    return {name for name, view in storage.views.items() if view.buffer in buffers}


def _arena(storage: Storage) -> int:
    return extent(storage.buffers, place(storage.buffers))


def _static_ram(
    graph: Graph, board: Board, arena: int, mlperf: str | None, field: Field | None
) -> dict[str, int]:
    """Return what each part of the firmware takes."""
    weights = sum(static_bytes(graph.learned(name)) for name in graph.trained)
    state = sum(static_bytes(tensor) for tensor in graph.state.values()) + RANGE_BYTES * len(graph.ranges)
    if keeps_gradients(graph):
        state += COUNTER_BYTES
    if mlperf is None:
        link = link_ram_bytes(largest_payload(board), loss_slots(graph))
    else:
        link = mlperf_ram_bytes(graph)
    return {
        "arena": arena + 2 * GUARD_BYTES,
        "weights": weights,
        "state": state,
        "link": link,
        "port": board.port_ram_bytes,
        **({} if board.cluster is None else {"team": TEAM_RAM_BYTES}),
        **({} if field is None else field.ram(graph)),
    }


def static_bytes(tensor: Tensor) -> int:
    """Return what an array of its own takes: whole words, so that no linker leaves gaps."""
    return -(-tensor.bytes // WORD_BYTES) * WORD_BYTES


def largest_payload(board: Board) -> int:
    """Return how many bytes a frame may carry: the receive ring holds one that waits and one that comes."""
    return max(LEAST_PAYLOAD, min(MAX_PAYLOAD, board.rx_ring_bytes // 2))


def keeps_initial(board: Board, field: Field | None) -> bool:
    """Tell whether firmware has a copy of what learns as it was at first.

    Where code, constants and data share one memory, a copy is as dear as the weights themselves, and the host
    has one. What goes back on its own needs one: firmware that stores weights, or learns without a host.
    """
    return not board.unified or board.store is not None or field is not None


def loss_slots(graph: Graph) -> int:
    """Return how many losses the link's buffers must hold."""
    return max(MAX_LOSSES, len(graph.labels))


def keeps_gradients(graph: Graph) -> bool:
    """Tell whether gradients outlive a step, for the mean over several samples."""
    return any(gradient_name(name) in graph.state for name in graph.trained)


def updates_late(graph: Graph) -> bool:
    """Tell whether weights change only when all gradients of the step are there."""
    return keeps_gradients(graph) or any(gradient_name(name) in graph.tensors for name in graph.trained)
