"""Constants in L3 (:mod:`firmware_gen.cluster.l3`): the file that brings them there, and C around them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from boards.building import L3_FILE
from firmware_gen.cluster.l3 import ALIGNMENT, Piece, first_steps, up
from firmware_gen.flash import layer_arrays
from firmware_gen.plan import Plan


def l3_image(plan: Plan) -> bytes:
    """Return what lies in L3, piece after piece."""
    arrays = layer_arrays(plan.graph, plan.steps, plan.board.isa, plan.prefer)
    return b"".join(
        value.tobytes().ljust(up(value.nbytes), b"\0")
        for piece in (() if plan.l3 is None else plan.l3.pieces)
        for value in arrays[piece.step].values()
    )


def in_buffer(piece: Piece, array: str) -> str:
    """Return the C expression of where an array of the piece begins in L2."""
    return f"l3_buffer_{piece.buffer} + {piece.arrays[array]}"


def declarations(plan: Plan) -> Iterator[str]:
    """Yield the buffers in L2, and what the runtime has to know of the pieces."""
    if plan.l3 is None:
        return
    buffers = [f"l3_buffer_{number}" if size else "NULL" for number, size in enumerate(plan.l3.buffers)]
    for name, size in zip(buffers, plan.l3.buffers, strict=True):
        if size:
            yield f"static uint8_t {name}[{size}] __attribute__((aligned({ALIGNMENT})));\n"
    yield "static const ft_l3_piece_t l3_pieces[] = {\n"
    for piece in plan.l3.pieces:
        yield f"    {{{piece.offset}, {piece.bytes}, {piece.buffer}}},\n"
    yield "};\n"
    checksum = zlib.adler32(l3_image(plan))
    yield f'static const ft_l3_t l3 = {{\n    .file = "{L3_FILE}", .bytes = {plan.l3.bytes}, '
    yield f".checksum = {checksum:#010x}u, .pieces = l3_pieces,\n"
    yield f"    .buffers = {{{', '.join(buffers)}}}, .first_bytes = {plan.l3.buffers[0]}}};\n"


def uses(plan: Plan, name: str, steps: Sequence[int | None]) -> Iterator[str]:
    """Yield the table `name` of a run: which of its parts begin with which piece.

    steps: the plan's step that each part runs; None: none that can have a piece. Nothing is yielded where
    no part has one.
    """
    if plan.l3 is None:
        return
    first = first_steps(plan.steps)
    numbers = {piece.step: number for number, piece in enumerate(plan.l3.pieces)}
    found = [
        (part, numbers[first[step]])
        for part, step in enumerate(steps)
        if step is not None and first[step] in numbers
    ]
    if found:
        yield f"static const ft_l3_use_t {name}[] = {{\n"
        yield from (f"    {{{part}, {piece}}},\n" for part, piece in found)
        yield "};\n\n"
