"""Logs of ST's X-NUCLEO-LPM01A: what its serial port sent, commands' answers included (UM2243).

In ``format ascii_dec`` a line is a sample: a mantissa and a power of ten, ``6409-07`` for 640.9e-6, in
amperes (``output current``) or in joules since the sample before (``output energy``). Between them come
``TimeStamp: 001s 000ms, buff 00%`` and, with ``eventsrc d7``, ``event 1 ris`` or ``fal`` for an edge. The
answers ``PowerShield > ack freq 1k`` and so on tell what was set. The lines are as MLPerf Tiny's runner reads
them
(github.com/mlcommons/tiny, benchmark/runner).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from energy.trace import Trace, make_trace
from fieldtune.errors import DataError

EVENTS = "D7"
_ACK = re.compile(r"\back (freq|output|volt|format) +(\S+)")
_SAMPLE = re.compile(r"(\d{1,5})([+-]\d{1,2})")
_STAMP = re.compile(r"TimeStamp: (\d+)s (\d+)ms, buff +(\d+)%")
_EVENT = re.compile(r"event (\d+) (ris|fal)")
_SCALE = {"": 1.0, "k": 1e3, "m": 1e-3}
_STAMP_SECONDS = 1e-3


def recognizes(head: bytes) -> bool:
    """Tell whether a file begins with what an LPM01A answers."""
    return b"ack " in head and b"PowerShield" in head


@dataclass
class _Log:
    settings: dict[str, str] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    stamps: list[tuple[float, int]] = field(default_factory=list)  # seconds, values so far
    events: list[int] = field(default_factory=list)  # values so far


def read(path: Path, volts: float | None) -> Trace:
    """Return the trace; the voltage is the one that was set.

    Raises:
        DataError: the log lacks the answers to freq and output, is not ascii_dec, or tells of an error.
    """
    log = _parse(path)
    if log.settings.get("format", "ascii_dec") != "ascii_dec":
        raise DataError(
            f"{path} is not text: it was recorded with format {log.settings['format']}; use ascii_dec"
        )
    missing = [name for name in ("freq", "output") if name not in log.settings]
    if missing:
        raise DataError(
            f"{path} has no answer to '{missing[0]}'; keep the log from before the instrument is set up"
        )
    rate = _number(path, log.settings["freq"])
    if "volt" in log.settings:
        if volts is not None:
            raise DataError(f"{path} has its own voltage; leave out --volts")
        volts = _number(path, log.settings["volt"])
    if volts is None:
        raise DataError(f"{path} has no answer to 'volt'; give the supply's, such as --volts 3.3")
    if not log.values:
        raise DataError(f"{path} has no samples; record again")
    values, events = _whole(log, rate)
    if log.settings["output"] == "energy":
        values = values * rate / volts
    elif log.settings["output"] != "current":
        raise DataError(f"{path} is of output {log.settings['output']}; record current or energy")
    levels = {EVENTS: np.ones(len(values), np.int8)} if events else {}
    for event in events:
        levels[EVENTS][min(event, len(values) - 1)] = 0
    return make_trace(path, "ST LPM01A", rate, values, volts=volts, levels=levels, moments=bool(events))


def _parse(path: Path) -> _Log:
    log = _Log()
    for line in path.read_text(errors="replace").replace("\0", "").splitlines():
        text = line.strip()
        if sample := _SAMPLE.fullmatch(text):
            log.values.append(int(sample[1]) * 10.0 ** int(sample[2]))
        elif stamp := _STAMP.search(text):
            log.stamps.append((int(stamp[1]) + int(stamp[2]) / 1e3, len(log.values)))
        elif _EVENT.search(text):
            log.events.append(len(log.values))
        elif answer := _ACK.search(text):
            log.settings[answer[1]] = answer[2]
        elif text.lower().startswith("error") or "> error" in text:
            raise DataError(f"{path} tells of an error of the instrument: {text}; record again")
    return log


def _number(path: Path, text: str) -> float:
    match = re.fullmatch(r"(\d+)([km]?)", text)
    if match is None or int(match[1]) == 0:
        raise DataError(f"{path} has a setting that cannot be read: {text}; record again")
    return int(match[1]) * _SCALE[match[2]]


def _whole(log: _Log, rate: float) -> tuple[NDArray[np.float64], list[int]]:
    """Return the values with NaN where time stamps tell that some are missing, and where the events are then.

    Stamps are rounded to milliseconds, so that less than that is not seen until it adds up.
    """
    values, events, inserted = np.array(log.values), np.array(log.events, np.int64), 0
    parts: list[NDArray[np.float64]] = []
    begin, moved = 0, np.zeros(len(events), np.int64)
    for now, end in log.stamps[1:]:
        since, first = log.stamps[0]
        missing = round((now - since) * rate) - (end - first + inserted)
        if missing > rate * _STAMP_SECONDS:
            parts += [values[begin:end], np.full(missing, np.nan)]
            begin = end
            moved[events >= end] += missing
            inserted += missing
    return np.concatenate([*parts, values[begin:]]), [int(event) for event in events + moved]
