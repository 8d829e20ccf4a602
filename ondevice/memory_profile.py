"""Where memory goes: what the linker placed, what the plan placed, and how deep the stack went."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boards
from boards import Board, Firmware
from boards.memory_map import MemoryMap, read_memory_map
from fieldtune.errors import BoardError
from firmware_gen.arena import alive_bytes
from firmware_gen.plan import Plan
from firmware_gen.project import write_project
from ondevice.device import Hyper
from ondevice.profile import parts_of, random_work
from ondevice.workbench import open_board


@dataclass(frozen=True)
class LayerMemory:
    """What one layer takes: code of its own, its stack frame, and the most of the arena while it runs.

    `frame_bytes` is None for a layer without a function, which the memory plan has made unnecessary.
    """

    name: str
    op: str
    phase: str
    code_bytes: int
    frame_bytes: int | None
    alive_bytes: int


@dataclass(frozen=True)
class MemoryProfile:
    """Memory of a linked firmware; bytes.

    Attributes:
        placed: sections and symbols.
        stack_frames: of each function, as the compiler states it; calls within calls add up.
        stack_used: the deepest mark in the painted stack after one run, None where nothing was run or the
            board cannot tell.
        layers: in the order in which they run.
    """

    board: Board
    placed: MemoryMap
    stack_frames: Mapping[str, int]
    stack_used: int | None
    layers: tuple[LayerMemory, ...]

    @property
    def flash_bytes(self) -> int:
        """Code, constants and initial values."""
        return self.placed.bytes("text") + self.placed.bytes("data")

    @property
    def ram_bytes(self) -> int:
        """Static data, without the stack."""
        return self.placed.bytes("data") + self.placed.bytes("bss")

    def describe(self) -> dict[str, Any]:
        """Return what ``profile --memory --json`` prints; the keys are stable."""
        return {
            "board": self.board.id,
            "flash_bytes": self.flash_bytes,
            "ram_bytes": self.ram_bytes,
            "stack": {"reserved_bytes": self.board.stack_bytes, "used_bytes": self.stack_used},
            "sections": [
                vars(section) | {"unnamed_bytes": self.placed.unnamed_bytes(section)}
                for section in self.placed.sections
            ],
            "symbols": [vars(symbol) for symbol in self.placed.symbols],
            "stack_frames": dict(self.stack_frames),
            "layers": [vars(layer) for layer in self.layers],
        }


def memory_profile(
    plan: Plan,
    port: str | None = None,
    *,
    hyper: Hyper | None = None,
    seed: int = 0,
    log: Callable[[str], None] | None = None,
) -> MemoryProfile:
    """Build and link; run one inference or training step where that can be done, for the depth of the stack.

    Args:
        plan: what the firmware is made from.
        port: of a real board that runs this plan's firmware; else an emulated board is started here.
        hyper: of the training step.
        seed: of the random sample.
        log: takes each line that the board prints.

    Raises:
        BoardError: a tool is missing, the build fails, or the board cannot be started.
        LinkError: the port cannot be opened or does not answer.
    """
    board = plan.board
    if port is not None and board.runs_in:
        raise BoardError(f"{board.id} runs on this computer and is started here; leave out --port")
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as folder:
        project = Path(folder) / "project"
        write_project(plan, project)
        firmware = boards.build(project, board)
        placed = read_memory_map(firmware.elf)
        used = None
        if port is not None or board.runs_in:
            with open_board(plan, project, port, log) as device:  # which compiles nothing again
                work = random_work(plan, device, seed, hyper)
                work.begin()
                work.ticks(0, len(parts_of(plan)))
                used = device.memory().stack_used or None
    return MemoryProfile(board, placed, firmware.stack_frames, used, _layers(plan, firmware))


def _layers(plan: Plan, firmware: Firmware) -> tuple[LayerMemory, ...]:
    """Return each operator once; its function is named after the first of its steps."""
    alive = alive_bytes(plan.buffers, len(plan.steps))
    most: dict[int, int] = {}
    for step, count in zip(plan.steps, alive, strict=True):
        most[id(step.op)] = max(count, most.get(id(step.op), 0))
    found = []
    for index, step in enumerate(plan.steps):
        if step.band:
            continue
        prefix = f"s{index:03d}_"
        code = sum(size for name, size in firmware.symbols.items() if name.startswith(prefix))
        frames = [size for name, size in firmware.stack_frames.items() if name.startswith(prefix)]
        op = step.op
        found.append(LayerMemory(op.name, op.kind, op.phase, code, max(frames, default=None), most[id(op)]))
    return tuple(found)
