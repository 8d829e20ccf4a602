"""Where time and memory go: every step of the plan counted alone, on the firmware that would be flashed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

import boards
from boards import Board, Firmware
from boards.memory_map import covered_bytes, read_memory_map
from fieldtune.console import progress, say
from fieldtune.errors import BoardError, LinkError
from firmware_gen.operators import OPERATORS
from firmware_gen.plan import Plan
from firmware_gen.project import write_project
from firmware_gen.step_parts import Part, PartPhase, part_phase, step_parts
from ondevice.device import Device, Hyper
from ondevice.timing import Timing
from ondevice.training_data import LABEL_DTYPES
from ondevice.verify_inputs import random_samples
from ondevice.workbench import connect, first_values

Unit = Literal["instructions", "cycles", "ns"]
Sample = Mapping[str, NDArray[Any]]
PHASES: tuple[PartPhase, ...] = get_args(PartPhase)

# An instruction must take more than two ticks: both ends of a measurement together are off by less than one.
_TICKS_AN_INSTRUCTION = 2
_NATIVE_PASSES = 5  # the least of them counts: other processes only ever add
_MOST_TRIES = 5
# A question asked again while the board computes would interrupt it. An emulator's line loses nothing.
_UNDISTURBED = Timing(computing_check=Timing.computing)
_LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Layer:
    """One step of the plan. `count` is in the profile's unit and has the profile's `call` in it."""

    name: str
    op: str
    phase: PartPhase
    macs: int
    count: int


@dataclass(frozen=True)
class Profile:
    """What one inference, or one training step, takes.

    Attributes:
        total: all of it in one go; each of the layers was counted alone.
        call: what counting nothing gives; it is a part of `total` and of every layer's count.
        ram_bytes: static RAM; the stack comes on top.
        flash: bytes of the linked image: functions, constants, initial values, everything else.
        stack_bytes: the deepest use of the stack, 0 where the board cannot tell. Interrupts use it too, so
            that it may differ by the registers that one saves.
    """

    board: Board
    unit: Unit
    ram_bytes: int
    flash: Mapping[str, int]
    stack_bytes: int
    total: int
    call: int
    layers: tuple[Layer, ...]

    @property
    def flash_bytes(self) -> int:
        """All of the linked image that lies in flash."""
        return sum(self.flash.values())

    @property
    def trains(self) -> bool:
        """Whether it is of a training step."""
        return any(layer.phase != "forward" for layer in self.layers)

    @property
    def what(self) -> str:
        """What was counted, in words."""
        return "training step" if self.trains else "inference"

    def phase_count(self, phase: PartPhase) -> int:
        """Return the sum over the layers of one phase."""
        return sum(layer.count for layer in self.layers if layer.phase == phase)

    @property
    def energy_uj(self) -> float | None:
        """Energy in microjoules estimated from the board's active power; None where time is not known."""
        power, clock = self.board.power, self.board.clock_hz
        if power is None or self.unit == "instructions":
            return None
        if self.unit == "ns":
            return power.estimate_uj(self.total * 1e-9)
        return None if clock is None else power.estimate_uj(self.total / clock)

    @property
    def energy_source(self) -> str | None:
        """What the energy is estimated from, where it is."""
        power = self.board.power
        if self.energy_uj is None or power is None:
            return None
        return power.estimate_source

    def describe(self) -> dict[str, Any]:
        """Return what ``profile --json`` prints; the keys are stable."""
        described = {
            "board": self.board.id,
            "unit": self.unit,
            "ram_bytes": self.ram_bytes,
            "flash_bytes": self.flash_bytes,
            "flash": dict(self.flash),
            "stack_bytes": self.stack_bytes,
            "total": self.total,
            "call": self.call,
            "layers": [vars(layer) for layer in self.layers],
        }
        if self.energy_uj is not None:
            described |= {
                "energy_uj": self.energy_uj,
                "energy_source": self.energy_source,
                "estimated": True,
            }
        return described


@dataclass(frozen=True)
class _Clock:
    """How ticks become the profile's unit."""

    unit: Unit
    per_tick: float

    def count(self, ticks: int) -> int:
        return round(ticks * self.per_tick)


def profile(
    plan: Plan,
    port: str | None = None,
    *,
    hyper: Hyper | None = None,
    seed: int = 0,
    log: Callable[[str], None] | None = None,
) -> Profile:
    """Count every step of an inference, or of a training step if the plan learns.

    What goes through is random; the weights learn from it. On an emulated board the counts are exact and
    the same each time, where the port's timer does not interrupt to count on (docs/profile.md).

    Args:
        plan: what the firmware is made from.
        port: of a real board that runs this plan's firmware; else the board is started here, or the one that
            is connected is taken, and flashed if need be.
        hyper: of the training step, at the end of which the weights are always updated.
        seed: of the sample.
        log: takes each line that the board prints.

    Raises:
        BoardError: a tool is missing, the build fails, the board cannot be started or counts nothing.
        LinkError: the port cannot be opened, does not answer, or loses too much.
    """
    board = plan.board
    boards.check_port(board)
    if port is not None and board.runs_in:
        raise BoardError(
            f"{board.id} runs on this computer and is counted only where it is started; leave out --port"
        )
    with tempfile.TemporaryDirectory(prefix="fieldtune-") as folder:
        project = Path(folder) / "project"
        write_project(plan, project)
        say(f"building firmware for {board.id}")
        firmware = boards.build(project, board)
        with _open(plan, project, firmware, port, log) as (device, clock):
            run = random_work(plan, device, seed, hyper)
            total, call, ticks = _count(
                run, len(parts_of(plan)), passes=_NATIVE_PASSES if board.arch == "host" else 1
            )
            stack = device.memory().stack_used
        return Profile(
            board,
            clock.unit,
            plan.ram_bytes,
            _flash(firmware),
            stack,
            clock.count(total),
            clock.count(call),
            tuple(replace(layer, count=clock.count(taken)) for layer, taken in _layers(plan, call, ticks)),
        )


@contextlib.contextmanager
def _open(
    plan: Plan, project: Path, firmware: Firmware, port: str | None, log: Callable[[str], None] | None
) -> Iterator[tuple[Device, _Clock]]:
    board = plan.board
    if not board.runs_in:
        with connect(plan, project, port, log) as device:
            yield device, _clock(board, device.hello.ticks_hz)
        return
    shift = _exact_shift(board, firmware) if "qemu" in board.runs_in else None
    with (
        boards.start(firmware.elf, board, icount=shift) as running,
        Device.open(
            running.url,
            plan_hash=plan.hash(),
            log=log,
            timing=_UNDISTURBED,
            initial=first_values(plan),
        ) as device,
    ):
        rate = device.hello.ticks_hz
        yield (
            device,
            _clock(board, rate) if shift is None else _Clock("instructions", 1e9 / (rate * 2**shift)),
        )


def _clock(board: Board, ticks_hz: int) -> _Clock:
    if ticks_hz == 0:
        raise BoardError(f"{board.id} does not tell how long its ticks are, so nothing can be counted there")
    return _Clock("cycles", 1.0) if ticks_hz == board.clock_hz else _Clock("ns", 1e9 / ticks_hz)


def _exact_shift(board: Board, firmware: Firmware) -> int:
    """Return the smallest `icount` at which the board's ticks tell single instructions apart."""
    with boards.start(firmware.elf, board, icount=0) as running, Device.open(running.url) as device:
        rate = device.hello.ticks_hz
    return next(shift for shift in range(32) if rate * 2**shift > _TICKS_AN_INSTRUCTION * 1e9)


def random_work(plan: Plan, device: Device, seed: int, hyper: Hyper | None) -> Work:
    """Return what is run: a training step if the plan learns, else an inference, on a random sample."""
    sample = _random_sample(plan, seed)
    return Training(device, sample, hyper) if plan.graph.trained else Inference(device, sample)


class Inference:
    """Runs pieces of an inference on one sample; `begin` comes before each."""

    def __init__(self, device: Device, sample: Sample) -> None:
        self.device = device
        self._sample = sample

    def begin(self) -> None:
        """Send the sample."""
        self.device.put_sample(self._sample)

    def ticks(self, first: int, end: int) -> int:
        """Run parts [first, end) and return the ticks that they took."""
        return self.device.run_inference(first, end)


class Training:
    """The same for the training step that comes first after a reset."""

    def __init__(self, device: Device, sample: Sample, hyper: Hyper | None) -> None:
        self.device = device
        self._sample = sample
        device.set_hyper(replace(hyper or Hyper(_LEARNING_RATE), accumulate=1))

    def begin(self) -> None:
        """Forget what was learned, and send the sample."""
        self.device.reset_weights()
        self.device.put_sample(self._sample)

    def ticks(self, first: int, end: int) -> int:
        """Run parts [first, end) and return the ticks that they took."""
        return self.device.step(0, first, end).ticks


Work = Inference | Training


def _count(run: Work, parts: int, passes: int) -> tuple[int, int, list[int]]:
    """Return the ticks of everything in one go, of nothing, and of each part: the least of some passes."""
    # In one go first: how long that takes is how long the link then waits for a part before it asks again.
    goes = [[(0, parts)], [(0, 0)], [(part, part + 1) for part in range(parts)]]
    rounds = [go for go in goes for _ in range(passes)]
    counted = [_undisturbed(run, pieces) for pieces in progress(rounds, "counting", len(rounds))]
    total, nothing, each = (
        [min(column) for column in zip(*counted[at : at + passes], strict=True)]
        for at in range(0, len(counted), passes)
    )
    return total[0], nothing[0], each


def _undisturbed(run: Work, pieces: list[tuple[int, int]]) -> list[int]:
    """Return the ticks of these pieces, none of which was interrupted by a frame that was sent again."""
    link = run.device.link
    for _ in range(_MOST_TRIES):
        run.begin()
        resent = link.resent_frames
        ticks = [run.ticks(first, end) for first, end in pieces]
        if link.resent_frames == resent:
            return ticks
    raise LinkError(
        f"the line to {run.device.hello.model} lost frames in each of {_MOST_TRIES} attempts to count; "
        "take a better cable, or close what else keeps this computer busy"
    )


def parts_of(plan: Plan) -> Sequence[Part]:
    """Return the parts of which an inference or a training step consists, in the firmware's order."""
    if plan.graph.trained:
        return step_parts(plan)
    return [Part(step.op.name, index) for index, step in enumerate(plan.steps)]


def _layers(plan: Plan, call: int, ticks: Sequence[int]) -> list[tuple[Layer, int]]:
    """Return the ticks of each layer, which has one part or several bands; `call` is in each part's ticks."""
    summed: dict[int | str, tuple[Layer, int]] = {}
    for part, taken in zip(parts_of(plan), ticks, strict=True):
        if part.step in plan.left_out:
            continue
        key = part.name if part.step is None else id(plan.steps[part.step].op)
        layer, before = summed.get(key, (_layer(plan, part), call))
        summed[key] = layer, before + taken - call
    return list(summed.values())


def _layer(plan: Plan, part: Part) -> Layer:
    phase = part_phase(plan, part)
    if part.step is None:
        return Layer(part.name, "state", phase, 0, 0)
    op = plan.steps[part.step].op
    return Layer(part.name, op.kind, phase, OPERATORS[op.kind].macs(op, plan.graph), 0)


def _random_sample(plan: Plan, seed: int) -> Sample:
    """Random inputs; every label counts: class 0, or a random value in (0, 1]."""
    graph = plan.graph
    random = np.random.default_rng(seed)
    sample = dict(random_samples(graph, 1, seed)[0])
    for name in graph.labels:
        shape = graph.shape(name)
        dtype = LABEL_DTYPES[graph.tensors[name].dtype]
        sample[name] = (1 - random.random(shape, np.float32)).astype(dtype)  # as an integer 0
    return sample | {name: np.ones(graph.shape(name), np.uint8) for name in graph.masks}


def _flash(firmware: Firmware) -> dict[str, int]:
    """Return what the linked image consists of, in bytes."""
    placed = read_memory_map(firmware.elf)
    text = {section.name for section in placed.sections if section.kind == "text"}
    functions, constants = (
        covered_bytes(s for s in placed.symbols if s.kind == kind and s.section in text)
        for kind in ("function", "object")
    )
    return {
        "functions": functions,
        "constants": constants,
        "initial_values": firmware.data_bytes,
        "rest": firmware.text_bytes - functions - constants,
    }
