"""Energy of cycles on GAP9: an estimate. What switches in a cycle is a capacitance C: E = C V² cycles.

With the accelerator NE16, C grows with multiply-accumulates a cycle u as a + b log(1 + u): fitted on the
eight energies of MLPerf Tiny, and checked by leaving out each, each network and each voltage. The form was
chosen among four because it does best on networks that are left out (a line in u is off by a third), so
these errors flatter it a little.

What the generator makes runs on the cores, which take more than NE16 at the same u. Their C is fitted on what
three publications measured of software on the 8 cores; the lower bound is what NE16 would take.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from fieldtune.errors import FieldtuneError
from firmware_gen.cluster.estimate import Estimate
from firmware_gen.cluster.fit import fit, left_out, relative_errors, worst
from firmware_gen.cluster.published import EnergyRun, PowerRun, published

SOURCE = "C V² cycles; C of software that others measured on GAP9, bounds from MLPerf Tiny v1.0"
PICO = 1e-12


@dataclass(frozen=True)
class OperatingPoint:
    """Supply of the chip and clock of cluster and fabric controller."""

    volts: float
    hertz: float

    def __str__(self) -> str:
        return f"{self.volts:.2f} V, {self.hertz / 1e6:g} MHz"


# The two at which public measurements were made.
POINTS: Mapping[str, OperatingPoint] = {
    "0.65V": OperatingPoint(0.65, 240e6),
    "0.80V": OperatingPoint(0.80, 370e6),
}


def find_point(name: str) -> OperatingPoint:
    """Return the operating point of that name.

    Raises:
        FieldtuneError: there is none.
    """
    if name not in POINTS:
        raise FieldtuneError(
            f"there is no operating point '{name}'; energies are known of {', '.join(POINTS)}"
        )
    return POINTS[name]


def shape(mac_per_cycle: float) -> tuple[float, float]:
    """Return the features of the capacitance with NE16."""
    return 1.0, math.log1p(mac_per_cycle)


def run_capacitance(run: EnergyRun) -> float:
    """Return the picofarads of a measured energy."""
    return run.microjoules * 1e-6 / (run.volts**2 * run.cycles) / PICO


def power_capacitance(run: PowerRun) -> float:
    """Return the picofarads of a measured power."""
    return run.milliwatts * 1e-3 / (run.volts**2 * run.mhz * 1e6) / PICO


@functools.cache
def ne16_rates() -> tuple[float, float]:
    """Return a and b of the capacitance with NE16, in picofarads."""
    runs = published().energy_runs
    constant, slope = fit([shape(run.mac_per_cycle) for run in runs], [run_capacitance(run) for run in runs])
    return float(constant), float(slope)


def ne16_errors(
    group: Callable[[EnergyRun], Hashable] | None = None,
    features: Callable[[float], tuple[float, ...]] = shape,
) -> list[float]:
    """Return the relative errors of each energy of MLPerf Tiny when it, or its group, was not fitted on."""
    runs = published().energy_runs
    said = left_out(runs, lambda run: features(run.mac_per_cycle), run_capacitance, group)
    return relative_errors(said, [run_capacitance(run) for run in runs])


@functools.cache
def cores_capacitance() -> float:
    """Return the picofarads of software on 8 cores."""
    runs = published().power_runs
    return float(fit([(1.0,)] * len(runs), [power_capacitance(run) for run in runs])[0])


def cores_errors() -> list[float]:
    """Return the relative errors of each measured power when it was not fitted on."""
    runs = published().power_runs
    return relative_errors(
        left_out(runs, lambda run: (1.0,), power_capacitance), [power_capacitance(run) for run in runs]
    )


def capacitance(mac_per_cycle: float) -> Estimate:
    """Return the picofarads of software at that many multiply-accumulates a cycle."""
    value = cores_capacitance()
    by_network = worst(ne16_errors(lambda run: run.network))
    ne16 = float(np.dot(ne16_rates(), shape(mac_per_cycle))) / (1 + by_network)
    low = min(ne16, value / (1 + worst(cores_errors())))
    return Estimate(value, low, value * (1 + worst(cores_errors())), "pF", SOURCE)


def estimate_microjoules(cycles: Estimate, macs: float, point: OperatingPoint) -> Estimate:
    """Return the energy of `cycles` of software in which `macs` multiply-accumulates are made."""
    each = capacitance(macs / cycles.value)
    volts = point.volts**2 * PICO * 1e6
    return Estimate(
        each.value * volts * cycles.value,
        each.low * volts * cycles.low,
        each.high * volts * cycles.high,
        "µJ",
        f"{SOURCE} at {point}; cycles: {cycles.source}",
    )
