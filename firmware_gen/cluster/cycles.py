"""Cycles of a layer on GAP9's cluster: an estimate. Nothing of ours has run on a GAP9.

What the cores do is counted in instructions: so many for a multiply-accumulate, for an output, for a byte
that is gathered. Times cycles an instruction, shared by the cores, this is the time of all tiles; the DMA
works beside it. What is fitted on what (published.toml):

* DMA: cycles a command and a byte, on three transfers measured in GVSOC. Checked on one the other way.
* Cycles an instruction, of integers and of floats: on six matrix products measured in GVSOC with 8 cores.
  Contention in L1, stalls and branches are in it. Checked by leaving each out.
* From simulator to board: two networks that others ran on both. Only the upper bound has it.

Not fitted, for want of anything published: what a fork, a barrier and a load from L2 take (`FORK`, `BARRIER`,
`L2_LOAD`), which have wide bounds. What L3 gives is not known at all: the board's description may say it,
and only then it counts (:mod:`firmware_gen.cluster.summary`).
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from fieldtune.errors import FieldtuneError
from firmware_gen.cluster.estimate import Estimate
from firmware_gen.cluster.fit import fit, left_out, relative_errors, worst
from firmware_gen.cluster.published import Arithmetic, Product, published
from firmware_gen.step_time import RATES

CORES = 8  # those that work; the ninth hands out the work
SOURCE = "GVSOC pulp-open's cycles an instruction and DMA; nothing measured on a GAP9"


@dataclass(frozen=True)
class Kernel:
    """Instructions of one core: for a multiply-accumulate and for a value that is made.

    They are right within a factor 1 + `doubt`, as far as is known.
    """

    arithmetic: Arithmetic
    mac: float
    output: float
    doubt: float
    source: str


# Kernels with Xpulp's SIMD are counted by our simulator of one core (tools/xpulp_iss), layer by layer of
# µPyD-Net, ResNet8 and DS-CNN, in a training step as well; layers of 3 channels take a third more than
# said here.
# Counts by QEMU are those of portable C on RV32IMAFC (docs/benchmarks.md, firmware_gen/step_time.py). GAP9
# has hardware loops, which save some, and no registers of their own for floats, which cost: convolutions
# take 1.6 instructions a multiply-accumulate there and up to 2.4 here. Hence the doubt.
_RV32 = RATES["riscv", "c", "fpu"]
_QEMU = "counted by QEMU on RV32IMAFC"
_COUNTED = "counted by tools/xpulp_iss"
_CORES = "counted on eight cores by tools/xpulp_iss/pulp_open.c, 3x3 layers of 32 channels, 4 to a core"
_ISS = _COUNTED + " in 3x3 layers of 16 and 32 channels, 4 to a core"
KERNELS: Mapping[str, Kernel] = {
    "conv_i8": Kernel("integer", 14 / 32, 20, 0.15, _COUNTED),
    "pointwise_i8": Kernel("integer", 14 / 32, 12, 0.15, _COUNTED),
    "linear_i8": Kernel("integer", 9 / 16, 14, 0.15, _COUNTED),
    "moving_conv_i8": Kernel("integer", 14 / 32, 26, 0.15, _COUNTED),
    "sums_i8_f32": Kernel("integer", 5, 20, 0.3, _COUNTED + ": portable C, one output channel"),
    "portable_i8": Kernel("integer", _RV32.int8.mac, _RV32.int8.value, 0.3, _QEMU),
    "depthwise_i8": Kernel("integer", 1.5, 12, 0.15, _COUNTED),
    "moving_i8": Kernel("integer", _RV32.moving.mac, _RV32.moving.value, 0.3, _QEMU),
    "conv_grad_w_i8": Kernel("integer", 0.91, 41, 0.15, _COUNTED + "; of the update: " + _QEMU),
    "few_grad_w_i8": Kernel("integer", 4.8, 41, 0.3, _QEMU + ": layers of 1 and 3 channels"),
    "gradient_i16": Kernel("integer", _RV32.wide.mac, _RV32.wide.value, 0.3, _QEMU),
    "add_i8": Kernel("integer", 0, 23, 0.15, _COUNTED),
    "rounded_i8": Kernel("integer", 0, 24, 0.5, _COUNTED + ": masks of gradients, other grids"),
    "pool_i8": Kernel("integer", 1.3, 15, 0.3, _COUNTED),
    "softmax_i8": Kernel("integer", 0, 65, 0.3, _COUNTED),
    "conv_f32": Kernel("float", 2.3, _RV32.float32.value, 0.3, _CORES),
    "conv_grad_x_f32": Kernel("float", 2.4, _RV32.float32.value, 0.3, _CORES),
    "conv_grad_w_f32": Kernel("float", 1.85, _RV32.float32.value, 0.3, _CORES),
    "depthwise_f32": Kernel("float", 2.5, _RV32.float32.value, 0.3, _QEMU),
    "linear_f32": Kernel("float", 2.6, _RV32.float32.value, 0.3, _QEMU),
    "linear_grad_w_f32": Kernel("float", 8.6, 0, 0.3, _QEMU + ", with the update"),
    "elementwise_f32": Kernel("float", 0, _RV32.other, 0.5, _QEMU),
    "bias_grad": Kernel("integer", 0, 4.1, 0.3, _QEMU),
    "square_sum": Kernel("float", 0, 4, 0.3, _QEMU),
    **{
        f"{optimizer}_{dtype}": Kernel("float", 0, count, 0.3, _QEMU + ": updates that waited")
        for optimizer, counts in {"sgd": (11, 26, 53), "adam": (66, 91, 134)}.items()
        for dtype, count in zip(("f32", "bf16", "i8"), counts, strict=True)
    },
    "loss": Kernel("float", 0, 50, 0.3, _QEMU + ": berHu 45, cross-entropy 56 a class"),
    "quantize": Kernel("float", 0, _RV32.quantize, 0.3, _QEMU),
    "conv_f16": Kernel("float", 0.92, 45, 0.15, _ISS + ", rounding of maps included"),
    "conv_grad_w_f16": Kernel("float", 1.26, 0, 0.15, _ISS + ", rounding of maps included"),
    "other": Kernel("integer", 3, 50, 1.0, "a guess"),
}
# Gathering a byte of a window, with the padding looked after: counted, see above.
GATHER_INSTRUCTIONS = 1.0
# Adding up a value in order: a load, the addition, the loop.
ADD_INSTRUCTIONS = 4.0
# Rounding a value to binary16, with its share of finding the power of two: 8 to 11 by tools/xpulp_iss.
ROUND_INSTRUCTIONS = 10.0
# Weights that learn in int8, when the layer runs: packing and summing one, by tools/xpulp_iss; turning it
# for the gradient besides, by QEMU.
PACK_INSTRUCTIONS = 16.0
TURN_INSTRUCTIONS = 30.0
LOADS = 6 / 14  # share of a kernel's instructions that load: as in the inner loop of 4 x 2


@dataclass(frozen=True)
class Bounds:
    """A cost that is not measured: what is taken for it, at least and at most."""

    value: float
    low: float
    high: float


# The most is what AutoTiler's smallest additions take beside their work in the vendor's log, tiling and
# DMA commands included (autotiler.py); the least is a dozen instructions on each side.
FORK = Bounds(200, 50, 1200)
BARRIER = Bounds(30, 10, 200)
L2_LOAD = Bounds(10, 5, 20)  # cycles that a load waits; 10 is what DORY's model of GAP9 says


@dataclass(frozen=True)
class Transfer:
    """Bytes that the DMA moves between L2 and L1, and with how many commands."""

    bytes: int = 0
    commands: int = 0


@dataclass(frozen=True)
class Work:
    """The work of one layer.

    `kernel` names one of KERNELS or is one. `macs`, `outputs`: of the whole layer. `gathered`: bytes that are
    copied together before they are multiplied (im2col). `once`: weights and tables that come to L1 before the
    first tile; `read`, `written`: rows of all tiles together. `forks`, `barriers`: of all tiles together.
    `balance`: the busiest core's share of the work over the mean share. `rounded`: values that are rounded to
    binary16, those of each map once left out, in all tiles and by all cores. `alone`: values that the first
    core adds up besides. `prepared`: instructions of all cores before the first tile. `waits`: values that
    are loaded from L2. `in_l2`: all loads are, as the layer has no tiles.
    """

    kernel: str | Kernel
    macs: int
    outputs: int
    tiles: int = 1
    once: Transfer = field(default_factory=Transfer)
    read: Transfer = field(default_factory=Transfer)
    written: Transfer = field(default_factory=Transfer)
    gathered: int = 0
    forks: int = 1
    barriers: int = 0
    cores: int = CORES
    balance: float = 1.0
    rounded: int = 0
    alone: int = 0
    prepared: float = 0.0
    waits: int = 0
    in_l2: bool = False


@dataclass(frozen=True)
class Rates:
    """One set of what everything costs, in cycles. `doubt`: the power of a kernel's 1 + doubt."""

    instruction: Mapping[Arithmetic, float]
    fork: float
    barrier: float
    l2_load: float
    doubt: int
    board: float


@functools.cache
def dma_rates() -> tuple[float, float]:
    """Return the cycles of a DMA command and of a byte."""
    measured = published().dma_read
    command, byte = fit([(1, size) for size, _ in measured], [cycles for _, cycles in measured])
    return float(command), float(byte)


def dma_cycles(transfer: Transfer) -> float:
    """Return the cycles of all commands of a transfer, one after the other."""
    command, byte = dma_rates()
    return command * transfer.commands + byte * transfer.bytes


def products_of(arithmetic: Arithmetic) -> list[Product]:
    """Return the measured matrix products of integers, or of floats."""
    return [product for product in published().products if product.arithmetic == arithmetic]


@functools.cache
def instruction_cycles(arithmetic: Arithmetic) -> float:
    """Return the cycles of an instruction of one core, while all 8 work."""
    rows = products_of(arithmetic)
    return float(fit([_instructions(row) for row in rows], [_core_cycles(row) for row in rows])[0])


def instruction_errors(arithmetic: Arithmetic) -> list[float]:
    """Return the relative errors of the cycles of each product when it was not fitted on."""
    rows = products_of(arithmetic)
    return relative_errors(left_out(rows, _instructions, _core_cycles), [_core_cycles(row) for row in rows])


@functools.cache
def instruction_doubt() -> float:
    """Return the worst of all errors of left-out products.

    Of floats there are but two, which agree: integers' errors count for them as well.
    """
    return max(worst(instruction_errors("integer")), worst(instruction_errors("float")))


@functools.cache
def board_excess() -> float:
    """Return by which factor a board took longer than the vendor's simulator, at worst."""
    return max(run.board / run.simulated for run in published().simulator_runs)


def find_kernel(name: str) -> Kernel:
    """Return the kernel class of that name.

    Raises:
        FieldtuneError: there is none.
    """
    if name not in KERNELS:
        close = difflib.get_close_matches(name, KERNELS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise FieldtuneError(
            f"the cycle model has no kernel class '{name}'{hint}; take one of {', '.join(KERNELS)}, "
            "or give a Kernel with its counts of instructions"
        )
    return KERNELS[name]


def estimate_cycles(work: Work) -> Estimate:
    """Return the cycles of a layer, from its call to its last output's being in L2.

    Raises:
        FieldtuneError: no such kernel class, or work that cannot be.
    """
    _check(work)
    value, low, high = (_cycles(work, rates) for rates in _scenarios())
    return Estimate(value, low, high, "cycles", SOURCE)


def expected_cycles(work: Work) -> float:
    """Return the value of `estimate_cycles` alone, for work that is known to be possible: to compare."""
    return _cycles(work, _scenarios()[0])


def milliseconds(cycles: Estimate, hertz: float) -> Estimate:
    """Return how long the cycles take."""
    return cycles.scaled(1e3 / hertz, "ms")


def _check(work: Work) -> None:
    if isinstance(work.kernel, str):
        find_kernel(work.kernel)
    if not 1 <= work.cores <= CORES:
        raise FieldtuneError(f"the cluster has 1 to {CORES} cores to work with, not {work.cores}")
    if work.tiles < 1 or work.balance < 1:
        raise FieldtuneError(
            f"a layer has 1 tile or more and its busiest core 1 or more times the mean share, "
            f"not {work.tiles} and {work.balance:g}"
        )


@functools.cache
def _scenarios() -> tuple[Rates, Rates, Rates]:
    """Return what things cost as far as known, at least, and at most."""
    doubt = 1 + instruction_doubt()

    def rates(power: int, fork: float, barrier: float, l2_load: float, board: float) -> Rates:
        each: dict[Arithmetic, float] = {
            "integer": instruction_cycles("integer") * doubt**power,
            "float": instruction_cycles("float") * doubt**power,
        }
        return Rates(each, fork, barrier, l2_load, power, board)

    return (
        rates(0, FORK.value, BARRIER.value, L2_LOAD.value, 1.0),
        rates(-1, FORK.low, BARRIER.low, L2_LOAD.low, 1.0),
        rates(1, FORK.high, BARRIER.high, L2_LOAD.high, board_excess()),
    )


def _cycles(work: Work, rates: Rates) -> float:
    """Return the cycles of a layer: the first tile's rows come, tiles are made, the last one's go."""
    computing = _compute_cycles(work, rates) / work.tiles
    reading = dma_cycles(work.read) / work.tiles
    writing = dma_cycles(work.written) / work.tiles
    between = dma_cycles(work.once) + reading + writing  # while the cores wait
    beside = work.tiles * computing
    if work.tiles > 1:
        # Beside the first tile the second one's rows come, beside the last one those made before go.
        inner = (work.tiles - 2) * max(computing, reading + writing)
        beside = max(computing, reading) + inner + max(computing, writing)
    return (between + beside + work.forks * rates.fork + work.barriers * rates.barrier) * rates.board


def _compute_cycles(work: Work, rates: Rates) -> float:
    """Return the cycles of the busiest core, over all tiles."""
    kernel = find_kernel(work.kernel) if isinstance(work.kernel, str) else work.kernel
    counted = (kernel.mac * work.macs + kernel.output * work.outputs) * (1 + kernel.doubt) ** rates.doubt
    counted += GATHER_INSTRUCTIONS * work.gathered + ROUND_INSTRUCTIONS * work.rounded
    each = rates.instruction[kernel.arithmetic]
    if work.in_l2:
        each += LOADS * rates.l2_load
    shared = counted * each + work.waits * rates.l2_load
    besides = ADD_INSTRUCTIONS * work.alone + work.prepared / work.cores
    return shared * work.balance / work.cores + besides * each


def _instructions(product: Product) -> tuple[float]:
    return (product.instructions(),)


def _core_cycles(product: Product) -> float:
    return CORES * product.mean_cycles
