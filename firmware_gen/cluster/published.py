"""What others published about GAP9 and what GVSOC told us: published.toml, read into tables.

The model of cycles and energy is fitted on parts of these tables and checked on the others
(benchmarks/gap9_model.py prints which).
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Arithmetic = Literal["integer", "float"]

FILE = Path(__file__).with_name("published.toml")


@dataclass(frozen=True)
class Product:
    """A matrix product whose cycles were counted on 8 cores, and the instructions that it takes.

    `counted`: the instructions were counted in its loop; else worked out from what it must do.
    """

    name: str
    arithmetic: Arithmetic
    macs: int
    outputs: int
    cycles: tuple[int, ...]
    mac_instructions: float
    output_instructions: float
    counted: bool

    @property
    def mean_cycles(self) -> float:
        """The middle of the cycles that were seen."""
        return (min(self.cycles) + max(self.cycles)) / 2

    def instructions(self, output_instructions: float | None = None) -> float:
        """Return the instructions of all cores together; an output's are `output_instructions` if given."""
        each = self.output_instructions if output_instructions is None else output_instructions
        return self.macs * self.mac_instructions + self.outputs * each


@dataclass(frozen=True)
class Convolution:
    """A convolution of square maps and its cycles on 8 cores. A linear layer is one of a single pixel."""

    name: str
    channels_in: int
    channels_out: int
    kernel: int
    size: int
    stride: int
    cycles: int

    @property
    def outputs(self) -> int:
        """Values made."""
        return self.size**2 * self.channels_out

    @property
    def weights(self) -> int:
        """Weights, biases left out."""
        return self.channels_in * self.channels_out * self.kernel**2

    @property
    def macs(self) -> int:
        """Multiply-accumulates, taps in the padding included."""
        return self.size**2 * self.weights


@dataclass(frozen=True)
class Layer:
    """A layer without weights: the values that it reads of one input, and its cycles on 8 cores."""

    name: str
    values: int
    cycles: int


@dataclass(frozen=True)
class OtherKernel:
    """A layer of the same software whose kernel is another one."""

    name: str
    macs: int
    outputs: int
    weights: int
    cycles: int


@dataclass(frozen=True)
class Network:
    """A whole network: cycles and multiply-accumulates."""

    name: str
    cycles: int
    macs: int


@dataclass(frozen=True)
class Rate:
    """Multiply-accumulates a cycle on 8 cores; `kernel`: our kernel class that is held against it."""

    name: str
    mac_per_cycle: float
    kernel: str = ""


@dataclass(frozen=True)
class SimulatorRun:
    """Cycles of one network in the vendor's simulator and on its board."""

    name: str
    simulated: int
    board: int


@dataclass(frozen=True)
class EnergyRun:
    """A network with NE16 on the evaluation kit, at one operating point: medians."""

    network: str
    mac_per_cycle: float
    volts: float
    mhz: float
    milliseconds: float
    microjoules: float

    @property
    def cycles(self) -> float:
        """Clock cycles of one inference."""
        return self.mhz * 1e3 * self.milliseconds


@dataclass(frozen=True)
class PowerRun:
    """Measured power of software on the 8 cores. `inferred`: the operating point is not in the source."""

    name: str
    source: str
    volts: float
    mhz: float
    milliwatts: float
    inferred: bool


@dataclass(frozen=True)
class Published:
    """All tables. `sources`: where each of them comes from, by its name in the file."""

    dma_read: tuple[tuple[int, int], ...]
    dma_write: tuple[tuple[int, int], ...]
    products: tuple[Product, ...]
    core_rates: tuple[tuple[int, float], ...]
    peaks: tuple[Rate, ...]
    training_steps: tuple[Rate, ...]
    fp16_over_fp32: float
    convolutions: tuple[Convolution, ...]
    additions: tuple[Layer, ...]
    other_layers: tuple[Layer, ...]
    other_kernel: OtherKernel
    total: int
    simulator_runs: tuple[SimulatorRun, ...]
    networks: tuple[Network, ...]
    energy_runs: tuple[EnergyRun, ...]
    power_runs: tuple[PowerRun, ...]
    sources: dict[str, str]


@functools.cache
def published() -> Published:
    """Return the tables of published.toml."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    tiler = tables["autotiler"]
    other = {key: value for key, value in tiler["other_kernel"].items() if key != "source"}
    return Published(
        dma_read=tuple((size, cycles) for size, cycles in tables["dma"]["read"]),
        dma_write=tuple((size, cycles) for size, cycles in tables["dma"]["write"]),
        products=tuple(
            Product(**{**entry, "cycles": tuple(entry["cycles"])}) for entry in tables["products"]["kernel"]
        ),
        core_rates=tuple((cores, rate) for cores, rate in tables["cores"]["mac_per_cycle"]),
        peaks=tuple(Rate(*row) for row in tables["peaks"]["kernels"]),
        training_steps=tuple(Rate(*row) for row in tables["training"]["steps"]),
        fp16_over_fp32=tables["training"]["fp16_over_fp32"],
        convolutions=tuple(Convolution(*row) for row in tiler["convolutions"]),
        additions=tuple(Layer(*row) for row in tiler["additions"]),
        other_layers=tuple(Layer(*row) for row in tiler["others"]),
        other_kernel=OtherKernel(**other),
        total=tiler["total"],
        simulator_runs=tuple(SimulatorRun(*row) for row in tables["board"]["runs"]),
        networks=tuple(Network(*row) for row in tables["ares"]["convolutional"]),
        energy_runs=tuple(EnergyRun(*row) for row in tables["mlperf"]["runs"]),
        power_runs=tuple(PowerRun(**entry) for entry in tables["software_power"]["run"]),
        sources={name: table["source"] for name, table in tables.items()},
    )
