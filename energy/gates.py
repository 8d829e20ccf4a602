"""When the work that is measured ran: by the level or the falls of a digital channel, or by time stamps."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from energy.provenance import STAMPS_PREFIX
from energy.trace import Levels, Trace
from fieldtune.errors import DataError, UserError

# Seconds since 1970 are larger, seconds since a trace began are not.
_UNIX = 1e9


@dataclass(frozen=True)
class Run:
    """Samples [start, end) of `trace`, during which the work was done `repetitions` times."""

    trace: Trace
    start: int
    end: int
    repetitions: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start) / self.trace.rate_hz


def gated(trace: Trace, channel: str | None, pulses: bool, debounce: float, repetitions: int) -> list[Run]:
    """Return the runs that a digital channel marks.

    Args:
        trace: what was recorded.
        channel: its name; None for the only one that falls.
        pulses: a fall begins a run and the next one ends it; else the channel is low during a run.
        debounce: seconds; a level that is shorter is none, a fall that is nearer to the one before is none.
        repetitions: of a run.

    Raises:
        DataError: no such channel, or no run that is whole.
    """
    channel = _channel(trace, channel)
    high, hold = trace.high[channel], debounce * trace.rate_hz
    paired = pulses or trace.moments
    found = _pairs(trace, channel, hold) if paired else low_spans(high, hold, whole=True)
    if not found:
        raise DataError(f"channel {channel} of {trace.path} marks no run from its beginning to its end")
    return [Run(trace, start, end, repetitions) for start, end in found]


def low_spans(high: Levels, hold: float, *, whole: bool = False) -> list[tuple[int, int]]:
    """Return the samples [start, end) in which a channel is low.

    Args:
        high: its level.
        hold: samples; a level that is shorter is as the one before.
        whole: leave out what is low at the beginning or at the end of the trace.
    """
    bounds = [0, *(np.flatnonzero(high[1:] != high[:-1]) + 1).tolist(), len(high)]
    changes = [(0, bool(high[0]))]
    for start, end in itertools.pairwise(bounds):
        level = bool(high[start])
        if level != changes[-1][1] and end - start >= hold:
            changes.append((start, level))
    ends = [start for start, _ in changes[1:]] + [len(high)]
    spans = [(start, end) for (start, level), end in zip(changes, ends, strict=True) if not level]
    return [span for span in spans if not whole or (span[0] > 0 and span[1] < len(high))]


def _pairs(trace: Trace, channel: str, hold: float) -> list[tuple[int, int]]:
    high = trace.high[channel]
    falls: list[int] = []
    for fall in (np.flatnonzero(high[:-1] & ~high[1:]) + 1).tolist():
        if not falls or fall - falls[-1] >= hold:
            falls.append(fall)
    if len(falls) % 2:
        raise DataError(
            f"channel {channel} of {trace.path} falls {len(falls)} times, and one fall begins a run, the "
            "next ends it; record whole runs"
        )
    return list(zip(falls[::2], falls[1::2], strict=True))


def _channel(trace: Trace, channel: str | None) -> str:
    if not trace.high:
        raise DataError(
            f"{trace.path} has no digital channel; record one that marks the runs, or give --stamps"
        )
    if channel is not None:
        if channel not in trace.high:
            raise DataError(f"{trace.path} has no channel '{channel}'; it has {', '.join(trace.high)}")
        return channel
    falling = [name for name, high in trace.high.items() if np.any(high[:-1] & ~high[1:])]
    if len(falling) != 1:
        what = f"{', '.join(falling)} fall" if falling else "no channel falls"
        raise DataError(f"{trace.path}: {what}, so what marks the runs is not clear; choose with --gpio")
    return falling[0]


def stamped(trace: Trace, stamps: Path) -> list[Run]:
    """Return the runs that a table ``start,stop,repetitions`` lists and that lie within the trace.

    Times are seconds: since the trace began, or Unix times if the trace knows when it began.

    Raises:
        DataError: the table cannot be read, or no run of it lies within the trace.
    """
    runs = []
    for start, stop, repetitions in _stamps(stamps):
        if start >= _UNIX:
            if trace.began is None:
                raise DataError(
                    f"{trace.path} does not tell when it began, so that the Unix times of {stamps} mean "
                    "nothing in it; record to .ppk2 or .jls, or mark runs with a digital channel"
                )
            start, stop = start - trace.began, stop - trace.began
        first, end = round(start * trace.rate_hz), round(stop * trace.rate_hz)
        if first >= 0 and end <= len(trace.power):
            runs.append(Run(trace, first, end, repetitions))
    if not runs:
        raise DataError(f"no run of {stamps} lies within {trace.path}; are they of the same measurement?")
    return runs


def _stamps(path: Path) -> Sequence[tuple[float, float, int]]:
    with path.open(newline="", encoding="utf-8") as stream:
        lines = stream.readlines()
    above = int(bool(lines) and lines[0].startswith(STAMPS_PREFIX))
    rows = list(csv.reader(lines[above:]))
    if not rows or [cell.strip() for cell in rows[0]] != ["start", "stop", "repetitions"]:
        raise UserError(f"{path} does not begin with the line start,stop,repetitions; write it so")
    found: list[tuple[float, float, int]] = []
    for number, row in enumerate(rows[1:], above + 2):
        try:
            start, stop, repetitions = float(row[0]), float(row[1]), int(row[2])
        except (ValueError, IndexError) as error:
            raise UserError(
                f"line {number} of {path} is not two times and a number of repetitions"
            ) from error
        if not (0 <= start < stop < float("inf") and repetitions > 0):
            raise UserError(f"line {number} of {path} stops before it starts, or repeats nothing; mend it")
        if found and start < found[-1][1]:
            raise UserError(f"line {number} of {path} starts before the one before it stops; mend it")
        found.append((start, stop, repetitions))
    return found
