"""Energy of one repetition, from the runs that a trace holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from energy.gates import Run, low_spans
from energy.trace import Floats, Levels, Trace
from fieldtune.errors import DataError

# As MLPerf Tiny's rules ask of an energy measurement: five windows, of which the median counts.
WINDOWS = 5
LEAST_SECONDS = 10.0
LEAST_REPETITIONS = 10
# Below this the rest of a trace tells too little of what the board takes when it waits.
LEAST_IDLE_SECONDS = 1.0
MOST_LOST = 0.05
# Both ends of a run are known to a sample.
LEAST_RUN_SAMPLES = 100


@dataclass(frozen=True)
class Window:
    """Some runs in a row: seconds and joules of all, how often the work was done, samples that were lost."""

    seconds: float
    joules: float
    repetitions: int
    lost: int
    samples: int
    phases: Mapping[str, float]  # joules

    @property
    def uj(self) -> float:
        """Microjoules of one repetition."""
        return self.joules / self.repetitions * 1e6


@dataclass(frozen=True)
class Measured:
    """What traces say of one repetition; medians are of the windows.

    Attributes:
        volts: mean of the supply.
        mean_ma: current in the windows, with its percentiles `p50_ma` and `p95_ma`.
        idle_mw: power beside the runs, None where that is not known.
    """

    traces: tuple[Trace, ...]
    windows: tuple[Window, ...]
    volts: float
    mean_ma: float
    p50_ma: float
    p95_ma: float
    idle_mw: float | None

    @property
    def energy_uj(self) -> float:
        """Microjoules of a repetition, the board's idle power included."""
        return float(np.median([window.uj for window in self.windows]))

    @property
    def seconds(self) -> float:
        """Duration of a repetition."""
        return float(np.median([window.seconds / window.repetitions for window in self.windows]))

    @property
    def net_uj(self) -> float | None:
        """Microjoules of a repetition above what the idle board takes in the same time."""
        if self.idle_mw is None:
            return None
        idle = self.idle_mw * 1e3
        return float(np.median([w.uj - idle * w.seconds / w.repetitions for w in self.windows]))

    @property
    def dropped_percent(self) -> float:
        """Samples that were lost, of all in the traces."""
        return 100 * sum(t.lost for t in self.traces) / sum(len(t.power) for t in self.traces)

    @property
    def phases(self) -> dict[str, float]:
        """Microjoules of a repetition in each phase that has a channel of its own."""
        names = self.windows[0].phases
        return {
            name: float(np.median([w.phases[name] / w.repetitions * 1e6 for w in self.windows]))
            for name in names
        }

    def describe(self) -> dict[str, Any]:
        """Return what ``energy --json`` prints; the keys are stable."""
        instruments = list(dict.fromkeys(trace.instrument for trace in self.traces))
        described: dict[str, Any] = {
            "estimated": False,
            "energy_uj": self.energy_uj,
            "energy_source": f"measured with {', '.join(instruments)}",
            "net_uj": self.net_uj,
            "idle_mw": self.idle_mw,
            "seconds": self.seconds,
            "n": sum(window.repetitions for window in self.windows),
            "window_s": min(window.seconds for window in self.windows),
            "windows": [
                {
                    "seconds": window.seconds,
                    "repetitions": window.repetitions,
                    "energy_uj": window.uj,
                    "dropped_percent": 100 * window.lost / window.samples,
                }
                for window in self.windows
            ],
            "volts": self.volts,
            "mean_ma": self.mean_ma,
            "p50_ma": self.p50_ma,
            "p95_ma": self.p95_ma,
            "instrument": instruments,
            "sample_rate_hz": [trace.rate_hz for trace in self.traces],
            "dropped_percent": self.dropped_percent,
        }
        if self.phases:
            described["phases"] = [
                {"phase": name, "energy_uj": uj, "estimated": False} for name, uj in self.phases.items()
            ]
        return described


def measure(
    runs: Sequence[Run],
    *,
    phases: Mapping[str, str] | None = None,
    debounce: float = 0.0,
    idle_mw: float | None = None,
) -> Measured:
    """Integrate the power over the runs, which become five windows of about as many runs each.

    A lost sample counts as the mean of the others of its run.

    Args:
        runs: in the order of time.
        phases: name -> the digital channel that is low while the phase runs.
        debounce: seconds that a phase's level lasts at least.
        idle_mw: what the board takes when it waits; None takes what the traces have beside the runs.

    Raises:
        DataError: there are too few runs, they are too short, or too many samples were lost.
    """
    groups = [runs[part[0] : part[-1] + 1] for part in np.array_split(range(len(runs)), WINDOWS) if len(part)]
    _check(groups)
    _check_rate(groups)
    marked = {trace: _phase_levels(trace, phases or {}, debounce) for trace in _traces(runs)}
    windows = tuple(_window(group, marked) for group in groups)
    inside = np.concatenate([run.trace.current[run.start : run.end] for run in runs]) * 1e3
    inside = inside[~np.isnan(inside)]
    traces = _traces(runs)
    p50, p95 = np.percentile(inside, [50, 95])
    return Measured(
        traces,
        windows,
        float(np.mean([trace.volts for trace in traces])),
        float(inside.mean()),
        float(p50),
        float(p95),
        _idle_mw(runs) if idle_mw is None else idle_mw,
    )


def _traces(runs: Sequence[Run]) -> tuple[Trace, ...]:
    return tuple({id(run.trace): run.trace for run in runs}.values())


def _check(groups: Sequence[Sequence[Run]]) -> None:
    seconds = min(sum(run.seconds for run in group) for group in groups)
    repetitions = min(sum(run.repetitions for run in group) for group in groups)
    # Half a sample at both ends is no reason to refuse a window of ten seconds.
    slack = max(1 / run.trace.rate_hz for group in groups for run in group)
    if len(groups) < WINDOWS or seconds < LEAST_SECONDS - slack or repetitions < LEAST_REPETITIONS:
        raise DataError(
            f"the traces hold {len(groups)} of {WINDOWS} windows, the shortest of {seconds:.3g} s and "
            f"{repetitions} repetitions, and {WINDOWS} of {LEAST_SECONDS:g} s and {LEAST_REPETITIONS} "
            "repetitions are needed; measure for longer, or say with --repetitions how many a run has"
        )


def _check_rate(groups: Sequence[Sequence[Run]]) -> None:
    samples = min(sum(run.end - run.start for run in group) / len(group) for group in groups)
    if samples < LEAST_RUN_SAMPLES:
        raise DataError(
            f"a run has {samples:.0f} samples, and at least {LEAST_RUN_SAMPLES} are needed, because its ends "
            "are known to a sample; record at a higher rate, or let a run hold more repetitions"
        )


def _window(group: Sequence[Run], marked: Mapping[Trace, Mapping[str, Levels]]) -> Window:
    names = next(iter(marked.values()))
    parts = [_joules(run, None) for run in group]
    phases = {name: sum(_joules(run, marked[run.trace][name]) for run in group) for name in names}
    lost = sum(int(np.count_nonzero(np.isnan(run.trace.power[run.start : run.end]))) for run in group)
    samples = sum(run.end - run.start for run in group)
    if lost > MOST_LOST * samples:
        raise DataError(
            f"{group[0].trace.path} has lost {100 * lost / samples:.1f} % of a window's samples, and up to "
            f"{100 * MOST_LOST:g} % count; use another USB port or a lower rate, and record again"
        )
    return Window(
        sum(run.seconds for run in group),
        sum(parts),
        sum(r.repetitions for r in group),
        lost,
        samples,
        phases,
    )


def _joules(run: Run, where: Levels | None) -> float:
    """Return the energy of a run, or of the samples of it that `where` marks."""
    power: Floats = run.trace.power[run.start : run.end]
    if where is not None:
        power = power[where[run.start : run.end]]
    known = power[~np.isnan(power)]
    if len(power) == 0:
        return 0.0
    if len(known) == 0:
        raise DataError(f"{run.trace.path} has lost all samples of a run; record again")
    return float(known.mean()) * len(power) / run.trace.rate_hz


def _phase_levels(trace: Trace, phases: Mapping[str, str], debounce: float) -> dict[str, Levels]:
    marked = {}
    for name, channel in phases.items():
        if channel not in trace.high:
            raise DataError(
                f"{trace.path} has no channel '{channel}' for phase {name}; it has {', '.join(trace.high)}"
            )
        marked[name] = np.zeros(len(trace.power), np.bool_)
        for start, end in low_spans(trace.high[channel], debounce * trace.rate_hz):
            marked[name][start:end] = True
    return marked


def _idle_mw(runs: Sequence[Run]) -> float | None:
    """Return the mean power of the traces beside the runs, if that is long enough."""
    parts, seconds = [], 0.0
    for trace in _traces(runs):
        beside = ~np.isnan(trace.power)
        for run in runs:
            if run.trace is trace:
                beside[run.start : run.end] = False
        parts.append(trace.power[beside])
        seconds += len(parts[-1]) / trace.rate_hz
    if seconds < LEAST_IDLE_SECONDS:
        return None
    weights = [len(part) / trace.rate_hz for part, trace in zip(parts, _traces(runs), strict=True)]
    means = [part.mean() if len(part) else 0.0 for part in parts]
    return float(np.average(means, weights=weights)) * 1e3
