"""How long an inference or a training step takes, told before any build: an estimate.

Instructions come from multiply-accumulates and values, at rates that QEMU counted over whole networks
(benchmarks/step_time.py compares estimate and count), and time from one instruction a cycle. A core takes
longer where its flash is slow, and less where it issues two instructions at once: `fieldtune profile` on the
board itself tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from boards import Board, Isa
from boards.board import Arch
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.conv2d_f16 import F16_OPERATORS
from firmware_gen.schedule import Step, layers

# Operators whose output lies, as a rule, where the input is or where the parts were made.
FREE = ("slice", "reshape", "concat")
# Those that divide and round every value.
QUANTIZERS = ("quantize", "quantize_gradient")
HALF_KINDS = tuple(operator.kind for operator in F16_OPERATORS.values())


@dataclass(frozen=True)
class Work:
    """Instructions of a layer with weights, for each multiply-accumulate and for each value that it makes."""

    mac: float
    value: float


@dataclass(frozen=True)
class Rates:
    """Instructions on a kind of core.

    `moving`: of int8 layers on grids that move; `wide`: of those that carry gradients of 16 bits; `quantize`,
    `other`: of layers without weights, for each value.
    """

    float32: Work
    int8: Work
    moving: Work
    wide: Work
    quantize: float
    other: float


# What counts besides instruction sets: floats in software, and the small multiplier of an Armv6-M core, which
# software needs several times for a product. Behind a ReLU half the factors are 0 and cost less: elsewhere
# an Arm core takes up to half as many instructions again.
Kind = Literal["fpu", "soft", "soft-small"]
SMALL_CORES = ("Cortex-M0", "Cortex-M0+", "Cortex-M1", "Cortex-M23")

RATES: Mapping[tuple[Arch, Isa, Kind], Rates] = {
    ("arm", "dsp", "fpu"): Rates(Work(1.30, 10), Work(0.93, 22), Work(0.95, 43), Work(0.97, 63), 40, 10),
    ("arm", "mve", "fpu"): Rates(Work(0.64, 9), Work(0.12, 9), Work(0.14, 15), Work(2.76, 67), 40, 10),
    ("arm", "c", "soft"): Rates(Work(74, 75), Work(2.4, 30), Work(2.4, 60), Work(2.8, 75), 400, 50),
    ("arm", "c", "soft-small"): Rates(
        Work(165, 165), Work(5.8, 160), Work(4.8, 120), Work(5.6, 150), 700, 100
    ),
    ("riscv", "c", "soft"): Rates(Work(150, 20), Work(2.70, 25), Work(2.67, 56), Work(3.96, 57), 400, 100),
    ("riscv", "xpulp", "fpu"): Rates(Work(1.60, 8), Work(0.53, 17), Work(0.53, 24), Work(3.96, 57), 40, 10),
    # GAP8: int8 as on GAP9, floats as on RV32IMC; the two were not counted together.
    ("riscv", "xpulp", "soft"): Rates(
        Work(150, 20), Work(0.53, 17), Work(0.53, 24), Work(3.96, 57), 400, 100
    ),
    ("riscv", "c", "fpu"): Rates(Work(1.60, 8), Work(2.70, 25), Work(2.67, 56), Work(3.96, 57), 30, 10),
}
# Of float layers with products in binary16, where the core has a unit for single floats. In software each
# product takes about six operations on floats: not counted.
HALF: Mapping[Isa, Work] = {
    "c": Work(53, 50),
    "dsp": Work(43, 50),
    "mve": Work(44, 50),
    "xpulp": Work(1.15, 45),
}
SOFT_OPERATIONS = 6


def instructions(step: Step, board: Board) -> float:
    """Return roughly how many instructions the layer of `step` takes, made whole; 0 on a computer."""
    op, tensors = step.op, step.graph.tensors
    rates = _rates(board)
    if rates is None or op.kind in FREE:
        return 0.0
    made = sum(tensors[name].count for name in op.outputs)
    macs = OPERATORS[op.kind].macs(op, step.graph)
    if macs:
        work = _half(board, rates) if op.kind in HALF_KINDS else _work(step, rates)
        return work.mac * macs + work.value * made
    rate = rates.quantize if op.kind in QUANTIZERS else rates.other
    return rate * max((made, *(tensors[name].count for name in op.inputs)))


# Cycles that an instruction takes of each core of a cluster; `firmware_gen.cluster.cycles` knows better,
# but has to look at every layer's tiles.
CLUSTER_CYCLES = 1.6


def seconds(count: float, board: Board) -> float | None:
    """Return how long `count` instructions take, None where clock, core or its cycles are not known.

    At one a cycle; those of a cluster are divided among its cores.
    """
    if not board.clock_hz or _rates(board) is None:
        return None
    if board.cluster and board.cluster.cycle_model == "none":
        return None
    return count / board.clock_hz * (CLUSTER_CYCLES / board.cluster.cores if board.cluster else 1.0)


def step_instructions(steps: Sequence[Step], board: Board) -> float:
    """Return roughly how many instructions all steps take."""
    return sum(instructions(step, board) for step in layers(steps))


def _rates(board: Board) -> Rates | None:
    """Return the rates of the board's core, None where nothing like it was counted."""
    if board.cluster is not None:  # also where a computer plays it: its tiles are to be the same
        return RATES["riscv", "xpulp", "fpu" if board.fpu else "soft"]
    soft: Kind = "soft-small" if board.core in SMALL_CORES else "soft"
    return RATES.get((board.arch, board.isa, "fpu" if board.fpu else soft))


def _half(board: Board, rates: Rates) -> Work:
    """Return the work of a layer with products in binary16."""
    if board.cluster is not None:
        return HALF["xpulp"]
    slow = rates.float32
    return HALF[board.isa] if board.fpu else Work(SOFT_OPERATIONS * slow.mac, slow.value)


def _work(step: Step, rates: Rates) -> Work:
    op, constants = step.op, step.graph.constants
    if not op.constants or constants[op.constants[0]].value.dtype != np.int8:
        return rates.float32
    if step.graph.tensors[op.inputs[0]].dtype == "i16":
        return rates.wide
    learns = not op.outputs  # gradients of int8 weights
    return rates.moving if learns or step.graph.tensors[op.outputs[0]].range else rates.int8
