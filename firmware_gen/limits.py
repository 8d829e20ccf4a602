"""Whether a plan keeps within the board's memory, ``--ram`` and ``--time``; if not, what is in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boards import Board
from boards.board import L3
from fieldtune.durations import format_duration
from fieldtune.errors import BoardError, DoesNotFitError
from fieldtune.sizes import format_size
from firmware_gen.arena import peak_bytes
from firmware_gen.flash import layer_arrays
from firmware_gen.schedule import layers
from firmware_gen.step_time import instructions, seconds

if TYPE_CHECKING:
    from firmware_gen.plan import Plan

NAMED = 3  # how many of what stands in the way a message names


def allowed_ram(board: Board, ram_limit: int | None, flash: int = 0) -> int:
    """Return the static RAM that a plan may take whose code and constants take `flash` bytes."""
    have = board.main_ram.bytes - board.stack_bytes - (flash if board.unified else 0)
    return have if ram_limit is None else min(have, ram_limit)


def check_limits(plan: Plan, ram_limit: int | None, time_limit: float | None) -> None:
    """Refuse a plan that needs too much.

    Raises:
        DoesNotFitError: too much RAM, flash, L3 or time; the message names the least that works.
        BoardError: a time limit on a board whose clock, or the speed of whose L3, is not known.
    """
    flash = sum(plan.flash.values())
    if plan.ram_bytes > allowed_ram(plan.board, ram_limit, flash):
        _check_layers(plan)
        raise DoesNotFitError(_too_large(plan, ram_limit, flash))
    if plan.flash["constants"] > plan.board.flash.bytes:
        raise DoesNotFitError(
            f"{_what(plan)} needs {format_size(plan.flash['constants'])} of flash for its weights, but "
            f"{plan.board.id} has {format_size(plan.board.flash.bytes)}; take a smaller network or a board "
            "with more flash"
        )
    if plan.l3 is not None:
        _check_l3(plan, plan.l3.bytes, plan.board.l3)
    if time_limit is not None:
        _check_time(plan, time_limit)


def _check_layers(plan: Plan) -> None:
    """Refuse a layer whose constants alone are more than L2 could hold, wherever the others' lie."""
    board = plan.board
    if board.l3 is None:
        return
    arrays = layer_arrays(plan.graph, plan.steps, board.isa, plan.prefer)
    sizes = {index: sum(value.nbytes for value in found.values()) for index, found in arrays.items()}
    largest = max(sizes, key=lambda index: sizes[index])
    data = plan.ram_bytes - plan.ram.get("l3_buffers", 0)
    room = allowed_ram(board, None, plan.flash["code_estimate"]) - data
    if 0 < room < sizes[largest]:
        op = plan.steps[largest].op
        raise DoesNotFitError(
            f"layer '{op.name}' ({op.kind}) has {format_size(sizes[largest])} of weights, which come to "
            f"{board.main_ram.name} as a whole, but {board.id} has {format_size(room)} there beside code, "
            "data and stack; take a smaller layer, or divide it into two"
        )


def _check_l3(plan: Plan, needed: int, l3: L3 | None) -> None:
    assert l3 is not None
    if needed > l3.bytes:
        raise DoesNotFitError(
            f"{_what(plan)} has {format_size(needed)} of constants for which {plan.board.main_ram.name} has "
            f"no room, but L3 of {plan.board.id} has {format_size(l3.bytes)}; take a smaller network"
        )


def _what(plan: Plan) -> str:
    return f"{plan.graph.name} {'training' if plan.graph.trained else 'inference'}"


def _too_large(plan: Plan, ram_limit: int | None, flash: int) -> str:
    board = plan.board
    have, limit = allowed_ram(board, None, flash), allowed_ram(board, ram_limit, flash)
    stack = format_size(board.stack_bytes)
    needed = plan.sum_bytes if board.unified else plan.ram_bytes + board.stack_bytes
    allowed = f"{board.id} has {format_size(board.main_ram.bytes)}, {stack} of it for the stack"
    if board.unified:
        allowed += f" and {format_size(flash)} for constants and code (by estimate)"
        if plan.l3 is not None:
            allowed += f", {format_size(plan.l3.bytes)} of constants being in L3 already"
    remedy = f"take a board with {format_size(needed)} of RAM or more"
    if limit < have:
        allowed = f"--ram allows {format_size(limit)}"
        if plan.ram_bytes <= have:
            remedy = f"give --ram {plan.ram_bytes} or more"
    parts = ", ".join(f"{name} {size:,}" for name, size in plan.ram.items() if size)
    return (
        f"{_what(plan)} needs {format_size(plan.ram_bytes)} of RAM ({parts}), but {allowed}; in the way are "
        f"{in_the_way(plan, limit)}: train fewer or smaller layers, or {remedy}"
    )


def in_the_way(plan: Plan, limit: int) -> str:
    """Return the largest of what must go: weights that alone are too much, or what is alive at the peak."""
    if plan.ram_bytes - plan.ram["arena"] > limit:
        constants = (plan.graph.constants[name] for name in plan.graph.trained)
        return _largest({constant.name: constant.value.nbytes for constant in constants})
    peak = peak_bytes(plan.buffers)
    for index, step in enumerate(plan.steps):
        alive = {b.name: b.bytes for b in plan.buffers if b.first <= index <= b.last}
        if sum(alive.values()) == peak:
            return f"{_largest(alive)} at {step.op.name} ({step.op.kind})"
    return "inputs and labels"


def _largest(sizes: dict[str, int]) -> str:
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {size:,} B" for name, size in ordered[:NAMED])


def _check_time(plan: Plan, limit: float) -> None:
    board, need = plan.board, plan.seconds
    if plan.l3 is not None and need is None:
        raise BoardError(
            f"{plan.l3_read_bytes:,} bytes come from L3 in a run, and how fast that of {board.id} is nobody "
            "has published; leave out --time, or measure it and give bytes_per_cycle in a description of "
            "your own (docs/gap9.md)"
        )
    if need is None or board.clock_hz is None:
        why = "the board's file gives no clock_hz"
        if board.clock_hz is not None:
            why = f"nothing is known of how many cycles a {board.mcu} takes"
        raise BoardError(
            f"how long a step takes on {board.id} cannot be estimated, because {why}; leave out --time"
        )
    if need <= limit:
        return
    times: dict[str, float] = {}
    for step in layers(plan.steps):
        time = seconds(instructions(step, board), board)
        times[step.op.name] = times.get(step.op.name, 0.0) + (time or 0.0)
    slowest = sorted(times.items(), key=lambda item: -item[1])[:NAMED]
    named = ", ".join(f"{name} {format_duration(time)}" for name, time in slowest)
    pace = "one a cycle" if board.cluster is None else f"on {board.cluster.cores} cores"
    raise DoesNotFitError(
        f"{_what(plan)} takes {format_duration(need)} on {board.id} by estimate "
        f"({plan.instructions / 1e6:,.1f} M instructions, {pace} at {board.clock_hz / 1e6:g} MHz), but "
        f"--time allows {format_duration(limit)}; in the way are {named}: train fewer or smaller layers, "
        f"take a faster board, or give --time {format_duration(need)} or more"
    )
